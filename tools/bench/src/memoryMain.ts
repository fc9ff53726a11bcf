/** Prints how much memory a machine keeps. */
import { machineBytes } from './machineMemory.ts';

machineBytes(512); // The first time code is compiled as well.
const [small, large] = [machineBytes(512), machineBytes(4096)];
process.stdout.write(
  `a machine after a call to all: ${(large / 1e6).toFixed(1)} MB with 4,096 CPUs, ` +
    `${(small / 1e6).toFixed(1)} MB with 512\n`,
);
