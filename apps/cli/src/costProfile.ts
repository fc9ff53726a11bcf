/**
 * Cost profiles: a few entries of the cost table in a file, written by `calibrate -o` or by hand.
 * Everything that the table would not take is refused by name, with the profile's name in front.
 */
import { readFileSync } from 'node:fs';
import { UsageError } from '@shootdown/machine';
import { KERNEL_COSTS, type TlbBackend } from '@shootdown/mmu-gather';
import { type CostTable, DEFAULT_COSTS } from '@shootdown/sim';

/** Entries of a profile, as changes to a cost table. */
export interface LoadedProfile {
  /** What the user called the file. */
  readonly file: string;
  readonly costs: CostTable;
}

/** Everything that costs something where `backend` runs. */
export const costsWith = (backend: TlbBackend): CostTable => ({
  ...DEFAULT_COSTS,
  ...KERNEL_COSTS,
  ...backend.costs,
});

/** The one version that exists. */
const VERSION = 1;
const TOP: readonly string[] = ['version', 'from', 'costs'];
const ENTRY: readonly string[] = ['ns', 'source', 'samples'];

/**
 * Reads the profile in `file`, whose entries have to be some of `table`'s.
 *
 * @throws UsageError ERR_INPUT_OPEN, ERR_PROFILE
 */
export function readCostProfile(file: string, table: CostTable): LoadedProfile {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    const why = missing ? 'no such file' : error instanceof Error ? error.message : String(error);
    throw new UsageError('ERR_INPUT_OPEN', `${file}: ${why}`);
  }
  return { file, costs: parseCostProfile(file, text, table) };
}

/** The entries of the profile `text`. @throws UsageError ERR_PROFILE */
export function parseCostProfile(file: string, text: string, table: CostTable): CostTable {
  const refuse = (why: string): UsageError => new UsageError('ERR_PROFILE', `${file}: ${why}`);
  const profile = parsed(text, refuse);
  if (profile['version'] !== VERSION)
    throw refuse(
      profile['version'] === undefined
        ? `no version: expected "version": ${VERSION}`
        : `version ${JSON.stringify(profile['version'])}: this shootdown reads version ${VERSION}`,
    );
  refuseOthers(profile, TOP, 'property', refuse);
  const { costs } = profile;
  if (!isRecord(costs)) throw refuse('expected "costs": { NAME: nanoseconds, ... }');
  refuseOthers(costs, Object.keys(table).toSorted(), 'entry', refuse);
  return Object.fromEntries(
    Object.entries(costs).map(([name, given]) => {
      const entry = isRecord(given) ? given : { ns: given };
      refuseOthers(entry, ENTRY, `property of ${name}:`, refuse);
      const { ns, source = `profile ${file}` } = entry;
      if (typeof ns !== 'number' || !Number.isSafeInteger(ns) || ns < 0)
        throw refuse(
          `${name}: ${typeof ns === 'number' ? ns : JSON.stringify(ns)} is not a number of nanoseconds; expected an integer from 0`,
        );
      if (name === 'maskCall' && ns !== 0)
        throw refuse('maskCall: it asks the driver and takes no time');
      if (typeof source !== 'string' || source === '')
        throw refuse(
          `${name}: "source" says in words where ${ns} ns comes from; leave it out or fill it`,
        );
      return [name, { ns, source }];
    }),
  );
}

type Refuse = (why: string) => UsageError;
type Json = Readonly<Record<string, unknown>>;

const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function parsed(text: string, refuse: Refuse): Json {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw refuse(`not JSON (${error instanceof Error ? error.message : String(error)})`);
  }
  if (!isRecord(value)) throw refuse('expected an object with "version" and "costs"');
  return value;
}

function refuseOthers(of: Json, known: readonly string[], what: string, refuse: Refuse): void {
  const unknown = Object.keys(of).find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw refuse(`unknown ${what} ${JSON.stringify(unknown)}; expected ${known.join(', ')}`);
}
