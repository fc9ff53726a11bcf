/**
 * What the machine assumes of hardware beyond x86-TSO, each by name and each switchable, so that
 * somebody can ask whether a verdict rests on it. docs/soundness.md lists them for readers.
 */

/** One assumption. */
export interface Axiom {
  /** What holds while the axiom is on. */
  readonly statement: string;
  /** Who says so. */
  readonly source: string;
  /** Whether it is on unless somebody says otherwise. */
  readonly usually: boolean;
}

const axiom = (usually: boolean, statement: string, source: string): Axiom => ({
  statement,
  source,
  usually,
});

const SDM = 'Intel SDM vol. 3A';

/** The name of an axiom. */
export type AxiomName =
  | 'deliveryDrains'
  | 'returnDrains'
  | 'postingDrains'
  | 'invalidationDrains'
  | 'applyDrains'
  | 'invlpgDropsUpper'
  | 'faultDrops'
  | 'walkWaitsForStores';

/** Every axiom of the machine. */
export const AXIOMS: Readonly<Record<AxiomName, Axiom>> = {
  deliveryDrains: axiom(
    true,
    'an interrupt, an NMI, a page fault or a VM exit is taken only once the store buffer is empty',
    `${SDM} 13.10 "Store Buffer": drained when an exception or interrupt is generated`,
  ),
  returnDrains: axiom(
    true,
    'returning from an interrupt is serializing: it waits until the store buffer is empty',
    `${SDM} 10.3 "Serializing Instructions": IRET`,
  ),
  postingDrains: axiom(
    true,
    'posting an interprocessor interrupt orders earlier stores like a full fence',
    'an xAPIC write is uncached, and Linux fences before the x2APIC WRMSR (weak_wrmsr_fence), which alone does not order',
  ),
  invalidationDrains: axiom(
    true,
    'INVLPG, INVPCID and a write of CR3 are serializing: they wait until the store buffer is empty',
    `${SDM} 5.10.4.3: the invalidating instructions are all serializing`,
  ),
  applyDrains: axiom(
    true,
    'a broadcast invalidation is applied once stores that went through a translation are in memory',
    'Arm ARM, TLB maintenance: complete when no access by the old translation is outstanding; assumed of INVLPGB, whose users rely on it',
  ),
  invlpgDropsUpper: axiom(
    true,
    'INVLPG drops every paging-structure entry of the current PCID, not only those on the way to its address',
    `${SDM} 5.10.4.1; AMD APM vol. 2 5.5.2 the same while EFER.TCE is 0`,
  ),
  faultDrops: axiom(
    true,
    'a page fault drops what is cached for the faulting address under the current PCID',
    `${SDM} 5.10.4.1`,
  ),
  walkWaitsForStores: axiom(
    false,
    'a walk of the page table sees earlier stores of its own CPU, as if it waited for them to drain',
    `nobody promises it for data: ${SDM} 5.10.4.3 denies it for fetches; the published test CoWTf.inv+po allows the fault`,
  ),
};

/** Which axioms hold. */
export type Axioms = Readonly<Record<AxiomName, boolean>>;

/** All axioms as they usually are, but for `changes`. */
export function axioms(changes: Partial<Axioms> = {}): Axioms {
  const usual = Object.entries(AXIOMS).map(([name, { usually }]) => [name, usually]);
  return { ...(Object.fromEntries(usual) as Axioms), ...changes };
}
