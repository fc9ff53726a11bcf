/**
 * Work of the kernel that no other CPU notices and that takes time all the same: what costs.ts says.
 */
import { Op, type OpKind, opKind } from '@shootdown/machine';

const kind = (name: string): OpKind =>
  opKind({
    name,
    ready: () => true,
    touch: () => undefined,
    execute: () => undefined,
  });

/** Kinds of work. */
export type KernelWork =
  | 'syscall'
  | 'copyPage'
  | 'copyHugePage'
  | 'clearUserPage'
  | 'clearHugePage'
  | 'swapOut'
  | 'swapIn';

const KINDS: Readonly<Record<KernelWork, OpKind>> = {
  syscall: kind('syscall'),
  copyPage: kind('copyPage'),
  copyHugePage: kind('copyHugePage'),
  clearUserPage: kind('clearUserPage'),
  clearHugePage: kind('clearHugePage'),
  swapOut: kind('swapOut'),
  swapIn: kind('swapIn'),
};

/** One piece of work. */
export const work = (name: KernelWork): Op<void> => new Op<void>(KINDS[name], null, -1, null);
