/**
 * What package-lock.json must say so that `npm ci` works elsewhere. Native packages come one per
 * platform, as optional dependencies of a front package; when a registry lacks some of them, npm
 * writes a lockfile without those and then refuses it on the next clean install. And no entry may
 * say where it was downloaded.
 */
import type { Violation } from '../workspace.ts';

/** What we read of a lockfile. Keys of `packages` are folders, '' the root. */
export interface Lockfile {
  readonly packages: Readonly<Record<string, LockEntry>>;
}

export interface LockEntry {
  readonly resolved?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const PATH = 'package-lock.json';

/** The folders where Node would look for `name` from `folder`, nearest first. */
export function placesOf(folder: string, name: string): readonly string[] {
  const parts = folder === '' ? [] : folder.split('/');
  const places: string[] = [];
  for (let length = parts.length; length >= 0; length -= 1) {
    if (parts[length - 1] === 'node_modules') continue;
    places.push([...parts.slice(0, length), 'node_modules', name].join('/'));
  }
  return places;
}

/** Checks that every optional package that an entry names is there. */
export function checkPlatforms(lock: Lockfile): readonly Violation[] {
  return Object.entries(lock.packages).flatMap(([folder, entry]) =>
    Object.keys(entry.optionalDependencies ?? {})
      .filter((name) => !placesOf(folder, name).some((place) => place in lock.packages))
      .map(
        (name) =>
          `${folder === '' ? 'the root' : folder} names ${name}, which is not in the lockfile: npm ci will refuse it`,
      )
      .map((what) => ({ path: PATH, what })),
  );
}

/** Checks that no entry says from which host it came. */
export function checkResolved(lock: Lockfile): readonly Violation[] {
  return Object.entries(lock.packages)
    .filter(
      ([, entry]) =>
        /^[\w+]+:/.test(entry.resolved ?? '') && entry.resolved?.startsWith('file:') !== true,
    )
    .map(([folder]) => ({
      path: PATH,
      what: `${folder} says where it was downloaded: keep omit-lockfile-registry-resolved in .npmrc`,
    }));
}
