/** What backends and editions there are, and what they say about themselves: as plain JSON. */

/** What a backend claims: the names are the contract's. */
export interface ClaimsView {
  readonly flushTlbMultiImpliesIpiBroadcast: boolean;
  readonly flushImpliesSmpMb: boolean;
  readonly needsTableInvalidate: boolean;
}

/** One backend. */
export interface BackendView {
  readonly id: string;
  /** What it follows, in the kernel. */
  readonly models: { readonly tree: string; readonly path: string; readonly symbol: string };
  readonly claims: ClaimsView;
  /** What a posted series has it claim instead. */
  readonly claimsIn: readonly {
    readonly edition: string;
    readonly claims: Partial<ClaimsView>;
  }[];
  /** CONFIG_ options that its architecture selects. */
  readonly selects: readonly string[];
  /** Costs that it knows better than the table. */
  readonly costs: readonly {
    readonly name: string;
    readonly ns: number;
    readonly source: string;
  }[];
}

/** One edition. */
export interface EditionView {
  readonly name: string;
  readonly source: string;
  /** What of it is left out; empty if nothing is. */
  readonly notModelled: string;
}

/** The view. */
export interface BackendsView {
  readonly schemaVersion: 1;
  readonly command: 'backends';
  readonly toolVersion: string;
  readonly backends: readonly BackendView[];
  readonly editions: readonly EditionView[];
}
