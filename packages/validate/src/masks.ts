/** Masks as a probe shows them: one word, so the first 64 CPUs. */
import { CpuMask } from '@shootdown/machine';

/** CPUs that one word has room for. */
const WORD = 64;

/** The first word of a mask. */
export function bitsOf(mask: CpuMask): bigint {
  let word = 0n;
  for (const cpu of mask.members()) if (cpu < WORD) word |= 1n << BigInt(cpu);
  return word;
}

/** A mask of `cpus` CPUs with that word. */
export function maskOf(cpus: number, word: bigint): CpuMask {
  const mask = new CpuMask(cpus);
  for (let cpu = 0; cpu < Math.min(WORD, cpus); cpu++)
    if ((word & (1n << BigInt(cpu))) !== 0n) mask.set(cpu);
  return mask;
}
