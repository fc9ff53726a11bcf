/**
 * What may not be in any file, because it is true on one machine only: an address of a package
 * registry (the lockfile works with any), an absolute path of somebody's machine, a path that
 * climbs out to files that a clone does not have. Recordings are bytes of other machines and are
 * left alone.
 */
import { lineOf } from '../layers.ts';
import type { TextFile, Violation } from '../workspace.ts';

/** Files not looked at, each with why. */
export const NOT_LOOKED_AT: readonly { readonly pattern: RegExp; readonly reason: string }[] = [
  {
    pattern: /^examples\/traces\//,
    reason: 'recordings: what ran on the recorded machine is in them',
  },
];

/** A part of the house that only the machine has where it was built. */
const CLIMBS_OUT = /\.\.\/shared\b/g;

/**
 * Folders of a machine, at the start of a path: not after a letter, so that a URL may have such a
 * part.
 */
const MACHINE_PATH = /(?<![\w.:/~$}-])\/(?:work|home|root|tmp|Users)\/[\w.-]/g;

const URL_HOST = /https?:\/\/([\w.-]+)/g;

/** Hosts that mean "this machine": naming them tells nobody's registry. */
const LOOPBACK = new Set(['localhost', '127.0.0.1']);

/**
 * Checks one file. `registry` is the host that npm is set to, read when the test runs, because to
 * write it down is what this refuses.
 */
export function checkPrivacy(file: TextFile, registry: string): readonly Violation[] {
  if (NOT_LOOKED_AT.some(({ pattern }) => pattern.test(file.path))) return [];
  const found: Violation[] = [];
  const note = (index: number, what: string): void => {
    found.push({ path: file.path, line: lineOf(file.text, index), what });
  };
  for (const match of file.text.matchAll(CLIMBS_OUT))
    note(match.index, 'a path out of the repository');
  for (const match of file.text.matchAll(MACHINE_PATH))
    note(match.index, 'an absolute path of one machine');
  for (const match of file.text.matchAll(URL_HOST)) {
    if (match[1]?.includes('registry.') === true) note(match.index, 'the address of a registry');
  }
  const named = registry === '' || LOOPBACK.has(registry) ? -1 : file.text.indexOf(registry);
  if (named !== -1) note(named, 'the host of the registry that npm is set to');
  return found;
}
