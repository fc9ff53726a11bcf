/**
 * Puts records in order of time, then of CPU. Stepping makes them in that order; a call that is done
 * at once (maskCall.ts) makes those of its targets one CPU after the other, and they have to wait
 * for what others do in between.
 */
import type { Machine, TraceRecord } from '@shootdown/machine';

type Sink = (record: TraceRecord) => void;

/** Stands between a machine and its sink. */
export class RecordOrder {
  private readonly sink: Sink;
  private held: TraceRecord[] = [];
  private holding = false;

  constructor(sink: Sink) {
    this.sink = sink;
  }

  /** From here on records are out of order, until `release`; none is earlier than `time`. */
  hold(time: number): void {
    this.flush(time, -1);
    this.holding = true;
  }

  release(): void {
    this.holding = false;
    // Stable: the records of one CPU at one time stay in their order.
    this.held.sort((a, b) => a.time - b.time || a.cpu - b.cpu);
  }

  /** Takes the next record of the machine. */
  take(record: TraceRecord): void {
    if (this.holding) {
      this.held.push(record);
      return;
    }
    if (this.held.length > 0) this.flush(record.time, record.cpu);
    this.sink(record);
  }

  /** Hands on what is held and not later than `time` and `cpu`. */
  flush(time: number, cpu: number): void {
    const { held } = this;
    let count = 0;
    for (const record of held) {
      if (record.time > time || (record.time === time && record.cpu > cpu)) break;
      this.sink(record);
      count++;
    }
    if (count > 0) this.held = held.slice(count);
  }
}

/** Puts an order between `machine` and its sink; null if it has none. */
export function orderRecords(machine: Machine): RecordOrder | null {
  const { sink } = machine;
  if (sink === null) return null;
  const order = new RecordOrder(sink);
  machine.sink = (record) => order.take(record);
  return order;
}
