/**
 * Invalidating by broadcast. A TLBI goes to every CPU of the inner shareable domain, whoever runs
 * there and whatever it does, and a DSB waits until all of them have done it; software on the others
 * has no part in it. Two orders make a flush right. The entry is in memory before the TLBI, or a walk
 * in between caches it again; and the ASID is read after the entry is in memory, see context.ts.
 *
 * Follows arch/arm64/include/asm/tlbflush.h. Not modelled: the hint which level the entry is of (TTL),
 * ISB, workarounds for errata (some of which interrupt CPUs or repeat the TLBI), and MMU notifiers.
 */
import {
  assert,
  call,
  dsb,
  everything,
  type Invalidation,
  type Op,
  PAGE_SIZE,
  smpMb,
  tlbi,
  wholePcid,
} from '@shootdown/machine';
import {
  type FlushTlbInfo,
  type Kernel,
  type Kthread,
  type MmStruct,
  TLB_FLUSH_ALL,
  type TlbBatch,
} from '@shootdown/mmu-gather';
import { arm64Of, asidOf } from './context.ts';

/** MAX_DVM_OPS: PTRS_PER_PTE. One entry fewer is still flushed one by one. */
export const MAX_DVM_OPS = 512;

/** MAX_TLBI_RANGE_PAGES: what one range TLBI reaches at most: (31 + 1) * 2^(5 * 3 + 1), 8 GiB. */
export const MAX_TLBI_RANGE_PAGES: number = 2 ** 21;

/**
 * DSB ISHST: earlier stores are in memory, before the TLBI and before the ASID is read. Pairs with
 * checkAndSwitchContext(). It waits for no TLBI, so it is the machine's fence and not its DSB.
 */
const dsbIshst = (): Op<void> => smpMb();

/** flush_tlb_mm: TLBI ASIDE1IS. */
export function* flushTlbMm(k: Kernel, mm: MmStruct): Kthread {
  yield* dsbIshst();
  yield* tlbi(wholePcid(yield* call(asidOf(k, mm))));
  yield* dsb();
}

/** What the TLBIs of a range have in common. */
type RangeOp = Pick<Invalidation, 'pcid' | 'globals' | 'upper'>;

/** A page-aligned range. */
interface Range {
  readonly start: number;
  readonly pages: number;
  /** Bytes that one entry maps. */
  readonly stride: number;
}

/** __flush_tlb_range_limit_excess: not for speed, but to keep the interconnect from a soft lock-up. */
function limitExcess(k: Kernel, { pages, stride }: Range): boolean {
  if (arm64Of(k).features.tlbRange) return pages > MAX_TLBI_RANGE_PAGES;
  return pages >= (MAX_DVM_OPS * stride) / PAGE_SIZE;
}

const one = (op: RangeOp, from: number): Op<void> =>
  tlbi({ ...op, from, pages: 1, stride: PAGE_SIZE });

/** __flush_tlb_range_op: without DSBs. */
function* flushTlbRangeOp(k: Kernel, op: RangeOp, range: Range): Kthread {
  let { start, pages } = range;
  if (!arm64Of(k).features.tlbRange) {
    for (; pages > 0; start += range.stride, pages -= range.stride / PAGE_SIZE)
      yield* one(op, start);
    return;
  }
  for (let scale = 3; scale >= 0; scale--) {
    // An instruction has 5 bits for how many units of 2^(5 * scale + 1) pages it names.
    const unit = 2 ** (5 * scale + 1);
    const named = Math.min(Math.floor(pages / unit), 32) * unit;
    if (named === 0) continue;
    yield* tlbi({ ...op, from: start, pages: named, stride: PAGE_SIZE });
    start += named * PAGE_SIZE;
    pages -= named;
  }
  if (pages > 0) yield* one(op, start);
}

/** A range of an mm: of which size its entries are, and whether tables stay. */
export interface MmRange {
  readonly start: number;
  readonly end: number;
  readonly strideShift: number;
  /** Only last-level entries have changed, so the walk caches stay: TLBI VALE1IS, not VAE1IS. */
  readonly lastLevel: boolean;
}

const alignedRange = (start: number, end: number, stride: number): Range => {
  const first = Math.floor(start / stride) * stride;
  return { start: first, pages: (Math.ceil(end / stride) * stride - first) / PAGE_SIZE, stride };
};

/**
 * Begins to invalidate a range; who relies on it waits by a DSB.
 *
 * @kernel arch/arm64/include/asm/tlbflush.h __flush_tlb_range_nosync
 */
function* __flushTlbRangeNosync(k: Kernel, mm: MmStruct, what: MmRange): Kthread {
  const range = alignedRange(what.start, what.end, 2 ** what.strideShift);
  if (limitExcess(k, range)) {
    yield* call(flushTlbMm(k, mm));
    return;
  }
  yield* dsbIshst();
  const upper = what.lastLevel ? 'none' : 'path';
  // By address and ASID: global translations match any ASID.
  const op: RangeOp = { pcid: yield* call(asidOf(k, mm)), globals: true, upper };
  yield* call(flushTlbRangeOp(k, op, range));
}

/** __flush_tlb_range: and waits. */
export function* __flushTlbRange(k: Kernel, mm: MmStruct, what: MmRange): Kthread {
  yield* call(__flushTlbRangeNosync(k, mm, what));
  yield* dsb();
}

/** The contract's flush of an mm: flush_tlb_mm(), flush_tlb_page() or flush_tlb_range(). */
export function* flushTlbMmRange(k: Kernel, info: FlushTlbInfo): Kthread {
  const { mm, start, end, strideShift, freedTables } = info;
  assert(mm !== null, 'a range is flushed of some mm');
  if (end === TLB_FLUSH_ALL) yield* call(flushTlbMm(k, mm));
  else yield* call(__flushTlbRange(k, mm, { start, end, strideShift, lastLevel: !freedTables }));
}

/** flush_tlb_all: TLBI VMALLE1IS. */
export function* flushTlbAll(): Kthread {
  yield* dsbIshst();
  yield* tlbi(everything(true));
  yield* dsb();
}

/**
 * TLBI VAALE1IS: of whichever ASID.
 *
 * @kernel arch/arm64/include/asm/tlbflush.h flush_tlb_kernel_range
 */
export function* flushTlbKernelRange(k: Kernel, start: number, end: number): Kthread {
  if (end === TLB_FLUSH_ALL) return yield* call(flushTlbAll());
  const range = alignedRange(start, end, PAGE_SIZE);
  if (limitExcess(k, range)) return yield* call(flushTlbAll());
  yield* dsbIshst();
  yield* call(flushTlbRangeOp(k, { pcid: null, globals: true, upper: 'none' }, range));
  yield* dsb();
}

const NO_STEPS: readonly never[] = [];

/** arch_tlbbatch_should_defer: waiting is what costs, and it is worth sharing with anybody. */
export function* archTlbbatchShouldDefer(): Kthread<boolean> {
  yield* NO_STEPS;
  return true;
}

/** arch_tlbbatch_add_pending: invalidates now and does not wait, so there is nothing to collect. */
export function* archTlbbatchAddPending(
  k: Kernel,
  _batch: TlbBatch,
  mm: MmStruct,
  addr: number,
): Kthread {
  const page = { start: addr, end: addr + PAGE_SIZE, strideShift: Math.log2(PAGE_SIZE) };
  yield* call(__flushTlbRangeNosync(k, mm, { ...page, lastLevel: true }));
}

/** arch_tlbbatch_flush: waits for all of them at once. */
export function* archTlbbatchFlush(): Kthread {
  yield* dsb();
}
