/**
 * What makes no machine is refused at once, with what was expected.
 */
import { type AxiomName, AXIOMS } from './axioms.ts';
import { NMI_VECTOR } from './cpu.ts';
import { MAX_CPUS } from './cpuList.ts';
import type { EnvironmentMove } from './environment.ts';
import { UsageError } from './errors.ts';
import { isVector } from './interrupt.ts';
import type { MachineOptions } from './machine.ts';
import { MAX_FRAMES } from './memory.ts';

function refuse(what: string): never {
  throw new UsageError('ERR_MACHINE', what);
}

function checkCount(what: string, count: number, most: number): void {
  if (!Number.isInteger(count) || count < 1 || count > most)
    refuse(`a machine has 1 to ${most} ${what}, not ${count}`);
}

function checkOneOf<T extends string | number>(
  what: string,
  given: T | undefined,
  known: readonly T[],
): void {
  if (given !== undefined && !known.includes(given))
    refuse(`there is no ${what} '${given}'; expected ${known.join(' or ')}`);
}

/** Throws UsageError ERR_MACHINE unless `options` make a machine. */
export function checkOptions(options: MachineOptions): void {
  const { cpus, frames = 1, tlbSizes = {}, axioms = {}, environment = [] } = options;
  checkCount('CPUs', cpus, MAX_CPUS);
  checkCount('page frames', frames, MAX_FRAMES);
  checkOneOf('memory model', options.model, ['tso', 'sc']);
  checkOneOf('number of page-table levels', options.levels, [4, 5]);
  checkOneOf('form of TLB', options.tlb, ['finite', 'mayCached']);
  for (const size of [tlbSizes.leaf ?? 1, ...(tlbSizes.upper ?? [])])
    checkCount('entries in a translation cache', size, Number.MAX_SAFE_INTEGER);
  const names = Object.keys(AXIOMS);
  for (const name of Object.keys(axioms))
    if (AXIOMS[name as AxiomName] === undefined)
      refuse(`there is no axiom '${name}'; the axioms are ${names.join(', ')}`);
  for (const move of environment) checkMove(move, cpus);
}

function checkMove({ name, cpu, times, kind, vector }: EnvironmentMove, cpus: number): void {
  if (!Number.isInteger(cpu) || cpu < 0 || cpu >= cpus)
    refuse(`'${name}' is for CPU ${cpu}, the CPUs are 0-${cpus - 1}`);
  if (!Number.isInteger(times) || times < 0) refuse(`'${name}' happens ${times} times`);
  if (kind !== 'irq') return;
  if (vector === undefined) refuse(`'${name}' is an irq without a vector`);
  if (!isVector(vector) || vector === NMI_VECTOR)
    refuse(`'${name}' is an irq of vector ${vector}: a vector is 0 to 255, and 2 is the NMI`);
}
