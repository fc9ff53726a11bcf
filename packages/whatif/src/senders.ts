/**
 * Evidence below A: who sends, when the trace does not name the function.
 *
 * B: an ipi_send_* event names the targets. It is a flush's if the same CPU has traced that it
 * starts to send one (tlb_flush reason 4) and since then neither sent nor flushed for itself: the
 * kernel sends first, then does its own part, then waits.
 *
 * C: there is no send event. A flush is received (reason 1) while its sender waits, because the
 * sender of a flush returns only when all targets are done. So the senders in sight are those CPUs
 * that have traced reason 4 and have not gone on to something else; with one in sight the match is
 * certain, with several it is ambiguous and said to be.
 */
import type { CpuId } from '@shootdown/machine';
import type { RecordedEvent, RecordedRecord, RecordedTask } from '@shootdown/trace';
import { SCHEDULER_CALLSITES } from './callKinds.ts';
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
  readonly #sending = new Set<CpuId>();

  /** Whether what `cpu` sends now is a flush's. */
  sending(cpu: CpuId): boolean {
    return this.#sending.has(cpu);
  }

  /** Takes note of a record, after it was asked about; `sender` says who it would be that sends. */
  observe(record: RecordedRecord, sender: (record: RecordedRecord) => Sender): void {
    const { cpu, event } = record;
    const sends = event.kind === 'tlb_flush' && event.reason === REMOTE_SEND_IPI;
    if (sends) {
      this.#waiting.set(cpu, sender(record));
      this.#sending.add(cpu);
    } else if (this.#waiting.size > 0) {
      if (endsSending(event)) this.#sending.delete(cpu);
      if (!goesOn(event)) return;
      this.#waiting.delete(cpu);
      this.#sending.delete(cpu);
    }
  }

  /** The CPUs other than `cpu` that wait for a flush to be done. */
  inSight(cpu: CpuId): readonly Sender[] {
    const senders: Sender[] = [];
    for (const sender of this.#waiting.values()) if (sender.cpu !== cpu) senders.push(sender);
    return senders;
  }
}

/** A flush is sent once; a send on a tick's or wake-up's behalf comes in between. */
function endsSending(event: RecordedEvent): boolean {
  if (event.kind === 'ipi_send') return !SCHEDULER_CALLSITES.has(event.callsite);
  return event.kind === 'tlb_flush' || event.kind === 'ipi_raise';
}

/** Events that a CPU which waits for its flush cannot record. */
export function goesOn(event: RecordedEvent): boolean {
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
