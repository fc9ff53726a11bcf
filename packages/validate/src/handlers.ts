/** What each kind of record means, by the event's name; of what is not here nothing is asked. */
import { FLUSH_HANDLERS } from './flushes.ts';
import type { Depth } from './fields.ts';
import type { Handler } from './handler.ts';
import { STOCK_HANDLERS } from './stock.ts';
import { handleCr3, handleSwitch } from './switches.ts';
import { TASK_HANDLERS } from './tasks.ts';

const PROBES: ReadonlyMap<string, Handler> = new Map(
  Object.entries({
    ...FLUSH_HANDLERS,
    ...TASK_HANDLERS,
    switch_mm: handleSwitch,
    cr3_a: handleCr3,
    cr3_b: handleCr3,
  }),
);

/** Probes, which a recording of less depth is not asked for. */
const OF_PROBES = ['should_flush', 'should_flush_q', 'should_flush_a', 'smp_many', 'enter_lazy'];
const STOCK: ReadonlyMap<string, Handler> = new Map(
  Object.entries(STOCK_HANDLERS).filter(([kind]) => !OF_PROBES.includes(kind)),
);

/** Of a recording that is said to have no more than tlb_flush nothing more is asked. */
const WITH_CALLS = ['csd_queue_cpu', 'csd_function_entry', 'csd_function_exit', 'ipi_send'];
const TLB_FLUSH: ReadonlyMap<string, Handler> = new Map(
  Array.from(STOCK).filter(([kind]) => !WITH_CALLS.includes(kind)),
);

/** The handlers of a recording of this depth. */
export const handlersOf = (depth: Depth): ReadonlyMap<string, Handler> =>
  depth === 'probes' ? PROBES : depth === 'csd' ? STOCK : TLB_FLUSH;

/** Whether a recording of this depth is taken not to have such events. */
export const isBelow = (depth: Depth, kind: string): boolean =>
  depth !== 'probes' && PROBES.has(kind) && !handlersOf(depth).has(kind);
