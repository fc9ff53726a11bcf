/**
 * `npm run bench`: every number of the documentation that is a speed, as ratios of one run on this
 * machine.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { kernelBench, type KernelSize } from './kernelBench.ts';
import { machineBenches, type MachineSize } from './machineBench.ts';
import { table } from './measure.ts';
import { datBench, type Size, textBench } from './traceBench.ts';
import { validateBench, type ValidateSize } from './validateBench.ts';

const full: Size = { textMegabytes: 200, datRepeats: 100, runs: 5 };
const quick: Size = { textMegabytes: 20, datRepeats: 10, runs: 3 };
const fullMachine: MachineSize = { ops: 5_000_000, ipis: 500_000, broadcasts: 10_000, runs: 5 };
const quickMachine: MachineSize = { ops: 500_000, ipis: 50_000, broadcasts: 1_000, runs: 3 };
const fullKernel: KernelSize = { flushes: 200_000, faults: 200_000, runs: 3 };
const quickKernel: KernelSize = { flushes: 20_000, faults: 20_000, runs: 2 };
const fullValidate: ValidateSize = { repeats: 20, runs: 5 };
const quickValidate: ValidateSize = { repeats: 3, runs: 2 };
const size = process.argv.includes('--quick') ? quick : full;

const show = (title: string, body: string): void =>
  void process.stdout.write(`${title}\n${body}\n\n`);
show(
  `ftrace text, ${size.textMegabytes} MB, best of ${size.runs}; ratios to the last row`,
  table(await textBench(size)),
);
show(
  `trace.dat v6, 6,908 events x ${size.datRepeats}, best of ${size.runs}; ratios to the last row`,
  table(await datBench(size)),
);
const machineSize = process.argv.includes('--quick') ? quickMachine : fullMachine;
for (const { title, cases } of await machineBenches(machineSize)) show(title, table(cases));
const kernelSize = process.argv.includes('--quick') ? quickKernel : fullKernel;
show(
  `kernel code by the clock, best of ${kernelSize.runs}; ratios to the last row`,
  table(await kernelBench(kernelSize)),
);
const validateSize = process.argv.includes('--quick') ? quickValidate : fullValidate;
show(
  `validate, 13,629 events x ${validateSize.repeats}, best of ${validateSize.runs}; ratios to the last row`,
  table(await validateBench(validateSize)),
);
// In a process of its own: collecting garbage here would slow down what is measured after it.
const memory = fileURLToPath(new URL('memoryMain.ts', import.meta.url));
process.stdout.write(execFileSync(process.execPath, [...process.execArgv, memory]));
const megabytes = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(`most memory of this process: ${megabytes} MB\n`);
