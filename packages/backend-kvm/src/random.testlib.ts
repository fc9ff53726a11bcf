/** Random programs under random schedules, on a host that preempts, and what goes wrong. */
import fc from 'fast-check';
import {
  assert,
  call,
  type Cpu,
  type Machine,
  nanoseconds,
  PAGE_FAULT,
  PAGE_SIZE,
  Pte,
  pteHas,
  ptePfn,
  type Transition,
  transitionCpu,
  transitionKind,
  TransitionKind,
  UsageError,
  userTouch,
  virtAddr,
  walk,
} from '@shootdown/machine';
import { LOADED_MM_SWITCHING, tlbstate } from '@shootdown/arch-x86';
import {
  type Kthread,
  type MmStruct,
  type ProbeEvent,
  startCpus,
  type TlbBackend,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { Madvise, type MmKernel, newProcess, type User } from '@shootdown/linux-mm';
import { random, schedule, type Scheduler } from '@shootdown/sim';
import { BASE, emptyMm, guest, preemptedWord } from './kernel.testlib.ts';
import { KVM_VCPU_FLUSH_TLB, KVM_VCPU_PREEMPTED } from './stealTime.ts';

const PAGES = 3;
const CPUS = 3;

/** One thing that a thread does, to one page or to all. */
interface Action {
  readonly kind: 'use' | 'dontneed' | 'remap' | 'sleep' | 'yield';
  readonly page: number;
}

/** What the threads do: three of one process, one per vCPU, and a process beside the last. */
export interface Programs {
  readonly threads: readonly (readonly Action[])[];
  readonly beside: readonly Action[];
}

const actions: fc.Arbitrary<readonly Action[]> = fc.array(
  fc.record({
    kind: fc.constantFrom<Action['kind'][]>(
      'use',
      'use',
      'use',
      'dontneed',
      'dontneed',
      'remap',
      'sleep',
      'yield',
    ),
    page: fc.nat(PAGES - 1),
  }),
  { minLength: 2, maxLength: 8 },
);

export const programs: fc.Arbitrary<Programs> = fc.record({
  threads: fc.tuple(actions, actions, actions),
  beside: actions,
});

/** What was seen. */
export interface Seen {
  readonly breaches: Set<string>;
  /** Accesses that ended in a page. */
  uses: number;
  pagesFreed: number;
  /** Frees of pages while some vCPU had been asked to flush and was still away. */
  whileAway: number;
}

/** An access ended in a page that was not its own any more. */
export const USED = 'guest code used a page that was freed';

/** A vCPU that could go on at once has a page cached that was freed. */
export const TRANSLATES = 'guest code could still use a page that is freed';

/** Whether user code on `cpu` could go on at once: neither the host nor an interrupt is in between. */
function runsUser(k: MmKernel, cpu: Cpu): boolean {
  const { loadedMm, isLazy } = tlbstate(k, cpu.id);
  const mm = loadedMm.value;
  if (mm === LOADED_MM_SWITCHING || mm === k.initMm || isLazy.value) return false;
  return cpu.irqsOn && cpu.task.contexts.length === 0;
}

/** Looks at `k` from now on. Gives how user code accesses a page. */
function watch(k: MmKernel, seen: Seen): (user: User, addr: number) => Kthread {
  const { cpus } = k.machine;
  /** Pages that are unmapped and not freed yet: a flush of them is still to come. */
  const unmapped = new Set<string>();
  const key = (mm: MmStruct, addr: number, frame: number): string => `${mm.name} ${addr} ${frame}`;
  k.probe = (event: ProbeEvent) => {
    if (event.kind === 'unmap-page') unmapped.add(key(event.mm, event.addr, event.pfn));
    if (event.kind !== 'free-page') return;
    const frame = event.page.pfn;
    seen.pagesFreed++;
    for (const entry of unmapped) if (entry.endsWith(` ${frame}`)) unmapped.delete(entry);
    const away = KVM_VCPU_PREEMPTED + KVM_VCPU_FLUSH_TLB;
    if (cpus.some(({ id }) => preemptedWord(k, id) === away)) seen.whileAway++;
    if (cpus.some((cpu) => runsUser(k, cpu) && cpu.tlb.translatesTo(frame)))
      seen.breaches.add(TRANSLATES);
  };

  /** Whether `addr` may end in `frame`: mapped there, or not yet flushed. */
  function mayUse(mm: MmStruct, addr: number, frame: number): boolean {
    if (frame === ZERO_PFN || unmapped.has(key(mm, addr, frame))) return true;
    const last = walk(k.machine.physical, mm.pgd, k.machine.levels, addr).at(-1);
    if (last?.level === 1 && pteHas(last.pte, Pte.present) && ptePfn(last.pte) === frame)
      return true;
    const page = k.pages.pages.get(frame);
    return page?.mappings.value.some((at) => at.mm === mm && at.addr === addr) ?? false;
  }

  return function* access(user, addr) {
    for (;;) {
      const at = yield* userTouch(virtAddr(addr), true);
      if (at !== PAGE_FAULT) {
        seen.uses++;
        if (!mayUse(user.mm, addr, Math.floor(at / PAGE_SIZE))) seen.breaches.add(USED);
        return;
      }
      if (!(yield* call(fault(user, addr)))) return;
    }
  };
}

/** The kernel's answer; false: SIGSEGV, which the program catches. */
function* fault(user: User, addr: number): Kthread<boolean> {
  try {
    yield* user.access(addr, true);
    return true;
  } catch (error) {
    if (error instanceof UsageError && error.code === 'ERR_WORKLOAD') return false;
    throw error;
  }
}

/** Sets `what` up on a kernel. */
function setUp(k: MmKernel, what: Programs, seen: Seen): void {
  const access = watch(k, seen);
  function* act(user: User, { kind, page }: Action): Kthread {
    const addr = BASE + page * PAGE_SIZE;
    if (kind === 'use') yield* call(access(user, addr));
    else if (kind === 'dontneed') yield* call(user.madvise(addr, PAGE_SIZE, Madvise.DONTNEED));
    else if (kind === 'sleep') yield* call(user.nanosleep(5_000));
    else if (kind === 'yield') yield* call(user.schedYield());
    else {
      // All of it, so that its page tables go.
      yield* call(user.munmap(BASE, PAGES * PAGE_SIZE));
      yield* call(user.mmap({ addr: BASE, length: PAGES * PAGE_SIZE }));
    }
  }
  const run = (todo: readonly Action[]) =>
    function* (user: User): Kthread {
      for (const action of todo) yield* call(act(user, action));
    };
  const [first = [], ...others] = what.threads;
  function* maps(user: User): Kthread {
    yield* call(user.mmap({ addr: BASE, length: PAGES * PAGE_SIZE }));
    for (let page = 0; page < PAGES; page++) yield* call(access(user, BASE + page * PAGE_SIZE));
  }
  newProcess(k, { comm: 'main', cpu: 0, mm: emptyMm(k) }, function* (user) {
    yield* call(maps(user));
    for (const [index, todo] of others.entries()) yield* call(user.thread(index + 1, run(todo)));
    yield* call(run(first)(user));
  });
  newProcess(k, { comm: 'beside', cpu: CPUS - 1, mm: emptyMm(k) }, function* (user) {
    yield* call(maps(user));
    yield* call(run(what.beside)(user));
  });
  startCpus(k);
}

/** Of 100 transitions that the host may make, how many it makes at once. */
const HOST_PERCENT = 4;

/**
 * Random, but the host takes its time: it preempts now and then, all through a run, and does not give
 * a vCPU back at once. Time passes, so that sleepers wake up.
 */
function slowHost(seed: number): Scheduler {
  const next = random(seed);
  const isHosts = (machine: Machine, one: Transition): boolean =>
    transitionKind(one) === TransitionKind.move ||
    machine.cpu(transitionCpu(one)).op?.kind.name === 'vcpuPark';
  return {
    name: `slow host(seed=${seed})`,
    pick: (enabled, machine) => {
      machine.time = nanoseconds(machine.time + 500);
      const all = [...enabled.keys()];
      const now = all.filter((index) => {
        const one = enabled[index];
        return one !== undefined && (!isHosts(machine, one) || next(100) < HOST_PERCENT);
      });
      const among = now.length === 0 ? all : now;
      return among[next(among.length)] ?? 0;
    },
  };
}

/** Runs `what` on a machine that may cache whatever hardware might. */
export function runAtRandom(what: Programs, seed: number, backend: TlbBackend): Seen {
  // Not checked: a switch asserts that interrupts are off, which is an access that no Op declares.
  const machine = { tlb: 'mayCached', checked: false } as const;
  const { k } = guest({ cpus: CPUS, backend, machine });
  const seen: Seen = { breaches: new Set(), uses: 0, pagesFreed: 0, whileAway: 0 };
  setUp(k, what, seen);
  const { ended } = schedule(k.machine, slowHost(seed));
  assert(ended, 'programs end');
  for (const warning of k.warnings) seen.breaches.add(warning);
  return seen;
}
