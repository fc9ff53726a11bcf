/** The backends view as blocks. */
import { type Block, left } from '../blocks.ts';
import type { BackendsView, BackendView, ClaimsView, EditionView } from './view.ts';

const yes = (holds: boolean): string => (holds ? 'yes' : 'no');

const IMPLIES = 'flushTlbMultiImpliesIpiBroadcast' satisfies keyof ClaimsView;

/** `no; yes in targeted-sync-v4`. */
function implies({ claims, claimsIn }: BackendView): string {
  const others = claimsIn.flatMap(({ edition, claims: changed }) => {
    const said = changed[IMPLIES];
    return said === undefined || said === claims[IMPLIES] ? [] : [`${yes(said)} in ${edition}`];
  });
  return [yes(claims[IMPLIES]), ...others].join('; ');
}

/** The view as a list of blocks. */
export const backendsBlocks = ({ backends, editions }: BackendsView): readonly Block[] => [
  { kind: 'heading', text: 'Backends, and what they claim' },
  {
    kind: 'table',
    columns: [
      left('Backend'),
      left('Implies IPI broadcast'),
      left('Implies smp_mb()'),
      left('Tables are invalidated'),
      left('Follows'),
    ],
    rows: backends.map((of) => [
      of.id,
      implies(of),
      yes(of.claims.flushImpliesSmpMb),
      yes(of.claims.needsTableInvalidate),
      `${of.models.path} ${of.models.symbol} (${of.models.tree})`,
    ]),
  },
  { kind: 'heading', text: 'Editions: posted series on top of a release' },
  {
    kind: 'table',
    columns: [left('Edition'), left('Source')],
    rows: editions.map(({ name, source }) => [name, source]),
  },
  { kind: 'lines', lines: omissions(editions) },
];

/** `one, another: leave out ...`, a line for each thing that is left out. */
function omissions(editions: readonly EditionView[]): readonly string[] {
  const by = Map.groupBy(editions, ({ notModelled }) => notModelled);
  by.delete('');
  return Array.from(
    by,
    ([what, of]) => `Left out of ${of.map(({ name }) => name).join(', ')}: ${what}`,
  );
}
