/**
 * What x86 keeps per CPU, per mm and per kernel for its TLBs.
 *
 * Follows arch/x86/include/asm/tlbflush.h and mmu.h.
 *
 * Invariant: if ctxs[a] = { ctxId, tlbGen } then under ASID a this CPU's TLB holds nothing that a
 * flush of that mm up to that generation should have removed. It may hold less.
 */
import { assert, type Cell, type CpuId } from '@shootdown/machine';
import {
  type CpuMaskPtr,
  type Edition,
  type FlushTlbInfo as GenericFlush,
  HZ,
  jiffies,
  type Kernel,
  type Kthread,
  type MmStruct,
  type MmuGather,
} from '@shootdown/mmu-gather';

/** TLB_NR_DYN_ASIDS */
export const TLB_NR_DYN_ASIDS = 6;

/** LOADED_MM_SWITCHING: CR3, loaded_mm and mm_cpumask are not in step at this moment. */
export const LOADED_MM_SWITCHING: unique symbol = Symbol('LOADED_MM_SWITCHING');

/** cpu_tlbstate.loaded_mm */
export type LoadedMm = MmStruct | typeof LOADED_MM_SWITCHING;

/** struct tlb_context: what an ASID's translations are of, and up to which generation. */
export interface TlbContext {
  /** 0: nobody's. */
  ctxId: number;
  tlbGen: number;
}

/**
 * cpu_tlbstate, and cpu_tlbstate_shared.isLazy, which has a cache line of its own. What is no cell
 * is looked at by its CPU alone, with interrupts off.
 */
export interface CpuTlbState {
  readonly loadedMm: Cell<LoadedMm>;
  readonly isLazy: Cell<boolean>;
  loadedMmAsid: number;
  nextAsid: number;
  /** Other ASIDs hold stale kernel translations (PTI): drop them at the next switch. */
  invalidateOther: boolean;
  /** PTI: kernel PCIDs whose user half is to be flushed on the way to user mode. */
  readonly userPcidFlushMask: Set<number>;
  readonly ctxs: readonly TlbContext[];
}

/** mm->context */
export interface MmContext {
  /** Never used again. */
  readonly ctxId: number;
  /** Counts the flushes that were asked for. */
  readonly tlbGen: Cell<number>;
  /** jiffies */
  readonly nextTrimCpumask: Cell<number>;
}

/** struct flush_tlb_info */
export interface FlushTlbInfo extends GenericFlush {
  /** The generation that this flush brings about; TLB_GENERATION_INVALID if none. */
  readonly newTlbGen: number;
  readonly initiatingCpu: CpuId;
  /** Also call CPUs of the mask that have another mm loaded, so that they leave it. */
  readonly trimCpumask: boolean;
}

/** Features of the CPUs. */
export interface X86Features {
  /** Default true. Without it every switch flushes. */
  readonly pcid: boolean;
  /** Default true. */
  readonly invpcid: boolean;
  /** Page-table isolation (Meltdown mitigation): user mode has a PCID of its own. Default false. */
  readonly pti: boolean;
}

/** pv_ops.mmu, as far as TLBs go: what a hypervisor's guest code, or INVLPGB, replaces. */
export interface PvMmuOps {
  flushTlbMulti(k: Kernel, cpumask: CpuMaskPtr, info: FlushTlbInfo): Kthread;
  /** See TlbClaims. Default false: the native flush has it set by nativePvTlbInit(). */
  readonly flushTlbMultiImpliesIpiBroadcast: boolean;
  flushTlbOneUser(k: Kernel, addr: number): Kthread;
  flushTlbKernel(k: Kernel, start: number, end: number): Kthread;
  /** Before the last user of an mm goes. */
  exitMmap(k: Kernel, mm: MmStruct): Kthread;
  /** Until 6.15: how a page table leaves. `page`: by the page batch, as interrupts did the waiting. */
  readonly tlbRemoveTable: 'page' | 'table';
}

