/**
 * What goes through page tables and translation caches: user accesses, loads of the root (CR3), and
 * every way to invalidate, on this CPU or by broadcast.
 */
import { drained, load, store, touchDrained, touchLoad, touchStore } from '../access.ts';
import type { Cpu } from '../cpu.ts';
import { UsageError } from '../errors.ts';
import { type Footprint, Hardware, postedId, storeId } from '../footprint.ts';
import type { Pfn, VirtAddr } from '../ids.ts';
import type { Machine } from '../machine.ts';
import { PAGE_SIZE } from '../memory.ts';
import { MOVED, Op, type OpKind, opKind } from '../op.ts';
import { type Access, everything, type Invalidation, wholePcid } from '../tlb.ts';

/** What an access through a translation gives when no page answers it. */
export const PAGE_FAULT: unique symbol = Symbol('page fault');

/** What a load or store through a translation ends with. */
export type Fault = typeof PAGE_FAULT;

interface UserAccess extends Access {
  /** What to store; null loads. Undefined touches the page only. */
  readonly value: number | null | undefined;
}

/** Whether a walk may go on: see axiom walkWaitsForStores. */
function walkable(machine: Machine, cpu: Cpu): boolean {
  if (!machine.axioms.walkWaitsForStores) return true;
  return !cpu.buffer.some(({ cell }) => cell === null);
}

/**
 * A page fault is an exception: what handles it begins once the store buffer is empty. The operand
 * is the access, which the code still waits for.
 */
const FAULT: OpKind = opKind({
  name: 'pageFault',
  ready: (machine, cpu) => !machine.axioms.deliveryDrains || cpu.drained,
  touch: (machine, cpu, _op, into) => {
    if (machine.axioms.deliveryDrains) touchDrained(cpu, into);
  },
  execute: (_machine, _cpu, { operand }) => {
    (operand as Op).done = true;
    return PAGE_FAULT;
  },
});

const ACCESS: OpKind = opKind({
  name: 'access',
  ready: walkable,
  ways: (_machine, cpu, { operand }) => cpu.tlb.ways(operand as UserAccess),
  touch: (machine, cpu, { operand }, into, way) => {
    const access = operand as UserAccess;
    if (machine.axioms.walkWaitsForStores && cpu.buffer.lastWord !== -1)
      into.read(storeId(cpu.id, cpu.buffer.lastWord));
    cpu.tlb.touch(access, way, into, (at) => {
      if (access.value === null) touchLoad(cpu, into, null, at);
      else if (access.value !== undefined) touchStore(machine, cpu, into, null, at, access.value);
    });
  },
  execute: (machine, cpu, op, way) => {
    const access = op.operand as UserAccess;
    const translation = cpu.tlb.translate(access, way);
    if (translation === null) {
      cpu.op = new Op(FAULT, null, -1, op);
      return MOVED;
    }
    // The store buffer is behind the translation: it is kept by physical address, so two virtual
    // addresses of one frame are one location.
    if (access.value === undefined) return translation.at;
    if (access.value === null) return load(machine, cpu, null, translation.at);
    store(machine, cpu, null, translation.at, access.value, true);
    return undefined;
  },
});

const access = <T>(va: VirtAddr, write: boolean, value: number | null | undefined): Op<T> => {
  if (!Number.isInteger(va) || (value !== undefined && va % 8 !== 0))
    throw new UsageError(
      'ERR_ADDRESS',
      `virtual address ${va} is not aligned: a load or store takes a multiple of 8`,
    );
  return new Op<T>(ACCESS, null, -1, { va, write, user: true, value } satisfies UserAccess);
};

/** A load of user mode; gives the word or `PAGE_FAULT`. */
export const userLoad = (va: VirtAddr): Op<number | Fault> => access(va, false, null);

/** A store of user mode; gives undefined, or `PAGE_FAULT` if it did not happen. */
export const userStore = (va: VirtAddr, value: number): Op<void | Fault> => access(va, true, value);

/**
 * Touches a page as user mode does, without a word being read or written: sets accessed and dirty
 * bits and fills the TLB. Gives the physical address, or `PAGE_FAULT`.
 */
export const userTouch = (va: VirtAddr, write: boolean): Op<number | Fault> =>
  access(va, write, undefined);

interface RootLoad {
  readonly root: number;
  readonly pcid: number;
  readonly flush: boolean;
}

const serializes = (machine: Machine, cpu: Cpu): boolean =>
  !machine.axioms.invalidationDrains || cpu.drained;

function touchOwn(machine: Machine, cpu: Cpu, into: Footprint, root: number | null): void {
  if (machine.axioms.invalidationDrains) touchDrained(cpu, into);
  cpu.tlb.touchInvalidate(root, into);
}

const WRITE_CR3: OpKind = opKind({
  name: 'writeCr3',
  ready: serializes,
  touch: (machine, cpu, { operand }, into) => {
    into.write(cpu.cell(Hardware.root));
    touchOwn(machine, cpu, into, (operand as RootLoad).root);
  },
  execute: (_machine, cpu, { operand }) => {
    const { root, pcid, flush } = operand as RootLoad;
    cpu.audit?.write(cpu.cell(Hardware.root));
    cpu.root = root;
    cpu.pcid = pcid;
    if (flush) cpu.tlb.invalidate(wholePcid(pcid));
    else cpu.tlb.rootLoaded();
  },
});

/**
 * MOV to CR3: the root page table in frame `root`, under `pcid`. With `flush`, what is cached under
 * that PCID goes, global translations aside; without (bit 63), it stays.
 */
