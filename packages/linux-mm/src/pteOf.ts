/** Entries as faults make them: vm_page_prot, and what the access adds. */
import { Pte } from '@shootdown/machine';
import type { VmArea } from '@shootdown/mmu-gather';

/** Flags of a fresh entry of `vma` after an access: mk_pte, pte_mkwrite, pte_mkdirty. */
export const flagsFor = ({ flags }: VmArea, write: boolean): number =>
  Pte.present +
  Pte.accessed +
  (flags.read || flags.write ? Pte.user : 0) +
  (write && flags.write ? Pte.write + Pte.dirty : 0);

/** `entry` with `flag` set, or without it. */
export const setFlag = (entry: number, flag: number): number => entry + flag - (entry & flag);
export const clearFlag = (entry: number, flag: number): number => entry - (entry & flag);
