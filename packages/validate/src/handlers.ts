/** What each kind of record means, by the event's name; of what is not here nothing is asked. */
import { FLUSH_HANDLERS } from './flushes.ts';
import type { Depth } from './fields.ts';
import type { Handler } from './handler.ts';
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

/** The handlers of a recording of this depth. */
export const handlersOf = (_depth: Depth): ReadonlyMap<string, Handler> => PROBES;