/** The functions of this package that an edition may replace: called through `x86(k).fn`. */
export interface X86Functions {
  switchMmIrqsOff(k: Kernel, next: MmStruct): Kthread;
  flushTlbFunc(k: Kernel, info: FlushTlbInfo): Kthread;
  shouldFlushTlb(k: Kernel, cpu: CpuId, info: FlushTlbInfo): Kthread<boolean>;
  flushTlbMmRange(k: Kernel, info: GenericFlush): Kthread;
  /** tlb_flush(): not the core's generic one, which has that name. */
  x86TlbFlush(k: Kernel, tlb: MmuGather): Kthread;
}

/** Kernel.arch of an x86 kernel. */
export interface X86 {
  readonly features: X86Features;
  readonly pv: PvMmuOps;
  readonly fn: Readonly<X86Functions>;
  readonly tlbstate: readonly CpuTlbState[];
  /** last_mm_ctx_id, init_mm's included. */
  readonly lastCtxId: number;
}

/** The x86 state of a kernel that an x86 backend runs. */
export const x86 = (k: Kernel): X86 => k.arch as X86;

/** cpu_tlbstate of `cpu`. */
export function tlbstate(k: Kernel, cpu: CpuId): CpuTlbState {
  const state = x86(k).tlbstate[cpu];
  assert(state !== undefined, 'every CPU has its cpu_tlbstate');
  return state;
}

/** mm->context */
export const contextOf = (mm: MmStruct): MmContext => mm.context as MmContext;

/** atomic64_inc_return(&last_mm_ctx_id); init_mm has 1. Numbers mms in the order they are made. */
export const initNewContext = (k: Kernel, mm: MmStruct): MmContext => ({
  ctxId: k.ids.mm++,
  // 6.12 begins at 0, and so does init_mm for ever: nobody flushes it by generation.
  tlbGen: k.machine.cell(`${mm.name}.tlb_gen`, 0),
  nextTrimCpumask: k.machine.cell(`${mm.name}.next_trim_cpumask`, jiffies(k) + HZ),
});

/** What an x86 backend's boot makes: every CPU on init_mm, under ASID 0. */
export function bootX86(
  k: Kernel,
  editions: readonly Edition[],
  { features, pv, fn }: Pick<X86, 'features' | 'pv' | 'fn'>,
): X86 {
  const { initMm, machine } = k;
  const { ctxId } = contextOf(initMm);
  const states = machine.cpus.map((cpu): CpuTlbState => {
    cpu.root = initMm.pgd;
    cpu.pcid = features.pcid ? kernPcid(0) : 0;
    return {
      loadedMm: machine.cell<LoadedMm>(`cpu_tlbstate.loaded_mm[${cpu.id}]`, initMm),
      isLazy: machine.cell(`cpu_tlbstate_shared.is_lazy[${cpu.id}]`, false),
      loadedMmAsid: 0,
      nextAsid: 1,
      invalidateOther: false,
      userPcidFlushMask: new Set(),
      ctxs: Array.from({ length: TLB_NR_DYN_ASIDS }, (_, asid): TlbContext => ({
        ctxId: asid === 0 ? ctxId : 0,
        tlbGen: 0,
      })),
    };
  });
  const replaced = Object.assign({}, fn, ...editions.map(({ replaces }) => ownPart(fn, replaces)));
  return { features, pv, fn: replaced as X86Functions, tlbstate: states, lastCtxId: ctxId };
}

/** Of an edition's replacements, those of this package's functions. */
const ownPart = (fn: X86Functions, replaces: object): object =>
  Object.fromEntries(Object.entries(replaces).filter(([name]) => Object.hasOwn(fn, name)));

/** kern_pcid: PCID 0 is never an mm's. */
export const kernPcid = (asid: number): number => asid + 1;

/** user_pcid: the user half under PTI. */
export const userPcid = (asid: number): number => kernPcid(asid) + 2048;
