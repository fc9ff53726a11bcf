/**
 * Rules broken one at a time, for negative controls: a validation that does not notice them would
 * notice nothing.
 */
import {
  contextOf,
  flushHere,
  type FlushTlbInfo,
  TLB_NR_DYN_ASIDS,
  tlbstate,
  type X86,
  type X86Functions,
} from '@shootdown/arch-x86';
import { native } from '@shootdown/backend-native';
import { call, Cell, CpuMask, readOnce } from '@shootdown/machine';
import { type Kernel, smpProcessorId, TLB_FLUSH_ALL, type TlbBackend } from '@shootdown/mmu-gather';
import type { DecisionKind } from './decisions.ts';
import type { CpuFeatures } from './validate.ts';

/** One broken rule. */
export interface BrokenRule {
  readonly name: string;
  /** The kind of decision that shows it first. */
  readonly seenIn: DecisionKind;
  readonly breaks: (arch: X86) => Partial<X86>;
}

const withFn = (arch: X86, fn: Partial<X86Functions>): Partial<X86> => ({
  fn: { ...arch.fn, ...fn },
});

const here = (k: Kernel): ReturnType<typeof tlbstate> => tlbstate(k, smpProcessorId(k));

/** The rules. */
export const BROKEN_RULES: readonly BrokenRule[] = [
  {
    name: 'the ceiling is 32',
    seenIn: 'range',
    breaks: (arch) =>
      withFn(arch, {
        flushTlbMmRange: (k, info) => {
          const entries = Math.floor((info.end - info.start) / 2 ** info.strideShift);
          const all = entries > 32 ? { start: 0, end: TLB_FLUSH_ALL } : {};
          return arch.fn.flushTlbMmRange(k, { ...info, ...all });
        },
      }),
  },
  {
    name: 'lazy CPUs are not told from others',
    seenIn: 'should_flush',
    breaks: (arch) =>
      withFn(arch, {
        *shouldFlushTlb(k, cpu, info) {
          const loaded = yield* readOnce(tlbstate(k, cpu).loadedMm);
          return info.mm === null || loaded === info.mm;
        },
      }),
  },
  {
    name: 'freed_tables makes no difference',
    seenIn: 'targets_freed',
    breaks: (arch) => ({
      pv: {
        ...arch.pv,
        flushTlbMulti: (k, mask, info) =>
          arch.pv.flushTlbMulti(k, mask, { ...info, freedTables: false }),
      },
    }),
  },
  {
    name: 'a flush raises the generation by two',
    seenIn: 'generation',
    breaks: (arch) =>
      withFn(arch, {
        *flushTlbMmRange(k, info) {
          if (info.mm !== null) contextOf(info.mm).tlbGen.value++;
          yield* call(arch.fn.flushTlbMmRange(k, info));
        },
      }),
  },
  {
    name: 'five ASIDs',
    seenIn: 'asid',
    breaks: (arch) =>
      withFn(arch, {
        *switchMmIrqsOff(k, next) {
          const state = here(k);
          if (state.nextAsid === TLB_NR_DYN_ASIDS - 1) state.nextAsid = TLB_NR_DYN_ASIDS;
          yield* call(arch.fn.switchMmIrqsOff(k, next));
        },
      }),
  },
  {
    name: 'reason 4 only if somebody is interrupted',
    seenIn: 'send',
    breaks: (arch) => ({
      pv: {
        ...arch.pv,
        *flushTlbMulti(k, mask, info) {
          if (nobody(k, mask instanceof Cell ? mask.value : mask, info))
            yield* call(flushHere(k, info));
          else yield* call(arch.pv.flushTlbMulti(k, mask, info));
        },
      },
    }),
  },
  {
    name: 'a CPU stays in the mm_cpumask that it leaves',
    seenIn: 'cpumask',
    breaks: (arch) =>
      withFn(arch, {
        *switchMmIrqsOff(k, next) {
          const { loadedMm } = here(k);
          const left = loadedMm.value;
          yield* call(arch.fn.switchMmIrqsOff(k, next));
          if (typeof left !== 'symbol' && left !== next && left !== k.initMm)
            left.cpumask.value.set(smpProcessorId(k));
        },
      }),
  },
  {
    name: 'every call interrupts, also where one is pending',
    seenIn: 'vector',
    breaks: (arch) => ({
      pv: {
        ...arch.pv,
        *flushTlbMulti(k, mask, info) {
          const cpus = mask instanceof Cell ? mask.value : mask;
          for (const cpu of cpus) k.calls.queue(cpu).value = null;
          yield* call(arch.pv.flushTlbMulti(k, mask, info));
        },
      },
    }),
  },
  {
    name: 'a flush that comes late is done again',
    seenIn: 'flush',
    breaks: (arch) =>
      withFn(arch, {
        flushTlbFunc: (k, info) => arch.fn.flushTlbFunc(k, { ...info, newTlbGen: 0 }),
      }),
  },
  {
    name: 'coming back from lazy mode compares no generations',
    seenIn: 'switch',
    breaks: (arch) =>
      withFn(arch, {
        *switchMmIrqsOff(k, next) {
          const { ctxs } = here(k);
          const { ctxId, tlbGen } = contextOf(next);
          for (const ctx of ctxs) if (ctx.ctxId === ctxId) ctx.tlbGen = tlbGen.value;
          yield* call(arch.fn.switchMmIrqsOff(k, next));
        },
      }),
  },
];

/** Nobody of `mask` but this CPU runs the mm. */
function nobody(k: Kernel, mask: CpuMask, info: FlushTlbInfo): boolean {
  const self = smpProcessorId(k);
  return mask
    .members()
    .every(
      (cpu) =>
        cpu === self ||
        (!info.freedTables &&
          (tlbstate(k, cpu).isLazy.value || tlbstate(k, cpu).loadedMm.value !== info.mm)),
    );
}

/** The native backend with `rule` broken. */
export function brokenBackend({ breaks }: BrokenRule): (features: CpuFeatures) => TlbBackend {
  return (features) => {
    const backend = native({ features });
    return {
      ...backend,
      boot(k, editions) {
        const arch = backend.boot(k, editions) as X86;
        return { ...arch, ...breaks(arch) } satisfies X86;
      },
    };
  };
}
