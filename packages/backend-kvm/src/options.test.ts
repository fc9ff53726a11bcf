/** When a guest skips preempted vCPUs, what it then claims, and whose moves the host's are. */
import { describe, expect, test } from 'vitest';
import {
  call,
  type EnvironmentMove,
  Machine,
  PAGE_SIZE,
  transition,
  TransitionKind,
  type UsageError,
} from '@shootdown/machine';
import { nativePvMmuOps, x86 } from '@shootdown/arch-x86';
import {
  composeKernel,
  coreFunctions,
  type Edition,
  KERNEL_COSTS,
  type Release,
  startCpus,
} from '@shootdown/mmu-gather';
import { newProcess, type User } from '@shootdown/linux-mm';
import { runByClock } from '@shootdown/sim';
import { BASE, emptyMm, guest } from './kernel.testlib.ts';
import { kvm, type KvmCpuid, type KvmOptions, kvmPvMmuOps } from './kvm.ts';
import { kvmGuest } from './stealTime.ts';

const YES_NO = [true, false];

/** Every CPUID. */
const CPUIDS: readonly KvmCpuid[] = YES_NO.flatMap((pvTlbFlush) =>
  YES_NO.flatMap((realtimeHint) =>
    YES_NO.flatMap((stealTime) =>
      YES_NO.map((mwaitExposed) => ({ pvTlbFlush, realtimeHint, stealTime, mwaitExposed })),
    ),
  ),
);
const ONLY: KvmCpuid = {
  pvTlbFlush: true,
  realtimeHint: false,
  stealTime: true,
  mwaitExposed: false,
};

describe('preempted vCPUs are skipped', () => {
  test('with one CPUID of sixteen, in a guest of several vCPUs', () => {
    expect(CPUIDS).toHaveLength(16);
    const skipping = CPUIDS.filter((cpuid) => x86(guest({ kvm: cpuid }).k).pv === kvmPvMmuOps);
    expect(skipping).toEqual([ONLY]);
  });

  test.each<[string, KvmOptions]>([
    ['no KVM_FEATURE_PV_TLB_FLUSH', { pvTlbFlush: false }],
    ['KVM_HINTS_REALTIME', { realtimeHint: true }],
    ['no KVM_FEATURE_STEAL_TIME', { stealTime: false }],
    ['MWAIT', { mwaitExposed: true }],
  ])('not with %s: then everything is native, the claim too', (_, options) => {
    const { k } = guest({ kvm: options });
    expect(x86(k).pv).toBe(nativePvMmuOps);
    expect(k.claims.flushTlbMultiImpliesIpiBroadcast).toBe(true);
  });

  test('not in a guest of one vCPU, which claims nothing all the same', () => {
    const { k } = guest({ cpus: 1 });
    expect(x86(k).pv).toBe(nativePvMmuOps);
    expect(k.claims.flushTlbMultiImpliesIpiBroadcast).toBe(false);
  });

  test('by a word per vCPU, if the host offers steal time', () => {
    expect(kvmGuest(guest({ cpus: 3 }).k).stealTime).toHaveLength(3);
    expect(kvmGuest(guest({ kvm: { stealTime: false } }).k).stealTime).toEqual([]);
  });
});

describe('the claim that a flush implies an IPI broadcast', () => {
  const claimWith = (name: string): boolean => {
    const edition: Edition = { name, source: 'made up by a test', notModelled: '', replaces: {} };
    const machine = new Machine({ cpus: 2 });
    const parts = { machine, backend: kvm(), functions: coreFunctions, editions: [edition] };
    return composeKernel(parts).claims.flushTlbMultiImpliesIpiBroadcast;
  };

  test('is not made, but was in v4 of the series', () => {
    expect(claimWith('targeted-sync-v5')).toBe(false);
    expect(claimWith('targeted-sync-v4')).toBe(true);
  });
});

/** A process on CPU 0, with a thread that spins on each other CPU, unmaps 2 MiB with their table. */
function munmaps(kernel: Release, options: KvmOptions): ReturnType<typeof guest> & Freed {
  const cpus = 3;
  const made = guest({ cpus, kernel, kvm: options });
  const { k } = made;
  const done = k.machine.cell('done', false);
  const freed: string[] = [];
  k.probe = (event) => {
    if (event.kind === 'free-table') freed.push(event.by);
  };
  newProcess(k, { comm: 'main', cpu: 0, mm: emptyMm(k) }, function* (user: User) {
    yield* call(user.mmap({ addr: BASE, length: 8 * PAGE_SIZE }));
    yield* call(user.touch(BASE, 8));
    for (let cpu = 1; cpu < cpus; cpu++)
      yield* call(
        user.thread(cpu, function* (other) {
          yield* call(other.read(BASE, 1));
          yield* call(other.spin(done));
        }),
      );
    // The others are there by then.
    yield* call(user.compute(100_000));
    yield* call(user.munmap(BASE, 8 * PAGE_SIZE));
    yield* call(user.set(done));
  });
  startCpus(k);
  runByClock(k.machine, { costs: KERNEL_COSTS });
  return { ...made, freed };
}

