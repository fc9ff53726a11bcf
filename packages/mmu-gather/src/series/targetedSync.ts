/**
 * Interrupts only the CPUs that are walking: each says in a per-CPU variable which mm it walks, and
 * who waits for walkers of an mm looks there.
 *
 * Each side stores and then loads what the other has stored: the walker publishes itself and reads
 * the tables; the other has unhooked a table and looks for walkers. That is the store-buffering
 * shape. If not both sides have a full barrier between store and load, both may read the old value:
 * the walker is in the table, and nobody waits for it.
 */
import {
  call,
  CpuMask,
  mayFail,
  type Op,
  readOnce,
  smpMb,
  smpRmb,
  smpStoreRelease,
  writeOnce,
} from '@shootdown/machine';
import type { CoreFunctions, Edition, Kernel, Kthread } from '../kernel.ts';
import { warnOnce } from '../kernel.ts';
import { perCpu, thisCpu } from '../kernel/percpu.ts';
import { cpuOnlineMask, smpCallFunctionManyCond } from '../kernel/smp.ts';
import { type MmuGather, tlbFlushMmuTlbonly } from '../mmuGather.ts';
import type { MmStruct } from '../mmStruct.ts';
import { tlbRemoveTableSmpSync } from '../tableSync.ts';
import { tlbTableFlushImpliesIpiBroadcast } from '../tlb.ts';
import { needsUnshareInGather } from './fits.ts';

/** lockdep_assert_irqs_disabled */
const lockdepAssertIrqsDisabled = (k: Kernel, where: string): void =>
  warnOnce(k, thisCpu(k).hardware.irqsOn, `interrupts are on in ${where}`);

/** As posted: whoever walked before, in code that an NMI has cut in two, is forgotten. */
function* ptWalkLocklessStart(k: Kernel, mm: MmStruct): Kthread<MmStruct | null> {
  lockdepAssertIrqsDisabled(k, 'pt_walk_lockless_start');
  yield* writeOnce(thisCpu(k).activeLocklessPtWalkMm, mm);
  yield* smpMb(); // Pairs with the barrier of tlbRemoveTableSyncMm().
  return null;
}

/** An NMI in the middle of a walk gives the CPU back as it was. */
function* ptWalkLocklessStartNested(k: Kernel, mm: MmStruct): Kthread<MmStruct | null> {
  const before = yield* readOnce(thisCpu(k).activeLocklessPtWalkMm);
  yield* call(ptWalkLocklessStart(k, mm));
  return before;
}

function* ptWalkLocklessEnd(k: Kernel, before: MmStruct | null): Kthread {
  lockdepAssertIrqsDisabled(k, 'pt_walk_lockless_end');
  // Pairs with the reading in tlbRemoveTableSyncMm(): who finds the walk over finds its reads done.
  yield* smpStoreRelease(thisCpu(k).activeLocklessPtWalkMm, before);
}

type SyncMm = CoreFunctions['tlbRemoveTableSyncMm'];

/** What postings differ in. */
interface SyncRules {
  /** Between the unhooking, which the caller has done, and looking for walkers. */
  readonly barrier: () => Iterable<Op, void>;
  /** Whether the flush before may have done the waiting. */
  readonly property: boolean;
}

/**
 * Waits for the CPUs that are walking `mm`: tlb_remove_table_sync_mm() of the series.
 */
const tlbRemoveTableSyncMm = ({ barrier, property }: SyncRules): SyncMm =>
  function* (k, mm): Kthread {
    if (!k.kconfig.MMU_GATHER_RCU_TABLE_FREE) return;
    // The flush before has interrupted every CPU that could be walking.
    if (property && tlbTableFlushImpliesIpiBroadcast(k)) return;
    warnOnce(k, mm === null, 'NULL mm in tlb_remove_table_sync_mm');
    // GFP_ATOMIC: without memory for a mask everybody is interrupted.
    if (mm === null || !(yield* mayFail('alloc_cpumask_var'))) {
      yield* call(k.fn.tlbRemoveTableSyncOne(k));
      return;
    }
    yield* barrier(); // Pairs with smpMb() in ptWalkLocklessStart().
    const walking = [];
    for (const cpu of cpuOnlineMask(k))
      if ((yield* readOnce(perCpu(k, cpu).activeLocklessPtWalkMm)) === mm) walking.push(cpu);
    if (walking.length === 0) return;
    k.probe?.({ kind: 'sync', by: 'walkers' });
    const targets = new CpuMask(k.machine.count, walking);
    const how = { wait: true, runLocal: false, condition: null };
    yield* call(smpCallFunctionManyCond(k, targets, tlbRemoveTableSmpSync, null, how));
  };

/**
 * Who left the table earlier did not wait, because the last to leave waits for walkers of whichever
 * mm. So it has to: those of its own mm are not enough with three sharers.
 */
function* flushUnsharedTablesForAll(k: Kernel, tlb: MmuGather): Kthread {
  if (tlb.unsharedTables) yield* call(tlbFlushMmuTlbonly(k, tlb));
  if (!tlb.fullyUnsharedTables) return;
  if (!tlbTableFlushImpliesIpiBroadcast(k)) yield* call(k.fn.tlbRemoveTableSyncOne(k));
  tlb.fullyUnsharedTables = false;
}

const SERIES =
  'Lance Yang, [PATCH v4 0/3] targeted TLB sync IPIs for lockless page table walkers, 2 Feb 2026, ' +
  '20260202074557.16544-1-lance.yang@linux.dev';

/** Patches 1 and 2: walkers are tracked, and only they are interrupted, by every backend alike. */
export const targetedSync: Edition<CoreFunctions> = {
  name: 'targeted-sync',
  source: `${SERIES}: patches 1 and 2`,
  notModelled: 'pmdp_get_lockless_sync() of PAE, which goes on interrupting everybody',
  replaces: {
    ptWalkLocklessStart,
    ptWalkLocklessEnd,
    tlbRemoveTableSyncMm: tlbRemoveTableSyncMm({ barrier: smpRmb, property: false }),
  },
  refuses: needsUnshareInGather,
};

/** All three patches as posted: the property, which KVM claims as well. */
export const targetedSyncV4: Edition<CoreFunctions> = {
  ...targetedSync,
  name: 'targeted-sync-v4',
  source: SERIES,
  replaces: {
    ...targetedSync.replaces,
    tlbRemoveTableSyncMm: tlbRemoveTableSyncMm({ barrier: smpRmb, property: true }),
  },
};

/**
 * The same without what was found wrong in it: a full barrier (Peter Zijlstra), an NMI that nests, a
 * last sharer that waits for walkers of every mm, and no claim by KVM (Sean Christopherson).
 */
export const targetedSyncV4Fixed: Edition<CoreFunctions> = {
  ...targetedSync,
  name: 'targeted-sync-v4-fixed',
  source: `${SERIES}; with what its review asks for`,
  replaces: {
    ptWalkLocklessStart: ptWalkLocklessStartNested,
    ptWalkLocklessEnd,
    tlbRemoveTableSyncMm: tlbRemoveTableSyncMm({ barrier: smpMb, property: true }),
    tlbFlushUnsharedTables: flushUnsharedTablesForAll,
  },
};
