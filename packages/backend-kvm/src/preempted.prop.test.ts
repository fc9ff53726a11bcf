/**
 * Random programs and schedules on a host that preempts: whatever the host does, no vCPU that runs
 * guest code uses a page that a flush was to take from it. What would break that is found.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  assert,
  call,
  Cell,
  readMask,
  readOnce,
  vcpuPark,
  writeOnce,
  xchg,
} from '@shootdown/machine';
import { nativeFlushTlbMulti, type PvMmuOps, type X86Features } from '@shootdown/arch-x86';
import type { TlbBackend } from '@shootdown/mmu-gather';
import { kvm } from './kvm.ts';
import { programs, type Programs, runAtRandom, TRANSLATES, USED } from './random.testlib.ts';
import { KVM_VCPU_FLUSH_TLB, KVM_VCPU_PREEMPTED, type KvmGuest, stealTimeOf } from './stealTime.ts';

const PREEMPTIONS = 8;
const seeds = fc.nat(1_000_000);

describe('no vCPU that runs guest code uses what was flushed', () => {
  test.each<[string, Partial<X86Features>]>([
    ['by default', {}],
    ['without PCID', { pcid: false }],
    ['with PTI', { pti: true }],
  ])('%s', (_, features) => {
    const sums = { uses: 0, pagesFreed: 0, whileAway: 0 };
    fc.assert(
      fc.property(programs, seeds, (what, seed) => {
        const seen = runAtRandom(what, seed, kvm({ features, preemptions: PREEMPTIONS }));
        expect([...seen.breaches]).toEqual([]);
        sums.uses += seen.uses;
        sums.pagesFreed += seen.pagesFreed;
        sums.whileAway += seen.whileAway;
      }),
      { numRuns: 400 },
    );
    // So that it says something: pages were freed while vCPUs that might have them were away.
    expect(Math.min(sums.uses, sums.pagesFreed, sums.whileAway)).toBeGreaterThan(100);
  });
});

/** The backend with other pv ops. */
const withFlush = (flushTlbMulti: PvMmuOps['flushTlbMulti']): TlbBackend => {
  const backend = kvm({ preemptions: PREEMPTIONS });
  const boot: TlbBackend['boot'] = (k, editions) => {
    const booted = backend.boot(k, editions) as KvmGuest;
    return { ...booted, pv: { ...booted.pv, flushTlbMulti } };
  };
  return { ...backend, boot };
};

/** Skips whoever is preempted and does not ask. */
const asksNobody = (): TlbBackend =>
  withFlush(function* (k, cpumask, info) {
    const mask = cpumask instanceof Cell ? yield* readMask(cpumask) : cpumask.copy();
    for (const cpu of mask.members())
      if (((yield* readOnce(stealTimeOf(k, cpu).preempted)) & KVM_VCPU_PREEMPTED) !== 0)
        mask.clear(cpu);
    yield* call(nativeFlushTlbMulti(k, mask, info));
  });

/** Asks by a plain store, so that a vCPU that has come back meanwhile is asked in vain. */
const asksByStore = (): TlbBackend =>
  withFlush(function* (k, cpumask, info) {
    const mask = cpumask instanceof Cell ? yield* readMask(cpumask) : cpumask.copy();
    for (const cpu of mask.members()) {
      const { preempted } = stealTimeOf(k, cpu);
      if (((yield* readOnce(preempted)) & KVM_VCPU_PREEMPTED) === 0) continue;
      yield* writeOnce(preempted, KVM_VCPU_PREEMPTED + KVM_VCPU_FLUSH_TLB);
      mask.clear(cpu);
    }
    yield* call(nativeFlushTlbMulti(k, mask, info));
  });

/** A host that forgets what it was asked for. */
function forgetfulHost(): TlbBackend {
  const backend = kvm({ preemptions: PREEMPTIONS });
  let guest: KvmGuest | null = null;
  return {
    ...backend,
    boot: (k, editions) => (guest = backend.boot(k, editions) as KvmGuest),
    environment: (cpus) =>
      (backend.environment?.(cpus) ?? []).map((move) => ({
        ...move,
        *body() {
          const preempted = guest?.stealTime[move.cpu]?.preempted;
          assert(preempted !== undefined, 'the guest has booted');
          yield* writeOnce(preempted, KVM_VCPU_PREEMPTED);
          yield* vcpuPark();
          yield* xchg(preempted, 0);
        },
      })),
  };
}

describe('a mistake is found', () => {
  test.each<[string, () => TlbBackend]>([
    ['preempted vCPUs are skipped and not asked', asksNobody],
    ['they are asked by a plain store', asksByStore],
    ['the host forgets', forgetfulHost],
  ])('%s', (_, mutant) => {
    const samples = fc.sample(fc.tuple(programs, seeds), { numRuns: 2000, seed: 5 });
    const breaks = ([what, seed]: [Programs, number]): boolean => {
      const { breaches } = runAtRandom(what, seed, mutant());
      return breaches.has(USED) || breaches.has(TRANSLATES);
    };
    expect(samples.some(breaks)).toBe(true);
  });
});
