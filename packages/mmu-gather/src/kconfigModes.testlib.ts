/**
 * The modes of mmu_gather, and one workload that each of them runs: what the Kconfig options come to
 * is how often it invalidates and by which way a table is freed.
 */
import { call, PAGE_SIZE, Pte, pteHas, xchgWord } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import type { MmKernel, User } from '@shootdown/linux-mm';
import type { ClockOptions } from '@shootdown/sim';
import type { Kthread } from './kernel.ts';
import type { Kconfig } from './kconfig.ts';
import { freePages } from './kernel/pageAlloc.ts';
import { currentTask } from './kernel/percpu.ts';
import { PAGE_SHIFT, PMD_SIZE, PUD_SIZE } from './kernel/pgtable.ts';
import {
  BASE,
  bytes,
  MADV_DONTNEED,
  MADV_HUGEPAGE,
  runProgram,
  testKernel,
} from './kernel.testlib.ts';
import type { TableFreeing } from './probe.ts';
import { isEverything, type OrderEvent, OrderRecorder } from './recorder.testlib.ts';
import type { Release } from './rules.ts';
import type { TlbBackend } from './tlb.ts';

/** One way to configure mmu_gather. */
export interface Mode {
  readonly name: string;
  readonly kernel?: Release;
  readonly backend: TlbBackend;
  readonly failures?: NonNullable<ClockOptions['failures']>;
}

/** Native x86's flushes under an architecture that selects `kconfig`, and MERGE_VMAS if not said. */
const generic = (kconfig: Partial<Kconfig>, parts: Partial<TlbBackend> = {}): TlbBackend => ({
  ...native(),
  tlbRemoveTable: undefined,
  kconfig: { MMU_GATHER_MERGE_VMAS: true, ...kconfig },
  ...parts,
});

/** Clears an entry, and what translates by it, everywhere: s390's IPTE. */
const clearAndFlush: NonNullable<TlbBackend['ptepGetAndClear']> = function* (k, mm, addr, at) {
  const old = yield* xchgWord(at, 0);
  const info = { mm, start: addr, end: addr + PAGE_SIZE, strideShift: PAGE_SHIFT };
  if (pteHas(old, Pte.present))
    yield* call(k.backend.flushTlbMmRange(k, { ...info, freedTables: false }));
  return old;
};

const NO_TABLE_BATCH = { tlb_remove_table: 1 };
const NO_PAGE_BATCH = { tlb_next_batch: 1 };

/** All modes, those first that differ least from what they are compared with. */
export const MODES: readonly Mode[] = [
  { name: 'none', backend: generic({}) },
  { name: 'TABLE_FREE', backend: generic({ MMU_GATHER_TABLE_FREE: true }) },
  { name: 'RCU_TABLE_FREE', backend: generic({ MMU_GATHER_RCU_TABLE_FREE: true }) },
  {
    name: 'RCU_TABLE_FREE, generic tlb_flush()',
    backend: generic({ MMU_GATHER_RCU_TABLE_FREE: true }, { tlbFlush: undefined }),
  },
  {
    name: 'RCU_TABLE_FREE, NO_TABLE_INVALIDATE',
    backend: generic({ MMU_GATHER_RCU_TABLE_FREE: true, MMU_GATHER_NO_TABLE_INVALIDATE: true }),
  },
  {
    name: 'RCU_TABLE_FREE, NO_RANGE',
    backend: generic(
      { MMU_GATHER_RCU_TABLE_FREE: true, MMU_GATHER_NO_RANGE: true },
      { tlbFlush: undefined },
    ),
  },
  {
    name: 'RCU_TABLE_FREE, no MERGE_VMAS',
    backend: generic({ MMU_GATHER_RCU_TABLE_FREE: true, MMU_GATHER_MERGE_VMAS: false }),
  },
  {
    name: 'RCU_TABLE_FREE, PAGE_SIZE',
    backend: generic({ MMU_GATHER_RCU_TABLE_FREE: true, MMU_GATHER_PAGE_SIZE: true }),
  },
  {
    name: 'TABLE_FREE, NO_GATHER',
    backend: generic(
      { MMU_GATHER_TABLE_FREE: true, MMU_GATHER_NO_GATHER: true },
      { ptepGetAndClear: clearAndFlush },
    ),
  },
  {
    name: 'RCU_TABLE_FREE, PT_RECLAIM',
    backend: generic({ MMU_GATHER_RCU_TABLE_FREE: true, PT_RECLAIM: true }),
  },
  { name: 'x86 6.12.117: pv_ops remove tables', kernel: '6.12.117', backend: native() },
  { name: 'x86 7.0', kernel: '7.0', backend: native() },
  { name: 'x86 7.0, no page for a page batch', backend: native(), failures: NO_PAGE_BATCH },
  {
    name: 'TABLE_FREE, no page for a table batch',
    backend: generic({ MMU_GATHER_TABLE_FREE: true }),
    failures: NO_TABLE_BATCH,
  },
  {
    name: 'RCU_TABLE_FREE 7.0, no page for a table batch',
    kernel: '7.0',
    backend: generic({ MMU_GATHER_RCU_TABLE_FREE: true }),
    failures: NO_TABLE_BATCH,
  },
  {
    name: 'RCU_TABLE_FREE 7.3, no page for a table batch',
    kernel: '7.3',
    backend: generic({ MMU_GATHER_RCU_TABLE_FREE: true }),
    failures: NO_TABLE_BATCH,
  },
  {
    name: 'RCU_TABLE_FREE 7.0, NO_TABLE_INVALIDATE, no page for a table batch',
    kernel: '7.0',
    backend: generic({ MMU_GATHER_RCU_TABLE_FREE: true, MMU_GATHER_NO_TABLE_INVALIDATE: true }),
    failures: NO_TABLE_BATCH,
  },
  {
    name: 'x86 7.0, no page for a table batch',
    kernel: '7.0',
    backend: native(),
    failures: NO_TABLE_BATCH,
  },
];

