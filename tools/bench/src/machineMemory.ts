/** How much memory something keeps: the heap after a collection, with it and without. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { broadcast } from './machineBench.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function heap(): number {
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** Bytes that are in use while what `make` gives is held. */
function bytesOf(make: () => unknown): number {
  const before = heap();
  const held = make();
  const after = heap();
  // Held until here.
  if (held === undefined) throw new Error('nothing was made');
  return after - before;
}

/** Bytes of a machine of `cpus` CPUs after a call to all of them. */
export const machineBytes = (cpus: number): number =>
  bytesOf(() => broadcast(cpus, 1, true, false));
