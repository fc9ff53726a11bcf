/** A whole recording in lockstep with the model. */
import type { Edition, Release, TlbBackend } from '@shootdown/mmu-gather';
import type { OpenedTrace, RecordedRecord } from '@shootdown/trace';
import { Lockstepper } from './lockstep.ts';
import { HANDLERS } from './handlers.ts';
import { closeSwitch } from './switches.ts';

/** What to validate with. */
export interface ValidateOptions {
  readonly backend: TlbBackend;
  readonly cpus: number;
  readonly kernel?: Release | undefined;
  readonly editions?: readonly Edition[] | undefined;
}

/** Feeds records to a model and keeps the score. */
export class Validation {
  readonly on: Lockstepper;

  constructor(options: ValidateOptions) {
    this.on = new Lockstepper(options);
  }

  record(record: RecordedRecord): void {
    const { on } = this;
    const { event, cpu } = record;
    const { model, judge } = on;
    const line = model.lines[cpu];
    if (line === undefined) return;
    const seq = ++model.seq;
    judge.record = record;
    judge.seq = seq;
    if (line.then !== null) {
      const look = line.then;
      line.then = null;
      look();
    }
    line.settle(seq);
    const name = event.kind === 'other' ? event.name : event.kind;
    const going = on.going[cpu];
    if (
      going !== undefined &&
      going.switching !== null &&
      name !== 'cr3_a' &&
      name !== 'cr3_b' &&
      name !== 'tlb_flush'
    )
      closeSwitch(on, line, record);
    const handler = HANDLERS.get(name);
    if (handler === undefined) {
      if (name === 'tracing_mark_write') this.#mark(record);
      return;
    }
    on.seen.add(name);
    const payload = event.kind === 'other' ? event.payload.text() : '';
    handler(on, line, record, payload);
  }

  #mark({ event }: RecordedRecord): void {
    const text = event.kind === 'other' ? event.payload.text() : '';
    if (text.includes('WORKLOAD_BEGIN')) this.on.judge.inWorkload = true;
    if (text.includes('WORKLOAD_END')) this.on.judge.inWorkload = false;
  }
}

/** Validates `trace`, which must not have been read before. */
export async function validate(trace: OpenedTrace, options: ValidateOptions): Promise<Validation> {
  const validation = new Validation(options);
  for await (const batch of trace.batches()) for (const record of batch) validation.record(record);
  return validation;
}
