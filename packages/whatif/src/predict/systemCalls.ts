/**
 * Which kernel code a recorded system call runs, and when: where it is entered, since the flush is
 * nearer to the entry than to the exit, which waits for every CPU that was interrupted; or where it
 * is left, if only its result says what it did.
 *
 * Not modelled: what these calls do to files beyond that they map them.
 */
import { assert, call, PAGE_SIZE, readWord } from '@shootdown/machine';
import {
  type AddressSpace,
  entryOf,
  findEntry,
  isTable,
  type Kthread,
  Level,
  type MmStruct,
  newRwSem,
  pageToNid,
  type VmFlags,
} from '@shootdown/mmu-gather';
import {
  ANON_RW,
  doMadvise,
  doMbindMove,
  doMmap,
  doMprotect,
  doMremap,
  doMunmap,
  linkVma,
  Madvise,
  type MadviseBehavior,
  type MmKernel,
  MPOL_MF_MOVE,
  pageAlign,
  vmasIn,
} from '@shootdown/linux-mm';
import { Pte, pteHas, ptePfn } from '@shootdown/machine';
import type { Space } from './processes.ts';

/** What a call does, by its arguments. */
export interface Effect {
  /** Done when it is entered. */
  readonly enter?: Work | undefined;
  /** How `enter` takes mmap_lock first. Default `write`. */
  readonly lock?: 'read' | 'write' | undefined;
  /** It has it for reading when it flushes: gathers of other calls may overlap with its own. */
  readonly overlaps?: boolean | undefined;
  /** Done when it has returned `ret`, which is no error. */
  readonly exit?: ((ret: number) => Work) | undefined;
  /** What of it is not modelled; null: nothing that flushes. */
  readonly obstacle?: string | undefined;
}

type Work = () => Kthread<unknown>;

/** A call's arguments by name; 0 where the recording lacks one. */
export type Arguments = (name: string) => number;

type Describe = (k: MmKernel, space: Space, args: Arguments) => Effect;

const Prot = { READ: 1, WRITE: 2, EXEC: 4 } as const;
const Map_ = { SHARED: 1, FIXED: 0x10, ANONYMOUS: 0x20, HUGETLB: 0x40000 } as const;
const MREMAP_FIXED = 2;

/** A number of 32 bits, as flags are recorded. */
const bits = (value: number, mask: number): boolean => Math.floor(value / mask) % 2 === 1;

const readable = (prot: number): boolean => bits(prot, Prot.READ) || bits(prot, Prot.EXEC);

/** The object that a shared mapping is of; nobody else has it here. */
const sharedObject = (k: MmKernel): AddressSpace => ({
  name: 'shared',
  iMmapRwsem: newRwSem(k.machine, 'shared.i_mmap_rwsem'),
  mappings: new Set(),
  pages: new Map(),
});

/** What is mapped of [start, end) but by no VMA that is known, gets one: the call proves it. */
export function* fillHoles(mm: MmStruct, start: number, end: number, flags: VmFlags): Kthread {
  let at = start;
  for (const vma of vmasIn(mm, start, end)) {
    if (vma.start > at) yield* call(linkVma(mm, { start: at, end: vma.start, flags }));
    at = Math.max(at, vma.end);
  }
  if (at < end) yield* call(linkVma(mm, { start: at, end, flags }));
}

const mmap: Describe = (k, { mm }, args) => {
  const length = args('len');
  const flags = args('flags');
  const prot = args('prot');
  if (bits(flags, Map_.HUGETLB)) return { obstacle: 'hugetlb mapping not modelled' };
  const shared = bits(flags, Map_.SHARED);
  const request = {
    length,
    flags: { ...ANON_RW, read: readable(prot), write: bits(prot, Prot.WRITE), shared },
  };
  return {
    // What was mapped there goes.
    enter: bits(flags, Map_.FIXED) ? () => doMunmap(k, mm, args('addr'), length) : undefined,
    exit: (addr) =>
      function* () {
        if (vmasIn(mm, addr, addr + pageAlign(length)).length > 0)
          yield* call(doMunmap(k, mm, addr, length));
        yield* call(doMmap(k, mm, { ...request, addr, file: shared ? sharedObject(k) : null }));
      },
  };
};

const munmap: Describe = (k, { mm }, args) => ({
  overlaps: true,
  enter: () => doMunmap(k, mm, args('addr'), args('len')),
});

const mprotect: Describe = (k, { mm }, args) => {
  const start = args('start');
  const length = args('len');
  const prot = args('prot');
  return {
    *enter() {
      yield* call(fillHoles(mm, start, start + pageAlign(length), ANON_RW));
      const to = { read: readable(prot), write: bits(prot, Prot.WRITE) };
      yield* call(doMprotect(k, mm, start, length, to));
    },
  };
};

const isModelled = (behavior: number): behavior is MadviseBehavior =>
  Object.values<number>(Madvise).includes(behavior);

/** madvise_need_mmap_write(), the other way round. */
const READERS: ReadonlySet<number> = new Set([Madvise.DONTNEED, Madvise.PAGEOUT]);

