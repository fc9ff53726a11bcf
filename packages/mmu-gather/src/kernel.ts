/**
 * One composed kernel: the machine it runs on, the backend, the release whose rules hold, and what
 * the rest of the code stands on. Made by composeKernel (compose.ts), handed to every function as
 * `k`, as C code has its globals.
 */
import type { CallQueues, Coroutine, Machine } from '@shootdown/machine';
import type { Kconfig } from './kconfig.ts';
import type { GracePeriods } from './kernel/rcu.ts';
import type { PageAllocator } from './kernel/pageAlloc.ts';
import type { PerCpu } from './kernel/percpu.ts';
import type { KernelStats } from './kernel/stats.ts';
import type { SpinLock } from './kernel/locking.ts';
import type { Page } from './kernel/pageAlloc.ts';
import type { MmGatherProbe } from './probe.ts';
import type { MmuGather } from './mmuGather.ts';
import type { MmStruct } from './mmStruct.ts';
import type { Release, Rules } from './rules.ts';
import type { TlbBackend, TlbClaims } from './tlb.ts';

/** Kernel code. */
export type Kthread<T = void> = Coroutine<T>;

/** The functions of this package that an edition may replace: called through `k.fn`. */
export interface CoreFunctions {
  tlbFlush(k: Kernel, tlb: MmuGather): Kthread;
  tlbRemoveTable(k: Kernel, tlb: MmuGather, table: Page): Kthread;
  tlbRemoveTableOne(k: Kernel, tlb: MmuGather, table: Page): Kthread;
  ptWalkLocklessStart(k: Kernel, mm: MmStruct): Kthread<MmStruct | null>;
  ptWalkLocklessEnd(k: Kernel, before: MmStruct | null): Kthread;
  tlbRemoveTableSyncOne(k: Kernel): Kthread;
  tlbRemoveTableSyncMm(k: Kernel, mm: MmStruct | null): Kthread;
  tlbRemoveTableSyncRcu(k: Kernel): Kthread;
  tlbFlushUnsharedTables(k: Kernel, tlb: MmuGather): Kthread;
  tlbFinishMmu(k: Kernel, tlb: MmuGather): Kthread;
}

/**
 * A posted series or a fix, on top of a release: replacements by name, one part per package it
 * touches. Parts of one edition have the same name; composeKernel joins them.
 */
export interface Edition<Fn extends object = object> {
  /** `targeted-sync-v4`, ... */
  readonly name: string;
  /** The posting: subject, author, date, Message-ID. */
  readonly source: string;
  /** What of it is left out; empty if nothing is. */
  readonly notModelled: string;
  /** Functions to use instead. */
  readonly replaces: Readonly<Partial<Fn>>;
  /** Why it makes no sense with that backend, release or configuration; null if it does. */
  refuses?(k: Kernel): string | null;
}

/** A kernel whose replaceable functions are `Fn`. */
export interface Kernel<Fn extends CoreFunctions = CoreFunctions> {
  readonly machine: Machine;
  readonly backend: TlbBackend;
  /** What the backend claims under the editions that were chosen. */
  readonly claims: TlbClaims;
  readonly release: Release;
  readonly rules: Rules;
  readonly kconfig: Kconfig;
  /** Names of the editions, `baseline` if there is none. */
  readonly editions: readonly string[];
  readonly fn: Readonly<Fn>;
  readonly percpu: readonly PerCpu[];
  readonly initMm: MmStruct;
  readonly pages: PageAllocator;
  /** Locks of the page tables of the lowest two levels, by page frame: ptlock_ptr. */
  readonly ptLocks: Map<number, SpinLock>;
  readonly calls: CallQueues;
  readonly rcu: GracePeriods;
  readonly stats: KernelStats;
  /** What the backend keeps: made by its `boot`. */
  readonly arch: unknown;
  /** What a WARN_ONCE has said, once each. */
  readonly warnings: Set<string>;
  /** Where a test looks on, as a kprobe does. */
  probe: MmGatherProbe | null;
  /** The next pid and the next number of an mm: both count up. */
  readonly ids: { pid: number; mm: number };
}

/** WARN_ONCE: a finding of the kernel about itself. */
export function warnOnce(k: Kernel, condition: boolean, what: string): void {
  if (condition) k.warnings.add(what);
}
