/**
 * Operations: what a task asks of the kernel, and the flushes that come of it, as predicted and as
 * recorded.
 */

/** One flush_tlb_mm_range() or arch_tlbbatch_flush(), as its initiator traces it. */
export interface Flush {
  /** Pages of REMOTE_SEND_IPI (4); null if no other CPU was in mm_cpumask. */
  send: number | null;
  /** Pages of LOCAL_MM_SHOOTDOWN (3) or LOCAL_SHOOTDOWN (2); null if nothing was left to flush here. */
  local: number | null;
  batched: boolean;
}

/** What kind of thing a task does. */
export type OperationKind = 'call' | 'fault' | 'exit' | 'exec' | 'switch' | 'kthread';

/** One of them. */
export interface Operation {
  readonly kind: OperationKind;
  /** `munmap`, `page fault`, ... */
  readonly name: string;
  /** Of an address space whose whole life is recorded. */
  decidable: boolean;
  /** Why a prediction is not to be expected to be right; null: no reason. */
  obstacle: string | null;
  /** When it began: a record's number. */
  readonly began: number;
  /** Begun between the marks. */
  readonly counted: boolean;
  readonly predicted: Flush[];
  readonly recorded: Flush[];
}

const SEND = 4;
const BATCHED = 2;

/** Adds an event of the initiator (reason 2, 3 or 4) to the flushes it belongs to. */
export function addEvent(flushes: Flush[], reason: number, pages: number): void {
  if (reason === SEND) {
    flushes.push({ send: pages, local: null, batched: false });
    return;
  }
  const last = flushes.at(-1);
  const batched = reason === BATCHED;
  // Between the two only other CPUs trace anything.
  if (last !== undefined && last.send !== null && last.local === null) {
    last.local = pages;
    last.batched = batched;
  } else flushes.push({ send: null, local: pages, batched });
}