/**
 * The workload. Each part has a GiB of its own, so a PMD table and its PTE tables; they have one PUD
 * table together. A second thread runs on CPU 1 all the time.
 *
 * - kept: 16 of 17 pages in a row are unmapped; the 17th stays until exit, and so do all its tables.
 * - one: a page, its PTE table and its PMD table.
 * - many: 600 pages, 512 and 88 below one PTE table each, and a PMD table.
 * - two: one munmap of two VMAs: a huge page, and 3 small pages with a PTE table; and a PMD table.
 * - advised: MADV_DONTNEED of 2 MiB with 5 pages in it, then munmap of that, which finds the tables.
 * - exit: the 17th page, its PTE and PMD table, the PUD table.
 *
 * In all: 16 + 1 + 600 + (1 + 3) + 5 + 1 = 627 pages, and 1 + 1 + 2 + 1 + 1 = 6 PTE tables (the first
 * part's last), 5 PMD tables and 1 PUD table.
 */
export function* workload(k: MmKernel, user: User): Kthread {
  const stop = k.machine.cell('stop', false);
  const helper = yield* call(user.thread(1, (other) => other.spin(stop)));
  const [kept, one, many, two, advised] = [0, 1, 2, 3, 4].map((gib) => BASE + gib * PUD_SIZE);
  if (kept === undefined || one === undefined || many === undefined) return;
  if (two === undefined || advised === undefined) return;
  yield* call(user.mmap({ addr: kept, length: bytes(17) }));
  yield* call(user.touch(kept, 17));
  yield* call(user.munmap(kept, bytes(16)));
  yield* call(mapTouchUnmap(user, one, 1));
  yield* call(mapTouchUnmap(user, many, 600));
  yield* call(user.mmap({ addr: two, length: 2 * PMD_SIZE }));
  yield* call(user.madvise(two, PMD_SIZE, MADV_HUGEPAGE));
  yield* call(user.touch(two, 1));
  yield* call(user.touch(two + PMD_SIZE, 3));
  yield* call(user.munmap(two, 2 * PMD_SIZE));
  yield* call(user.mmap({ addr: advised, length: PMD_SIZE }));
  yield* call(user.touch(advised, 5));
  yield* call(user.madvise(advised, PMD_SIZE, MADV_DONTNEED));
  yield* call(user.munmap(advised, PMD_SIZE));
  yield* call(user.set(stop));
  yield* call(user.join(helper));
}

