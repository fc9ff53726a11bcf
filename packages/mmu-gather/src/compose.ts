/**
 * composeKernel: the one place where machine, backend, release, editions and configuration meet.
 */
import { type Machine, pfn, UsageError } from '@shootdown/machine';
import type { CoreFunctions, Edition, Kernel } from './kernel.ts';
import { type Kconfig, resolveKconfig } from './kconfig.ts';
import { cpuOnlineMask, installCallVectors, newCallQueues } from './kernel/smp.ts';
import { newGracePeriods } from './kernel/rcu.ts';
import { newPage, newPageAllocator, ZERO_PFN } from './kernel/pageAlloc.ts';
import type { PerCpu } from './kernel/percpu.ts';
import { installSchedVectors, type TaskStruct } from './kernel/sched.ts';
import { KernelStats } from './kernel/stats.ts';
import { type MmStruct, newMm } from './mmStruct.ts';
import { ptWalkLocklessEnd, ptWalkLocklessStart } from './locklessWalk.ts';
import { tlbFinishMmu, tlbFlush } from './mmuGather.ts';
import { DEFAULT_RELEASE, type Release, RELEASES, rulesOf } from './rules.ts';
import { tlbRemoveTable, tlbRemoveTableOne } from './tableFree.ts';
import {
  tlbFlushUnsharedTables,
  tlbRemoveTableSyncMm,
  tlbRemoveTableSyncOne,
  tlbRemoveTableSyncRcu,
} from './tableSync.ts';
import type { TlbBackend, TlbClaims } from './tlb.ts';

/** This package's replaceable functions, as mainline has them. */
export const coreFunctions: CoreFunctions = {
  tlbFlush,
  tlbRemoveTable,
  tlbRemoveTableOne,
  ptWalkLocklessStart,
  ptWalkLocklessEnd,
  tlbRemoveTableSyncOne,
  tlbRemoveTableSyncMm,
  tlbRemoveTableSyncRcu,
  tlbFlushUnsharedTables,
  tlbFinishMmu,
};

/** What to compose. */
export interface KernelParts<Fn extends CoreFunctions> {
  readonly machine: Machine;
  readonly backend: TlbBackend;
  /** Every replaceable function: this package's, and those of the packages on top of it. */
  readonly functions: Fn;
  /** Default 7.0. */
  readonly kernel?: Release | undefined;
  /** Parts of editions; parts of one edition have one name. Default: none, `baseline`. */
  readonly editions?: readonly Edition<Partial<Fn>>[] | undefined;
  /** Changes to what the backend's architecture selects. */
  readonly kconfig?: Partial<Kconfig> | undefined;
  /** Page frames for the allocator. Default 2^18, 1 GiB. */
  readonly frames?: number | undefined;
  /** NUMA nodes that share them. Default 1. */
  readonly nodes?: number | undefined;
}

const DEFAULT_FRAMES = 2 ** 18;

/**
 * Composes a kernel on `machine`, on which nothing runs yet.
 *
 * @throws UsageError ERR_KERNEL for a release that is not modelled, ERR_EDITION for editions that do
 * not fit, ERR_KCONFIG, ERR_MEMORY.
 */
export function composeKernel<Fn extends CoreFunctions>(parts: KernelParts<Fn>): Kernel<Fn> {
  const { machine, backend, kernel: release = DEFAULT_RELEASE, editions = [] } = parts;
  if (!RELEASES.includes(release))
    throw new UsageError(
      'ERR_KERNEL',
      `no rules for kernel '${release}'; expected one of ${RELEASES.join(', ')}`,
    );
  if (parts.backend.apiVersion !== 1)
    throw new UsageError(
      'ERR_BACKEND',
      `${backend.id} is for apiVersion ${String(backend.apiVersion)} of the contract, this core has 1: install the version that fits`,
    );
  const names = Array.from(new Set(editions.map(({ name }) => name)));
  const rules = rulesOf(release);
  const wanted = { PT_RECLAIM: rules.ptReclaim && backend.kconfig.PT_RECLAIM === true };
  const pages = newPageAllocator(machine, parts.frames ?? DEFAULT_FRAMES, parts.nodes ?? 1);
  const root = pfn(0);
  const k: Mutable<Kernel<Fn>> = {
    machine,
    backend,
    claims: claimsUnder(backend, names),
    release,
    rules,
    kconfig: resolveKconfig(backend, { ...wanted, ...parts.kconfig }),
    editions: names.length === 0 ? ['baseline'] : names,
    fn: withEditions(parts.functions, editions),
    percpu: [],
    // Filled in below: they need the kernel themselves.
    initMm: UNSET,
    pages,
    ptLocks: new Map(),
    calls: newCallQueues(machine, () => k),
    rcu: newGracePeriods(machine),
    stats: new KernelStats(machine.count),
    arch: null,
    warnings: new Set(),
    probe: null,
    ids: { pid: FIRST_PID, mm: 1 },
  };
  newPage(k, root);
  newPage(k, ZERO_PFN);
  k.initMm = newMm(k, 'init_mm', root);
  k.percpu = machine.cpus.map((cpu) => newPerCpu(k, cpu.id));
  // init_idle(): every CPU's idle task has borrowed it.
  k.initMm.count.value += machine.count;
  k.arch = backend.boot(k, editions);
  cpuOnlineMask(k);
  installCallVectors(k);
  installSchedVectors(k);
  for (const edition of editions) {
    const why = edition.refuses?.(k) ?? null;
    if (why !== null)
      throw new UsageError('ERR_EDITION', `${edition.name} with ${backend.id}: ${why}`);
  }
  return k;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Pids below are the kernel's own threads in any recording. */
const FIRST_PID = 100;

const UNSET = null as unknown as Kernel['initMm'];

const claimsUnder = (backend: TlbBackend, names: readonly string[]): TlbClaims =>
  names.reduce<TlbClaims>(
    (claims, name) => ({ ...claims, ...backend.claimsIn?.[name] }),
    backend.claims,
  );

/** The functions with the replacements; two editions that replace the same one do not mix. */
function withEditions<Fn extends CoreFunctions>(
  functions: Fn,
  editions: readonly Edition<Partial<Fn>>[],
): Fn {
  const replacedBy = new Map<string, string>();
  let all = functions;
  for (const { name, replaces } of editions) {
    for (const key of Object.keys(replaces)) {
      const other = replacedBy.get(key);
      if (other !== undefined)
        throw new UsageError(
          'ERR_EDITION',
          `${name} and ${other} both replace ${key}: choose one of them`,
        );
      replacedBy.set(key, name);
    }
    all = { ...all, ...replaces };
  }
  return all;
}

function newPerCpu(k: Kernel, id: PerCpu['id']): PerCpu {
  const hardware = k.machine.cpu(id);
  const idle: TaskStruct = {
    pid: 0,
    tgid: 0,
    comm: '<idle>',
    mm: null,
    activeMm: k.initMm,
    cpu: id,
    thread: null,
    inKernel: false,
    syscall: null,
    tlbUbc: null,
  };
  const rq = { curr: idle, currSleeps: false, queue: [] };
  return {
    id,
    hardware,
    idle,
    rq: k.machine.cell(`runqueues[${id}]`, rq),
    current: idle,
    needResched: false,
    prevMm: null,
    migrating: null,
    sleepers: [],
    activeLocklessPtWalkMm: k.machine.cell<MmStruct | null>(
      `active_lockless_pt_walk_mm[${id}]`,
      null,
    ),
  };
}
