/**
 * Releases, CPU counts and CPUs of which there are no recordings: what the model itself would have
 * recorded, run by a clock with store buffers and interrupts in any place, read by a model that knows
 * no more of it than a recording shows.
 */
import { native } from '@shootdown/backend-native';
import { describe, expect, test } from 'vitest';
import { asTrace, type ModelRun, modelRecords } from './modelTrace.testlib.ts';
import { validate } from './validate.ts';

const WORKLOADS = ['madvise', 'munmap', 'mprotect', 'lazy', 'fork', 'mixed', 'asid'];
const NO_PCID = { pcid: false, invpcid: false };

async function judged(run: ModelRun, told: boolean): ReturnType<typeof validate> {
  const { cpus, kernel, features } = run;
  return validate(asTrace(modelRecords(run), cpus), {
    backend: (found) => native({ features: found }),
    pti: features?.pti,
    kernel: told ? kernel : undefined,
  });
}

describe.each(['6.12.117', '7.0'] as const)('Linux %s', (kernel) => {
  test.each([
    ['', {}],
    [', without PCID', NO_PCID],
    [', with page-table isolation', { pti: true }],
  ])(
    '8 CPUs%s',
    async (_name, features) => {
      for (const workload of WORKLOADS) {
        const run = { workload, kernel, cpus: 8, threads: 4, features };
        const { differences, scores } = await judged(run, true);
        expect([workload, differences]).toEqual([workload, []]);
        expect(scores.flush.equal).toBeGreaterThan(0);
      }
    },
    60_000,
  );

  test('16 threads on 32 CPUs, everything at random', async () => {
    const run = { workload: 'mixed', kernel, cpus: 32, threads: 16 };
    const { differences, scores } = await judged(run, true);
    expect(differences).toEqual([]);
    expect(scores.flush.equal).toBeGreaterThan(5_000);
    expect(scores.targets_freed.equal).toBeGreaterThan(1_000);
  }, 60_000);
});

test('PCIDs and release are found out', async () => {
  const plain = { workload: 'mixed', cpus: 8, threads: 4, features: NO_PCID } as const;
  const old = await judged({ ...plain, kernel: '6.12.117' }, false);
  expect([old.pcid.value, old.kernel.value, old.differenceCount]).toEqual([false, '6.12.117', 0]);
  const today = await judged({ ...plain, kernel: '7.0' }, false);
  expect([today.pcid.value, today.kernel.value, today.differenceCount]).toEqual([false, '7.0', 0]);
}, 60_000);