interface Freed {
  /** How tables were freed. */
  readonly freed: readonly string[];
}

describe('while all vCPUs run', () => {
  test('a guest that could skip them records what a native one does', () => {
    const [skipping, plain] = [{}, { pvTlbFlush: false }].map((options) =>
      munmaps('7.0', options).records.map(({ cpu, context, event }) => ({ cpu, context, event })),
    );
    expect(skipping).toEqual(plain);
    const flushes = plain?.filter(({ event }) => event.kind === 'tlb_flush') ?? [];
    // munmap of 8 pages with their table: announced once, done on all three; CPU 0 comes first.
    expect(flushes.filter(({ event }) => 'pages' in event && event.pages === 8)).toMatchObject([
      { cpu: 0, event: { reason: 4 } },
      { cpu: 0, event: { reason: 3 } },
      { cpu: 1, event: { reason: 1 } },
      { cpu: 2, event: { reason: 1 } },
    ]);
  });
});

describe('page tables of a guest', () => {
  test.each<[Release, string, KvmOptions, string]>([
    ['6.12.117', 'wait for a grace period, as nobody waits for preempted walkers', {}, 'rcu'],
    ['6.12.117', 'go by the page batch if it is native', { pvTlbFlush: false }, 'page-batch'],
    ['7.0', 'wait for a grace period', {}, 'rcu'],
    ['7.0', 'do so if it is native as well', { pvTlbFlush: false }, 'rcu'],
  ])('in %s %s', (kernel, _what, options, by) => {
    expect(new Set(munmaps(kernel, options).freed)).toEqual(new Set([by]));
  });
});

describe('what the host may do', () => {
  const movesOf = (options: KvmOptions, cpus: number): readonly EnvironmentMove[] =>
    kvm(options).environment?.(cpus) ?? [];

  const withCode = (code: string): UsageError => expect.objectContaining({ code }) as UsageError;

  test('is nothing unless asked for', () => {
    expect(movesOf({}, 4)).toEqual([]);
  });

  test('is to preempt each vCPU so many times', () => {
    expect(movesOf({ preemptions: 5 }, 2)).toMatchObject([
      { name: 'host preempts vCPU 0', cpu: 0, kind: 'host', times: 5 },
      { name: 'host preempts vCPU 1', cpu: 1, kind: 'host', times: 5 },
    ]);
  });

  test('lasts as long as asked for, by the clock', () => {
    const lasts = (preemptedNs: number): number => {
      const { k } = guest({ kvm: { preemptedNs } });
      return runByClock(k.machine, { plan: [{ atNs: 0, move: 1 }] }).timeNs;
    };
    // Longer than the store of the word takes to be seen, which the way back waits for.
    expect(lasts(6000) - lasts(5000)).toBe(1000);
  });

  test('is the same without steal time, but nobody is told', () => {
    const { k } = guest({ kvm: { stealTime: false } });
    k.machine.execute(transition(TransitionKind.move, 1, 1));
    expect(k.machine.cpu(1).op?.kind.name).toBe('vcpuPark');
  });

  test.each<[KvmOptions]>([
    [{ preemptions: -1 }],
    [{ preemptions: Infinity }],
    [{ preemptedNs: 0.5 }],
  ])('is refused as %o', (options) => {
    expect(() => kvm(options)).toThrowError(withCode('ERR_OPTION'));
  });

  test('is for one machine', () => {
    const backend = kvm({ preemptions: 1 });
    const environment = backend.environment?.(2);
    const compose = (): unknown =>
      composeKernel({
        machine: new Machine({ cpus: 2, environment }),
        backend,
        functions: coreFunctions,
      });
    compose();
    expect(compose).toThrowError(withCode('ERR_BACKEND'));
  });

  test('is refused on a machine where no guest has booted', () => {
    const machine = new Machine({ cpus: 2, environment: movesOf({ preemptions: 1 }, 2) });
    expect(() => {
      machine.execute(transition(TransitionKind.move, 1, 1));
    }).toThrowError(withCode('ERR_BACKEND'));
  });
});
