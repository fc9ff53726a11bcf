/** The bundled editions, by the name that `--edition` takes: each is the parts of that name. */
import { x86Editions } from '@shootdown/arch-x86';
import { UsageError } from '@shootdown/machine';
import { coreEditions, type Edition } from '@shootdown/mmu-gather';

/** One part of each: it says what the edition is. */
export const bundledEditions: readonly Edition[] = coreEditions;

const PARTS: readonly Edition[] = [...coreEditions, ...x86Editions];

/** Their names, mainline first. */
export const EDITION_NAMES: readonly string[] = [
  'baseline',
  ...bundledEditions.map(({ name }) => name),
];

/**
 * The parts of the edition of that name; `baseline` has none.
 *
 * @throws UsageError ERR_EDITION for a name that no bundled edition has.
 */
export function editionNamed(name: string): readonly Edition[] {
  if (!EDITION_NAMES.includes(name))
    throw new UsageError(
      'ERR_EDITION',
      `--edition ${name}: expected one of ${EDITION_NAMES.join(', ')}`,
    );
  return PARTS.filter((part) => part.name === name);
}
