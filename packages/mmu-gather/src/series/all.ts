/** The editions that come with this package: posted series on top of a release. */
import type { CoreFunctions, Edition } from '../kernel.ts';
import { impliesIpiV7 } from './impliesIpi.ts';
import { targetedSync, targetedSyncV4, targetedSyncV4Fixed } from './targetedSync.ts';

/** This package's parts; an architecture has its own of the same names. */
export const coreEditions: readonly Edition<CoreFunctions>[] = [
  targetedSync,
  targetedSyncV4,
  targetedSyncV4Fixed,
  impliesIpiV7,
];
