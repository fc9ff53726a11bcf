/**
 * What the events of one CPU tell by themselves: interrupts, their length, handler runs, and who
 * runs there.
 */
import { type CpuId, cpuId } from '@shootdown/machine';
import type { RecordedEvent, RecordedTask } from '@shootdown/trace';
import { countsInTlbRow } from './callKinds.ts';
import { isKernelThread } from './origins.ts';

/** Entries of these make the CAL row; the last is arm's. */
const CALL_IRQS: readonly string[] = [
  'call_function',
  'call_function_single',
  'Function call interrupts',
];
/** Distinct tasks kept per watched CPU. */
const MAX_TASKS = 4096;

/** Running totals of one CPU. */
export class CpuTotals {
  readonly interrupts: Map<string, number> = new Map();
  callInterrupts = 0;
  pairs = 0;
  total = 0;
  longest = 0;
  handlerRuns = 0;
  idleFlushes = 0;
  received = 0;
  readonly tasks: Map<string, number> = new Map();
  #entered: number | null = null;
  #handler = false;
  #flushed = false;

  /** Takes note of one record of this CPU at `time`. */
  observe(time: number, event: RecordedEvent): void {
    switch (event.kind) {
      case 'vector_entry':
        this.#enter(time, event.irq);
        break;
      case 'vector_exit':
        this.#leave(time, event.irq);
        break;
      case 'ipi_entry':
        this.#enter(time, event.reason);
        break;
      case 'ipi_exit':
        this.#leave(time, event.reason);
        break;
      case 'csd_function_entry':
        // csd 0: the CPU that asked runs its own part, no interrupt.
        if (event.csd === 0 || !countsInTlbRow(event.func)) break;
        this.handlerRuns++;
        this.#handler = true;
        this.#flushed = false;
        break;
      case 'csd_function_exit':
        if (this.#handler && !this.#flushed) this.idleFlushes++;
        this.#handler = false;
        break;
      case 'tlb_flush':
        if (event.reason === 1) this.received++;
        this.#flushed = true;
        break;
      default:
    }
  }

  #enter(time: number, irq: string): void {
    this.interrupts.set(irq, (this.interrupts.get(irq) ?? 0) + 1);
    if (!CALL_IRQS.includes(irq)) return;
    this.callInterrupts++;
    this.#entered = time;
  }

  #leave(time: number, irq: string): void {
    if (this.#entered === null || !CALL_IRQS.includes(irq)) return;
    this.pairs++;
    this.total += time - this.#entered;
    this.longest = Math.max(this.longest, time - this.#entered);
    this.#entered = null;
  }

  /** Takes note of who runs here. */
  running(task: RecordedTask): void {
    if (task.pid === 0 || task.comm === '<...>' || isKernelThread(task.comm)) return;
    const name = `${task.comm}-${task.pid}`;
    const seen = this.tasks.get(name);
    if (seen !== undefined) this.tasks.set(name, seen + 1);
    else if (this.tasks.size < MAX_TASKS) this.tasks.set(name, 1);
  }

  /** Who ran here most. */
  topTasks(): readonly string[] {
    return [...this.tasks]
      .toSorted(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
      .slice(0, 3)
      .map(([name]) => name);
  }
}

/** Totals of every CPU that the trace shows, made on first sight. */
export class AllCpus {
  readonly #totals: (CpuTotals | undefined)[] = [];

  get(cpu: CpuId): CpuTotals {
    let totals = this.#totals[cpu];
    if (totals === undefined) this.#totals[cpu] = totals = new CpuTotals();
    return totals;
  }

  /** One more than the highest CPU seen. */
  get end(): number {
    return this.#totals.length;
  }

  /** The CPUs seen, ascending. */
  seen(): readonly CpuId[] {
    const cpus: CpuId[] = [];
    for (const [cpu, totals] of this.#totals.entries())
      if (totals !== undefined) cpus.push(cpuId(cpu));
    return cpus;
  }
}
