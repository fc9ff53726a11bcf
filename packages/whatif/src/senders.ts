/**
 * Evidence below A: who sends, when the trace does not name the function.
 *
 * B: an ipi_send_* event names the targets. What it was for is told by the record right before it
 * on the same CPU, if that is the tlb_flush that the kernel traces as it starts to send (reason 4).
 *
 * C: there is no send event. A flush is received (reason 1) while its sender waits, because the
 * sender of a flush returns only when all targets are done. So the senders in sight are those CPUs
 * that have traced reason 4 and have not gone on to something else; with one in sight the match is
 * certain, with several it is ambiguous and said to be.
 */
import type { CpuId } from '@shootdown/machine';
import type { RecordedEvent, RecordedRecord, RecordedTask } from '@shootdown/trace';
import type { Origin } from './origins.ts';

/** A CPU that has asked others to flush and waits. */
export interface Sender {
  readonly cpu: CpuId;
  readonly task: RecordedTask;
  readonly origin: Origin;
  readonly request: number;
}

/** tlb_flush reasons: see the TlbFlush shape in @shootdown/trace. */
export const REMOTE_SHOOTDOWN = 1;
export const REMOTE_SEND_IPI = 4;

/** Who sends flushes, CPU by CPU. */
export class Senders {
  readonly #waiting = new Map<CpuId, Sender>();
  readonly #justSent = new Map<CpuId, boolean>();

  /** Whether the record right before this one on `cpu` said that a flush is being sent. */
  justSent(cpu: CpuId): boolean {
    return this.#justSent.get(cpu) ?? false;
  }

  /** Takes note of a record, after it was asked about; `sender` says who it would be that sends. */
  observe(record: RecordedRecord, sender: (record: RecordedRecord) => Sender): void {
    const { cpu, event } = record;
    const sends = event.kind === 'tlb_flush' && event.reason === REMOTE_SEND_IPI;
    if (sends || this.#justSent.get(cpu) === true) this.#justSent.set(cpu, sends);
    if (sends) this.#waiting.set(cpu, sender(record));
    else if (this.#waiting.size > 0 && goesOn(event)) this.#waiting.delete(cpu);
  }

  /** The CPUs other than `cpu` that wait for a flush to be done. */
  inSight(cpu: CpuId): readonly Sender[] {
    const senders: Sender[] = [];
    for (const sender of this.#waiting.values()) if (sender.cpu !== cpu) senders.push(sender);
    return senders;
  }
}

/** Events that a CPU which waits for its flush cannot record. */
function goesOn(event: RecordedEvent): boolean {
  switch (event.kind) {
    case 'sys_enter':
    case 'sys_exit':
    case 'page_fault':
    case 'sched_switch':
      return true;
    case 'tlb_flush':
      return event.reason === 0;
    default:
      return false;
  }
}
