/**
 * The kernel's coarse time. Follows the machine's clock; an explorer has none, and there no time
 * passes: what happens once a second then never happens.
 */
import type { Kernel } from '../kernel.ts';

/** Ticks per second: CONFIG_HZ of the distributions' x86 kernels. */
export const HZ = 250;

const NS_PER_JIFFY = 1_000_000_000 / HZ;

/** `jiffies`. */
export const jiffies = (k: Kernel): number => Math.floor(k.machine.time / NS_PER_JIFFY);

/** time_after: whether `a` is later than `b`. */
export const timeAfter = (a: number, b: number): boolean => a > b;
