/**
 * The ids and units that every package shares. They are branded numbers: a CPU is not a page number
 * is not a time, and the compiler knows it.
 */

/** A CPU's number, as the kernel numbers it: 0-based, with possible gaps. */
export type CpuId = number & { readonly __brand: 'CpuId' };

/**
 * Nanoseconds, an integer. In a record of a trace: since the trace's origin, so that it stays exact
 * for 104 days of recording.
 */
export type Nanoseconds = number & { readonly __brand: 'Nanoseconds' };

/**
 * A 64-bit address as a signed number: a canonical kernel address is a small negative one. Exact
 * below 2^53 and, for addresses aligned to 8 bytes, over the whole canonical range of 57-bit
 * (five-level) paging, because a double then has bits to spare.
 */
export type VirtAddr = number & { readonly __brand: 'VirtAddr' };

/**
 * A physical address, in bytes. Words of memory are 8 bytes and aligned; an address of a page-table
 * entry is one of these, so that kernel code can hand pointers around.
 */
export type PhysAddr = number & { readonly __brand: 'PhysAddr' };

/** Page frame number: a physical address without its 12 low bits. */
export type Pfn = number & { readonly __brand: 'Pfn' };

/** Names `value` a CPU's number. Costs nothing at run time. */
export const cpuId = (value: number): CpuId => value as CpuId;

/** Names `value` a number of nanoseconds. Costs nothing at run time. */
export const nanoseconds = (value: number): Nanoseconds => value as Nanoseconds;

/** Names `value` an address. Costs nothing at run time. */
export const virtAddr = (value: number): VirtAddr => value as VirtAddr;

/** Names `value` a physical address. Costs nothing at run time. */
export const physAddr = (value: number): PhysAddr => value as PhysAddr;

/** Names `value` a page frame number. Costs nothing at run time. */
export const pfn = (value: number): Pfn => value as Pfn;
