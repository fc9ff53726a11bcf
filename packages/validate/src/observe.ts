/**
 * Where a recording looks on. An observation is an Op that the kernel code waits at until the
 * recording has the record that belongs there; what it then gives is what was recorded, so that a
 * decision that went another way is put right in the same place where it is found.
 *
 * The functions of arch-x86 that a recording has probes on are replaced by themselves with such an
 * Op at their entry or return, as a kprobe replaces an instruction.
 */
import { type FlushTlbInfo, type PvMmuOps, type X86, type X86Functions } from '@shootdown/arch-x86';
import { call, type CpuId, Op, type OpKind, opKind } from '@shootdown/machine';
import type { CpuMaskPtr, MmStruct, TlbBackend } from '@shootdown/mmu-gather';

/** What the code is about to do, or has just decided, at a probe. */
export type Sighting =
  | { readonly kind: 'flush_tlb_mm_range'; readonly mm: MmStruct | null }
  | { readonly kind: 'flush_tlb_mm_range_ret' }
  | { readonly kind: 'flush_tlb_multi'; readonly mask: CpuMaskPtr; readonly info: FlushTlbInfo }
  | { readonly kind: 'should_flush'; readonly cpu: CpuId; readonly answer: boolean }
  | { readonly kind: 'flush_tlb_func'; readonly info: FlushTlbInfo }
  | { readonly kind: 'switch_mm'; readonly next: MmStruct };

const OBSERVE: OpKind = opKind({
  name: 'observe',
  ready: () => false,
  touch: () => undefined,
  execute: () => undefined,
});

const observe = <T = void>(sighting: Sighting): Op<T> => new Op<T>(OBSERVE, null, -1, sighting);

/** What the code that stands at `op` waits to be seen doing; null if it stands elsewhere. */
export const sightingOf = (op: Op | null): Sighting | null =>
  op !== null && op.kind === OBSERVE ? (op.operand as Sighting) : null;

/** What a probe gives that the recording does not show: what the code itself has decided. */
export const ownAnswer = (sighting: Sighting): unknown =>
  sighting.kind === 'should_flush' ? sighting.answer : undefined;

const probed = (fn: X86Functions): X86Functions => ({
  ...fn,
  *flushTlbMmRange(k, info) {
    yield* observe({ kind: 'flush_tlb_mm_range', mm: info.mm });
    yield* call(fn.flushTlbMmRange(k, info));
    yield* observe({ kind: 'flush_tlb_mm_range_ret' });
  },
  *shouldFlushTlb(k, cpu, info) {
    const answer = yield* call(fn.shouldFlushTlb(k, cpu, info));
    return yield* observe<boolean>({ kind: 'should_flush', cpu, answer });
  },
  *flushTlbFunc(k, info) {
    const seen = yield* observe<Partial<FlushTlbInfo>>({ kind: 'flush_tlb_func', info });
    yield* call(fn.flushTlbFunc(k, { ...info, ...seen }));
  },
  *switchMmIrqsOff(k, next) {
    yield* observe({ kind: 'switch_mm', next });
    yield* call(fn.switchMmIrqsOff(k, next));
  },
});

const probedPv = (pv: PvMmuOps): PvMmuOps => ({
  ...pv,
  *flushTlbMulti(k, mask, info) {
    const seen = yield* observe<Partial<FlushTlbInfo>>({ kind: 'flush_tlb_multi', mask, info });
    yield* call(pv.flushTlbMulti(k, mask, { ...info, ...seen }));
  },
});

/** `backend`, an x86 one, with a probe wherever a recording may have one. */
export const withProbes = (backend: TlbBackend): TlbBackend => ({
  ...backend,
  boot(k, editions) {
    const arch = backend.boot(k, editions) as X86;
    return { ...arch, pv: probedPv(arch.pv), fn: probed(arch.fn) } satisfies X86;
  },
});
