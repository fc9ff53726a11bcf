/** What a record means to the driver. */
import type { RecordedRecord } from '@shootdown/trace';
import type { Line } from './line.ts';
import type { Lockstepper } from './lockstep.ts';

/** Does what `record` says. `payload` is the text of a probe's fields, else empty. */
export type Handler = (
  on: Lockstepper,
  line: Line,
  record: RecordedRecord,
  payload: string,
) => void;