export const writeCr3 = (root: Pfn, pcid: number, flush: boolean): Op<void> =>
  new Op<void>(WRITE_CR3, null, -1, { root, pcid, flush } satisfies RootLoad);

/** An invalidation by instruction on this CPU; the operand may depend on the CPU's PCID. */
const invalidates = (name: string): OpKind =>
  opKind({
    name,
    ready: serializes,
    touch: (machine, cpu, _op, into) => touchOwn(machine, cpu, into, cpu.root),
    execute: (machine, cpu, { operand }) =>
      cpu.tlb.invalidate((operand as (machine: Machine, cpu: Cpu) => Invalidation)(machine, cpu)),
  });

const INVLPG = invalidates('invlpg');
const INVPCID = invalidates('invpcid');

const onePage = (va: number): Pick<Invalidation, 'from' | 'pages' | 'stride'> => ({
  from: va,
  pages: 1,
  stride: PAGE_SIZE,
});

/** INVLPG: what covers `va` under the current PCID, global or not, and upper entries. */
export const invlpg = (va: VirtAddr): Op<void> =>
  new Op<void>(INVLPG, null, -1, (machine: Machine, cpu: Cpu): Invalidation => ({
    ...onePage(va),
    pcid: cpu.pcid,
    globals: true,
    upper: machine.axioms.invlpgDropsUpper ? 'all' : 'path',
  }));

const invpcid = (what: Invalidation): Op<void> => new Op<void>(INVPCID, null, -1, () => what);

/** INVPCID type 0: one address under one PCID, global translations aside. */
export const invpcidOne = (pcid: number, va: VirtAddr): Op<void> =>
  invpcid({ ...onePage(va), pcid, globals: false, upper: 'path' });

/** INVPCID type 1: one PCID, global translations aside. */
export const invpcidSingle = (pcid: number): Op<void> => invpcid(wholePcid(pcid));

/** INVPCID type 2: everything, global translations included; also a toggle of CR4.PGE. */
export const invpcidAll = (): Op<void> => invpcid(everything(true));

/** INVPCID type 3: every PCID, global translations aside. */
export const invpcidAllNonGlobals = (): Op<void> => invpcid(everything(false));

/** A broadcast invalidation: it has begun everywhere, and has ended nowhere, when the Op has. */
const broadcasts = (name: string): OpKind =>
  opKind({
    name,
    ready: () => true,
    touch: (machine, cpu, _op, into) => {
      for (const target of machine.cpus) {
        into.write(target.cell(Hardware.inbox));
        into.write(postedId(cpu.id, target.id, cpu.broadcastCount));
      }
    },
    execute: (machine, cpu, { operand }) => {
      cpu.broadcast(machine.cpus, operand as Invalidation);
      machine.onBroadcast?.(cpu.id);
    },
  });

/** Waits until this CPU's broadcasts are applied everywhere. */
const awaitsBroadcasts = (name: string, fences: boolean): OpKind =>
  opKind({
    name,
    ready: (_machine, cpu) => cpu.outstanding === 0 && (!fences || cpu.drained),
    touch: (machine, cpu, _op, into) => {
      // Each CPU applies them in order, so the last one is the one to wait for.
      const last = cpu.broadcastCount - 1;
      if (last >= 0)
        for (const target of machine.cpus) into.read(postedId(cpu.id, target.id, last));
      if (fences) touchDrained(cpu, into);
    },
    execute: () => undefined,
  });

const INVLPGB = broadcasts('invlpgb');
const TLBSYNC = awaitsBroadcasts('tlbsync', false);
const TLBI = broadcasts('tlbi');
const DSB = awaitsBroadcasts('dsb', true);

/**
 * INVLPGB: invalidates on every CPU, without interrupting any. It orders no store and waits for
 * nothing: `tlbsync` does. AMD APM vol. 3, INVLPGB.
 */
export const invlpgb = (what: Invalidation): Op<void> => new Op<void>(INVLPGB, null, -1, what);

/** TLBSYNC: waits for the INVLPGBs of this CPU, and of no other. */
export const tlbsync = (): Op<void> => new Op<void>(TLBSYNC, null, -1, null);

/** TLBI ...IS of arm64: as `invlpgb`; a `dsb` before it orders the store it is for. */
export const tlbi = (what: Invalidation): Op<void> => new Op<void>(TLBI, null, -1, what);

/** DSB ISH of arm64: a full fence that also waits for the TLBIs of this CPU. */
export const dsb = (): Op<void> => new Op<void>(DSB, null, -1, null);

const FRAME_USERS: OpKind = opKind({
  name: 'frameUsers',
  ready: drained,
  touch: (machine, cpu, _op, into) => {
    touchDrained(cpu, into);
    for (const other of machine.cpus) {
      into.read(other.cell(Hardware.tlb));
      into.read(other.cell(Hardware.root));
    }
  },
  execute: (machine, _cpu, { operand }) =>
    machine.cpus
      .filter(
        ({ tlb }) => tlb.walksThrough(operand as number) || tlb.translatesTo(operand as number),
      )
      .map(({ id }) => id),
});

/**
 * The CPUs whose hardware may still walk through page frame `frame`, or translate to it: the
 * question to ask where a kernel frees the frame. No hardware answers it, a checker does.
 */
export const frameUsers = (frame: Pfn): Op<readonly number[]> =>
  new Op<readonly number[]>(FRAME_USERS, null, -1, frame);
