/**
 * How fast kernel code is simulated: page faults of one thread, and flushes that interrupt every other
 * CPU, on machines of growing size. A flush is a touch and MADV_DONTNEED of one page.
 */
import { PAGE_SIZE, Machine } from '@shootdown/machine';
import { native } from '@shootdown/backend-native';
import { mmFunctions, type MmKernel, setUpWorkload, WORKLOADS } from '@shootdown/linux-mm';
import { composeKernel, KERNEL_COSTS } from '@shootdown/mmu-gather';
import { runByClock } from '@shootdown/sim';
import { type Measured, measure } from './measure.ts';

/** How much work a run of the benchmarks does. */
export interface KernelSize {
  /** Flush functions run, on all CPUs together. */
  readonly flushes: number;
  readonly faults: number;
  readonly runs: number;
}

/** The machines. */
export const CPUS: readonly number[] = [2, 8, 64, 512];

const MEMORY = 2 ** 30 / PAGE_SIZE;

/** Runs `madvise` and gives the kernel it ran on. */
function runMadvise(cpus: number, threads: number, pages: number, iterations: number): MmKernel {
  const workload = WORKLOADS.find(({ name }) => name === 'madvise');
  if (workload === undefined) throw new Error('there is no workload madvise');
  const machine = new Machine({ cpus, frames: MEMORY });
  const backend = native();
  const k = composeKernel({ machine, backend, functions: mmFunctions, frames: MEMORY });
  setUpWorkload(k, workload, { threads, values: { pages, iterations } });
  runByClock(machine, { costs: KERNEL_COSTS });
  return k;
}

/** Every thread but the first spins, and is interrupted each time. */
async function flushes(cpus: number, { flushes: wanted, runs }: KernelSize): Promise<Measured> {
  const iterations = Math.ceil(wanted / cpus);
  return await measure(`${cpus} CPUs, flush of one page`, 'flushes', runs, () => {
    const { stats } = runMadvise(cpus, cpus, 1, iterations);
    const done = (reason: number): number => stats.flushes.get(`${reason}:1`) ?? 0;
    return done(1) + done(3);
  });
}

/** One thread faults page after page in; the other CPUs idle. */
async function faults(cpus: number, { faults: wanted, runs }: KernelSize): Promise<Measured> {
  const pages = 512;
  return await measure(
    `${cpus} CPUs, page fault`,
    'faults',
    runs,
    () => runMadvise(cpus, 1, pages, Math.ceil(wanted / pages)).stats.vmstat.pgfault,
  );
}

/** Flush functions and page faults simulated per second. */
export async function kernelBench(size: KernelSize): Promise<readonly Measured[]> {
  const measured: Measured[] = [];
  for (const cpus of CPUS) measured.push(await flushes(cpus, size));
  for (const cpus of CPUS) measured.push(await faults(cpus, size));
  return measured;
}
