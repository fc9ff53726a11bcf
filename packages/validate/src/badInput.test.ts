import { expect, test } from 'vitest';
import { linesOf, SHIPPED, validateLines } from './recordings.testlib.ts';

const lines = linesOf(SHIPPED);
const without = (event: RegExp): readonly string[] => lines.filter((line) => !event.test(line));

const refusal = (why: string): unknown =>
  expect.objectContaining({
    code: 'ERR_VALIDATE',
    message: expect.stringContaining(why) as string,
  });

test('no events at all', async () => {
  const header = lines.filter((line) => line.startsWith('#'));
  await expect(validateLines(header)).rejects.toEqual(refusal('it has no events'));
});

test('no event that a decision is seen in', async () => {
  const none = without(/: (?:tlb_flush|flush_tlb_func|switch_mm)[:(]/);
  await expect(validateLines(none)).rejects.toEqual(refusal('no tlb_flush event'));
  const noSwitch = without(/: (?:sched_switch|flush_tlb_func|switch_mm)[:(]/);
  await expect(validateLines(noSwitch)).rejects.toEqual(refusal('no sched_switch event'));
});

test('a CPU comes', async () => {
  const half = Math.floor(lines.length / 2);
  const plugged = [
    ...lines.slice(0, half),
    '        cpuhp/3-30      [003] ..... 270000000000: cpuhp_enter: cpu: 0003 target: 236 step:   1 (smpboot_create_threads)',
    ...lines.slice(half),
  ];
  await expect(validateLines(plugged)).rejects.toEqual(refusal('hotplug is not modelled'));
});

test('fewer CPUs than the recording has', async () => {
  await expect(validateLines(lines, { cpus: 4 })).rejects.toEqual(
    refusal('it has records of CPU 7, so the machine has 8 CPUs at least, not 4'),
  );
});

test('ring buffers that were full: nobody is taken for new before every CPU has begun', async () => {
  const written = lines.map((line) =>
    line.replace(/entries-written: (\d+)\/(\d+)/, 'entries-written: $1/999999'),
  );
  const { wrapped, lost, differenceCount, scores } = await validateLines(written, {
    kernel: '6.12.117',
  });
  const whole = await validateLines(lines, { kernel: '6.12.117' });
  expect(wrapped).toBe(true);
  expect(lost).toBeGreaterThan(0);
  expect(differenceCount).toBe(0);
  expect(scores.generation.equal).toBeLessThan(whole.scores.generation.equal);
});
