/** What the kernel's own steps cost a driver with a clock, beside the machine's (sim's table). */
import type { BackendCost } from '../tlb.ts';

/** By the name of the step. */
export const KERNEL_COSTS: Readonly<Record<string, BackendCost>> = {
  syscall: { ns: 60, source: 'assumption: entry and exit without mitigations, 150 cycles' },
  copyPage: { ns: 200, source: 'assumption: 4 KiB at 20 GB/s' },
  clearUserPage: { ns: 100, source: 'assumption: 4 KiB at 40 GB/s' },
  copyHugePage: { ns: 102_400, source: 'assumption: 2 MiB at 20 GB/s' },
  clearHugePage: { ns: 51_200, source: 'assumption: 2 MiB at 40 GB/s' },
  swapOut: { ns: 10_000, source: 'assumption: a write to a fast NVMe device, waited for' },
  swapIn: { ns: 10_000, source: 'assumption: a read from a fast NVMe device' },
  rcuNest: { ns: 1, source: 'a counter of the task; free without CONFIG_PREEMPT_RCU' },
  rcuSeeQuiet: { ns: 0, source: 'no instruction: stands for what ticks and idle loops report' },
  rcuAwaitQuiet: { ns: 0, source: 'no instruction: the waiting itself' },
  rcuGracePeriod: {
    ns: 5_000_000,
    source: '5..30 ms in collected ranges; 22.9 ms on average on 64 loaded cores (Lance Yang 2026)',
  },
};
