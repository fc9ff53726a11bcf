/**
 * The CPU x CPU matrix in at most 17 columns. Isolated CPUs, if they are few, keep a column each;
 * the others share columns in equal ranges when there are too many. Nobody reads 4096 x 4096 cells.
 */
import { formatCpuList } from '@shootdown/machine';
import type { Block } from '../blocks.ts';

const COLUMNS = 16;
const ISOLATED_APART = 8;
/** Columns of ranges that fit when no CPU stands apart. */
const RANGES = 6;

interface Group {
  readonly title: string;
  readonly cpus: ReadonlySet<number>;
}

/** The matrix of `cells` on a machine of `cpus` CPUs as a table; `*` marks isolated CPUs. */
export function matrixBlock(
  cells: readonly { readonly from: number; readonly to: number; readonly calls: number }[],
  cpus: number,
  isolated: readonly number[],
): Block {
  const groups = groupsOf(cpus, isolated);
  const of = new Map<number, number>();
  for (const [index, group] of groups.entries()) for (const cpu of group.cpus) of.set(cpu, index);
  const sums = groups.map(() => groups.map(() => 0));
  for (const { from, to, calls } of cells) {
    const row = sums[of.get(from) ?? -1];
    const column = of.get(to);
    if (row !== undefined && column !== undefined) row[column] = (row[column] ?? 0) + calls;
  }
  const rows = sums.flatMap((row, i) => {
    const total = row.reduce((sum, n) => sum + n, 0);
    // A CPU that sends nothing would be a row of dots.
    if (total === 0) return [];
    return [[`${groups[i]?.title ?? ''} →`, ...row.map(short), short(total)]];
  });
  const titles = ['cpu', ...groups.map((group) => group.title), 'all'];
  return { kind: 'table', columns: titles.map((title) => ({ title, align: 'right' })), rows };
}

/** A count in at most 6 characters; the exact ones are in `-f json`. */
function short(calls: number): string {
  if (calls === 0) return '·';
  if (calls < 1_000_000) return String(calls);
  return calls < 1_000_000_000 ? `${Math.round(calls / 1e6)}M` : `${Math.round(calls / 1e9)}G`;
}

function groupsOf(cpus: number, isolated: readonly number[]): readonly Group[] {
  const marked = new Set(isolated);
  const title = (members: readonly number[]): string =>
    `${formatCpuList(members)}${members.every((cpu) => marked.has(cpu)) ? '*' : ''}`;
  const group = (members: readonly number[]): Group => ({
    title: title(members),
    cpus: new Set(members),
  });
  const all = Array.from({ length: cpus }, (_, cpu) => cpu);
  if (cpus <= COLUMNS) return all.map((cpu) => group([cpu]));
  const apart = isolated.length <= ISOLATED_APART ? isolated : [];
  const others = all.filter((cpu) => !apart.includes(cpu));
  // The title of a range is about three times as wide as that of a CPU.
  const size = Math.ceil(others.length / (RANGES - Math.ceil(apart.length / 3)));
  const groups: Group[] = [];
  for (let i = 0; i < others.length; i += size)
    groups.push(rangeGroup(others.slice(i, i + size), title));
  return [...groups, ...apart.map((cpu) => group([cpu]))].toSorted(
    (a, b) => Math.min(...a.cpus) - Math.min(...b.cpus),
  );
}

/**
 * A range is named by its ends even where isolated CPUs were taken out of it: they have columns of
 * their own.
 */
function rangeGroup(
  members: readonly number[],
  title: (members: readonly number[]) => string,
): Group {
  const first = members[0] ?? 0;
  const last = members.at(-1) ?? first;
  return { title: first === last ? title(members) : `${first}-${last}`, cpus: new Set(members) };
}