/** Behaviours that flush in ways that are not modelled, by their names. */
const OTHER_ADVICE: ReadonlyMap<number, string> = new Map([
  [8, 'MADV_FREE'],
  [9, 'MADV_REMOVE'],
  [20, 'MADV_COLD'],
  [24, 'MADV_DONTNEED_LOCKED'],
]);

const madvise: Describe = (k, { mm }, args) => {
  const behavior = args('behavior');
  if (isModelled(behavior)) {
    const work: Work = () => doMadvise(k, mm, args('start'), args('len_in'), behavior);
    // Whether somebody holds a page otherwise, which forbids it, only the result tells.
    if (behavior === Madvise.COLLAPSE) return { exit: () => work };
    return {
      ...(READERS.has(behavior) ? { lock: 'read' } : {}),
      overlaps: behavior === Madvise.DONTNEED,
      enter: work,
    };
  }
  const name = OTHER_ADVICE.get(behavior);
  return name === undefined ? {} : { obstacle: `madvise(${name}) not modelled` };
};

const mremap: Describe = (k, { mm }, args) => {
  const addr = args('addr');
  const from = pageAlign(args('old_len'));
  const to = pageAlign(args('new_len'));
  return {
    *enter() {
      if (bits(args('flags'), MREMAP_FIXED)) yield* call(doMunmap(k, mm, args('new_addr'), to));
      if (to < from) yield* call(doMunmap(k, mm, addr + to, from - to));
      if (bits(args('flags'), MREMAP_FIXED))
        yield* call(doMremap(k, mm, addr, Math.min(from, to), args('new_addr')));
    },
    exit: (now) =>
      function* () {
        const [vma] = vmasIn(mm, addr, addr + PAGE_SIZE);
        if (now !== addr && vma !== undefined && !bits(args('flags'), MREMAP_FIXED))
          yield* call(doMremap(k, mm, addr, Math.min(from, to), now));
        const [moved] = vmasIn(mm, now, now + PAGE_SIZE);
        yield* call(fillHoles(mm, now, now + to, moved?.flags ?? ANON_RW));
      },
  };
};

const brk: Describe = (k, space, args) => {
  const { mm } = space;
  const asked = args('brk');
  const before = space.brk;
  return {
    enter:
      before !== null && asked > 0 && pageAlign(asked) < pageAlign(before)
        ? () => doMunmap(k, mm, pageAlign(asked), pageAlign(before) - pageAlign(asked))
        : undefined,
    exit: (now) =>
      function* () {
        space.brk = now;
        if (before !== null && now > before)
          yield* call(fillHoles(mm, pageAlign(before), pageAlign(now), ANON_RW));
      },
  };
};

/** The node of the first page of a range that has one; null: none has. */
function* nodeOf(k: MmKernel, mm: MmStruct, start: number, end: number): Kthread<number | null> {
  for (let addr = start; addr < end; addr += PAGE_SIZE) {
    const pmd = yield* call(findEntry(k, mm, addr, Level.pmd));
    const table = pmd === null ? 0 : yield* readWord(pmd);
    if (pmd === null || !isTable(table, Level.pmd)) continue;
    const pte = yield* readWord(entryOf(ptePfn(table), addr, Level.pte));
    if (pteHas(pte, Pte.present)) return pageToNid(k, ptePfn(pte));
  }
  return null;
}

/** The nodes asked for are in memory, which is not recorded: taken to be where the pages are not. */
const mbind: Describe = (k, { mm }, args) => {
  if (!bits(args('flags'), MPOL_MF_MOVE)) return {};
  const start = args('start');
  const length = args('len');
  return {
    *enter() {
      const node = yield* call(nodeOf(k, mm, start, start + pageAlign(length)));
      assert(node === null || node < 2, 'the stage has two nodes');
      // lru_cache_disable()
      yield* call(k.fn.lruAddDrainAll(k));
      if (node !== null) yield* call(doMbindMove(k, mm, start, length, 1 - node));
    },
  };
};

const notModelled =
  (name: string): Describe =>
  () => ({ obstacle: `${name} not modelled` });

/** The calls that change an address space, by name; what is not here does not. */
const CALLS: Readonly<Record<string, Describe>> = {
  mmap,
  munmap,
  mprotect,
  pkey_mprotect: mprotect,
  madvise,
  mremap,
  brk,
  mbind,
  ...Object.fromEntries(
    [
      'shmat',
      'shmdt',
      'process_madvise',
      'migrate_pages',
      'move_pages',
      'remap_file_pages',
      'userfaultfd',
      'mlockall',
      'mlock',
      'mlock2',
    ].map((name) => [name, notModelled(name)]),
  ),
};

/** What `name` does to the address space of whoever calls it; null: nothing. */
export function effectOf(k: MmKernel, space: Space, name: string, args: Arguments): Effect | null {
  return Object.hasOwn(CALLS, name) ? (CALLS[name]?.(k, space, args) ?? null) : null;
}
