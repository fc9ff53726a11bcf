/**
 * What each Op costs, in nanoseconds, and who says so. A number without a source is a guess and says
 * that too. Cycles are converted at 2.5 GHz, the clock that the collected ranges were put down for;
 * where a source gives a range the table takes a round number in its lower half, and the whole is
 * checked against published times of a whole shootdown (costs.test.ts).
 */
import { UsageError } from '@shootdown/machine';

/** One entry of a cost table. */
export interface Cost {
  /** Nanoseconds, an integer from 0. */
  readonly ns: number;
  readonly source: string;
  /**
   * Whether the Op needs the cache line of its cell to itself: if another CPU touched it last, the
   * transfer (`line`, or `lineFar` from another socket) comes on top. `hidden`: the line moves too,
   * but a store buffer hides how long that takes. A change that does not say keeps the default.
   */
  readonly line?: boolean | 'hidden' | undefined;
}

/** By name of the Op kind, or of one of `EXTRAS`. */
export type CostTable = Readonly<Record<string, Cost>>;

const cost = (ns: number, source: string): Cost => ({ ns, source });
const lineCost = (ns: number, source: string): Cost => ({ ns, source, line: true });

const RANGES = 'collected ranges, cycles at 2.5 GHz';
const GUESS = 'assumption: no published number was found';
const REGISTER = 'a register-only instruction; assumption';

/** Entries that belong to no Op kind. */
export const EXTRAS = [
  'storeDrain',
  'line',
  'lineFar',
  'walkStep',
  'ipiFlight',
  'ipiFlightFar',
  'irqEntry',
  'vmExit',
] as const;

/** Costs of a bare-metal x86 server of the late 2010s. */
export const DEFAULT_COSTS: CostTable = {
  load: cost(1, 'first-level cache hit, 4-5 cycles pipelined; Intel optimization manual'),
  store: {
    ns: 1,
    source: 'retires into the store buffer; Intel optimization manual',
    line: 'hidden',
  },
  nop: cost(1, REGISTER),
  locked: lineCost(8, `uncontended locked increment, 20 cycles: ${RANGES}`),
  setBit: lineCost(8, 'as a locked increment'),
  clearBit: lineCost(8, 'as a locked increment'),
  testAndSetBit: lineCost(8, 'as a locked increment'),
  testAndClearBit: lineCost(8, 'as a locked increment'),
  testBit: cost(1, 'as a load'),
  readMask: cost(2, 'as a load or two'),
  fence: cost(8, 'Linux uses a locked add; as a locked increment'),
  serialize: cost(40, `assumption: CPUID costs 100 cycles and more on bare metal`),
  irqFlag: cost(2, `CLI, STI, POPF: a few cycles; ${GUESS}`),
  halt: cost(1, GUESS),
  iret: cost(80, `interrupt entry and exit 500 cycles together: ${RANGES}; 2 fifths of it`),
  irqEntry: cost(120, `interrupt entry and exit 500 cycles together: ${RANGES}; 3 fifths of it`),
  sendIpi: cost(60, `ICR write 150 cycles, x2APIC: ${RANGES}`),
  ipiFlight: cost(300, `IPI flight 600..2500 cycles by distance: ${RANGES}`),
  ipiFlightFar: cost(600, `IPI flight 600..2500 cycles by distance: ${RANGES}`),
  storeDrain: cost(4, `a store to an owned line; ${GUESS}`),
  line: cost(40, `line transfer 100..700 cycles: ${RANGES}; within a socket`),
  lineFar: cost(120, `line transfer 100..700 cycles: ${RANGES}; between sockets`),
  csdLock: lineCost(1, 'a load of the flags'),
  csdFill: lineCost(4, `CSD fill and queue 60 cycles: ${RANGES}; the fill`),
  csdEnqueue: lineCost(20, `CSD fill and queue 60 cycles: ${RANGES}; the locked part`),
  csdTake: lineCost(8, 'as a locked exchange'),
  csdUnlock: lineCost(1, 'as a store'),
  csdWait: lineCost(1, 'as a load, once the line has come'),
  wait: lineCost(1, 'as a load, once the line has come'),
  userSpin: lineCost(1, 'as a load, once the line has come'),
  acquire: lineCost(8, `uncontended locked increment, 20 cycles: ${RANGES}`),
  armTimer: cost(10, `a write of the deadline MSR; ${GUESS}`),
  switchTo: cost(100, GUESS),
  mayFail: cost(0, 'no instruction: a choice of the environment'),
  choose: cost(0, 'no instruction: a choice of the environment'),
  access: cost(1, 'first-level cache hit through a TLB hit'),
  pageFault: cost(
    200,
    `interrupt entry and exit 500 cycles together: ${RANGES}; an exception alike`,
  ),
  walkStep: cost(
    8,
    'page walk with cached structures 8-30 ns: collected ranges; the low end a word',
  ),
  invlpg: cost(
    100,
    'about 100 ns each: comment at tlb_single_page_flush_ceiling, arch/x86/mm/tlb.c',
  ),
  invpcid: cost(100, `100-250 ns; remembered, not verified`),
  writeCr3: cost(40, 'CR3 write 96 cycles: Ingo Molnar 2015 on an Intel test box'),
  invlpgb: cost(80, `200 cycles: ${RANGES}; no published count exists`),
  tlbsync: cost(400, `800..2500 cycles: ${RANGES}; no published count exists`),
  tlbi: cost(20, `50 cycles: ${RANGES}`),
  dsb: cost(300, `500..2000 cycles: ${RANGES}`),
  maskCall: cost(0, 'no instruction: asks the driver'),
  frameUsers: cost(0, 'no instruction: a question of a checker'),
  vmExit: cost(700, `VM exit 1500..2500 cycles: ${RANGES}`),
  vmEntry: cost(300, `VM exit 1500..2500 cycles: ${RANGES}; the way back`),
  compute: cost(0, 'the Op says how long'),
  vcpuPark: cost(0, 'the Op says how long'),
};

/** `DEFAULT_COSTS` with `changes`. @throws UsageError ERR_COST for a number that is no time. */
export function costTable(changes: CostTable = {}): CostTable {
  const table: Record<string, Cost> = { ...DEFAULT_COSTS };
  for (const [name, { ns, source, line }] of Object.entries(changes)) {
    if (!Number.isSafeInteger(ns) || ns < 0)
      throw new UsageError(
        'ERR_COST',
        `cost of ${name}: ${ns} is not a number of nanoseconds; expected an integer from 0`,
      );
    // It is asked only where calls may be done at once, which is to make no difference.
    if (name === 'maskCall' && ns !== 0)
      throw new UsageError('ERR_COST', 'cost of maskCall: it asks the driver and takes no time');
    if (source === '')
      throw new UsageError('ERR_COST', `cost of ${name}: say where ${ns} ns comes from`);
    table[name] = { ns, source, line: line ?? table[name]?.line };
  }
  return table;
}

/** The nanoseconds of `name`. @throws UsageError ERR_COST: what has no cost is not free. */
export function costOf(table: CostTable, name: string): Cost {
  const found = Object.hasOwn(table, name) ? table[name] : undefined;
  if (found !== undefined) return found;
  throw new UsageError(
    'ERR_COST',
    `nothing says what ${name} costs: add { ${name}: { ns, source } } to the cost table`,
  );
}