function* mapTouchUnmap(user: User, addr: number, pages: number): Kthread {
  yield* call(user.mmap({ addr, length: bytes(pages) }));
  yield* call(user.touch(addr, pages));
  yield* call(user.munmap(addr, bytes(pages)));
}

/** What one mode made of the workload. */
export interface ModeRow {
  readonly mode: string;
  /** Calls of the backend's flush functions. */
  readonly invalidations: number;
  /** Of those: of the whole mm. */
  readonly whole: number;
  /** Tables, by which way they went. */
  readonly tables: Readonly<Record<TableFreeing, number>>;
  /** Tables that MADV_DONTNEED unhooked. */
  readonly reclaimed: number;
  /** Waits for walkers, beside the flushes. */
  readonly syncs: { readonly ipi: number; readonly rcu: number };
  readonly pages: number;
}

/** A run of the workload, and what is left to check about it. */
export interface ModeRun {
  readonly row: ModeRow;
  readonly k: MmKernel;
  /** Page frames that are lost when all has ended: the root table that CPU 0 still borrows. */
  readonly lost: number;
}

const many = (events: readonly OrderEvent[], is: (event: OrderEvent) => boolean): number =>
  events.filter(is).length;

/** Runs the workload in one mode. */
export function runMode({ name, kernel, backend, failures = {} }: Mode): ModeRun {
  const recorder = new OrderRecorder();
  const k = testKernel({ cpus: 2, kernel, backend: recorder.watch(backend) });
  recorder.attach(k);
  const { probe } = k;
  let reclaimed = 0;
  k.probe = (event) => {
    if (event.kind === 'unhook-table' && currentTask(k).syscall === 'madvise') reclaimed++;
    probe?.(event);
  };
  const free = freePages(k);
  runProgram(k, (user) => workload(k, user), { failures });
  const { events } = recorder;
  const by = (way: TableFreeing): number =>
    many(events, (event) => event.kind === 'free-table' && event.by === way);
  const syncs = (way: 'ipi' | 'rcu'): number =>
    many(events, (event) => event.kind === 'sync' && event.by === way);
  const row: ModeRow = {
    mode: name,
    invalidations: many(events, ({ kind }) => kind === 'invalidate'),
    whole: many(events, (event) => event.kind === 'invalidate' && isEverything(event)),
    tables: {
      'page-batch': by('page-batch'),
      batch: by('batch'),
      rcu: by('rcu'),
      one: by('one'),
      'one-rcu': by('one-rcu'),
      direct: by('direct'),
    },
    reclaimed,
    syncs: { ipi: syncs('ipi'), rcu: syncs('rcu') },
    pages: many(events, ({ kind }) => kind === 'free-page'),
  };
  return { row, k, lost: free - freePages(k) };
}

const HEADER = `# The modes of mmu_gather

Generated by src/kconfigModes.test.ts, which fails if it is not up to date and prints what it should
be. One workload (src/kconfigModes.testlib.ts tells it part by part), in every configuration.

- **invalidations**: flushes that the backend was asked for; in brackets those of the whole mm.
- **tables**: page tables by the way they were freed: by the page batch, by the table batch at once, by
  the table batch after a grace period, one by one after a wait, one by one by call_rcu().
- **reclaimed**: tables among them that went when MADV_DONTNEED had emptied them.
- **syncs**: waits for walkers, by an interrupt to all CPUs or by synchronize_rcu().
- **pages**: pages freed, a huge page as one.
`;

const COLUMNS = [
  'mode',
  'invalidations',
  'page batch',
  'table batch',
  'table batch, RCU',
  'one, waited for',
  'one, call_rcu',
  'reclaimed',
  'syncs IPI / RCU',
  'pages',
];

/** The table, as Markdown. */
export function modesTable(rows: readonly ModeRow[]): string {
  const lines = rows.map(({ mode, tables, syncs, ...row }) => [
    mode,
    `${row.invalidations} (${row.whole})`,
    tables['page-batch'],
    tables.batch,
    tables.rcu,
    tables.one,
    tables['one-rcu'],
    row.reclaimed,
    `${syncs.ipi} / ${syncs.rcu}`,
    row.pages,
  ]);
  const table = [COLUMNS, COLUMNS.map(() => '---'), ...lines];
  return `${HEADER}\n${table.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}\n`;
}
