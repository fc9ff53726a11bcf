/** What a trace's clock lets be measured: skew, lost events, ticks. */
import { expect, test } from 'vitest';
import { timesOf } from './clock.ts';
import { calibrated, calibratedText, interval, shootdown } from './shootdown.testlib.ts';

const SHAPE = { send: 4, flight: 10, flush: 6, pages: 1 };
const many = (count: number): readonly string[] =>
  Array.from({ length: count }, (_, i) => shootdown(100 + 1000 * i, SHAPE)).flat();

/** The same with CPU 1's clock late by `us`, in the order in which a recorder prints it. */
function skewed(lines: readonly string[], us: number): readonly string[] {
  const time = (line: string): number => Number(line.split(' ')[2]);
  return lines
    .map((line) =>
      line.replace(
        /^(b?a?-?\S+ 1) (\d+)/,
        (_, on: string, at: string) => `${on} ${Number(at) - us}`,
      ),
    )
    .toSorted((a, b) => time(a) - time(b));
}

test('handlers that run before they are queued are counted as negative, and give no cost', async () => {
  // Queued at 1, and on the other clock run at 13 - 30.
  const found = await calibrated(skewed(many(6), 30));
  expect(interval(found, 'queue-handler')).toMatchObject({
    lengths: null,
    leftOut: { negative: 6, unfinished: 0 },
  });
  expect(interval(found, 'send-entry')).toMatchObject({ lengths: null, leftOut: { negative: 6 } });
  // What happens on one CPU is as long as before.
  expect(interval(found, 'interrupt').lengths).toMatchObject({ count: 6, p50: 9000 });
  expect(found.entries.map(({ name }) => name)).toEqual(['sendIpi']);
});

test('some negative intervals are too many for a cost', async () => {
  const found = await calibrated([...many(5), ...skewed(shootdown(90_000, SHAPE), 30)]);
  expect(interval(found, 'queue-handler')).toMatchObject({
    lengths: { count: 5 },
    leftOut: { negative: 1 },
  });
  expect(found.missing.find(({ name }) => name === 'ipiFlight')?.reason).toContain('clocks differ');
});

test('the local clock measures nothing between CPUs', async () => {
  const found = await calibrated(many(5), { clock: 'local' });
  for (const id of ['queue-handler', 'send-entry', 'wait-last'] as const)
    expect(interval(found, id)).toMatchObject({
      lengths: null,
      why: 'times of the local clock are not comparable between CPUs',
      leftOut: { negative: 0, unfinished: 0 },
    });
  expect(interval(found, 'interrupt').lengths?.count).toBe(5);
  expect(found.missing.find(({ name }) => name === 'ipiFlight')?.reason).toContain('local clock');
});

test('the uptime clock gives lengths and no cost', async () => {
  const found = await calibrated(many(5), { clock: 'uptime' });
  expect(interval(found, 'interrupt').lengths?.count).toBe(5);
  expect(found.entries).toEqual([]);
  expect(found.missing.find(({ name }) => name === 'sendIpi')?.reason).toContain('jiffies');
});

test('a text does not state its clock, which is said until the user does', async () => {
  expect((await calibrated(many(5))).times.notes.join()).toContain('say so with --clock');
  expect((await calibrated(many(5), { clock: 'mono' })).times).toMatchObject({
    clock: 'mono',
    stated: 'option',
    notes: [],
  });
});

const LOSS = 'CPU:1 [LOST 3 EVENTS]';

/** The text of an excerpt with a line put in before the line `before`. */
async function withLine(
  before: number,
  line: string,
): Promise<Awaited<ReturnType<typeof calibratedText>>> {
  const lines = many(3).map((one) => {
    const [, cpu = '', us = '', event = ''] = /^\S+ (\d+) (\d+) (.*)$/.exec(one) ?? [];
    return `          a-1       [00${cpu}] .....     5.${us.padStart(6, '0')}: ${event}`;
  });
  return calibratedText(`# tracer: nop\n${lines.toSpliced(before, 0, line).join('\n')}\n`);
}

test('an interval across lost events is not used; those before and behind it are', async () => {
  // Between the sending and the interrupt of the second of three.
  const found = await withLine(12 + 6, LOSS);
  for (const id of ['queue-handler', 'send-entry', 'wait-last'] as const)
    expect(interval(found, id)).toMatchObject({ lengths: { count: 2 }, leftOut: { lost: 1 } });
  // Which began behind the loss.
  expect(interval(found, 'interrupt')).toMatchObject({
    lengths: { count: 3 },
    leftOut: { lost: 0 },
  });
});

test('a loss on a CPU that takes no part spoils nothing', async () => {
  const found = await withLine(12 + 6, 'CPU:3 [LOST 3 EVENTS]');
  expect(interval(found, 'send-entry')).toMatchObject({
    lengths: { count: 3 },
    leftOut: { lost: 0 },
  });
});

const TICKS = { name: null, unit: 'ticks', resolution: 1 } as const;
const NS = { name: null, unit: 'ns', resolution: 1000 } as const;

test('ticks are time with the frequency', () => {
  expect(timesOf({ ...TICKS, name: 'x86-tsc' }, { tscMhz: 2500 }).stepNs).toBe(0.4);
});

test.each([
  ['ticks without a frequency', TICKS, {}, 'give their frequency with --tsc-mhz N'],
  ['a counter', { ...TICKS, name: 'counter' }, { tscMhz: 1 }, 'counts events, not time'],
  ['a counter, as the user says', TICKS, { clock: 'counter' }, 'counts events, not time'],
  ['a frequency of seconds', NS, { tscMhz: 2500 }, '--tsc-mhz: times of this trace are seconds'],
  ['a TSC in seconds', NS, { clock: 'x86-tsc' }, 'times of this trace are seconds'],
  ['mono in ticks', TICKS, { clock: 'mono', tscMhz: 1 }, 'expected x86-tsc or counter'],
  ['no clock', NS, { clock: 'sundial' }, 'expected one of local, global, mono'],
  ['another clock', { ...NS, name: 'mono' }, { clock: 'local' }, 'says that its clock is mono'],
  ['no frequency', TICKS, { tscMhz: 0 }, 'expected the frequency of the TSC in MHz'],
  ['no number', TICKS, { tscMhz: Number.NaN }, 'expected the frequency of the TSC in MHz'],
])('refused: %s', (_what, clock, options, words) => {
  expect(() => timesOf(clock, options)).toThrow(words);
});
