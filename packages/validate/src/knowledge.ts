/**
 * What is known of the state that a recording begins in the middle of. The model's cells always hold
 * something; this says whether that means anything.
 */

/** How a cell's value is known. */
export const Known = {
  /** It is not: what rests on it is not decidable. */
  no: 0,
  /** It was read off a field that is judged: what rests on it is scored apart. */
  learned: 1,
  /** It follows from inputs, or was learned and a later reading has agreed. */
  yes: 2,
} as const;

/** One of Known. */
export type Level = 0 | 1 | 2;

/** Of one CPU. */
export interface CpuKnowledge {
  /** cpu_tlbstate.loaded_mm */
  loaded: boolean;
  /** cpu_tlbstate_shared.is_lazy */
  lazy: boolean;
  /** Whose each ASID is, and under which number. */
  readonly slots: Level[];
  /** ctxs[].tlb_gen, in relation to the mm's. */
  readonly gens: boolean[];
  nextAsid: Level;
  /**
   * mms (by the model's context id) that an ASID holds, but who knows which: and how many ASIDs have
   * to be taken until it is certainly gone.
   */
  readonly afloat: Map<number, number>;
}

/** A CPU of which nothing is known. */
export const unknownCpu = (asids: number): CpuKnowledge => ({
  loaded: false,
  lazy: false,
  slots: Array.from({ length: asids }, () => Known.no),
  gens: Array.from({ length: asids }, () => false),
  nextAsid: Known.no,
  afloat: new Map(),
});

/** The less certain of two. */
export const least = (...levels: readonly Level[]): Level =>
  levels.reduce((sofar, level) => (level < sofar ? level : sofar), Known.yes);
