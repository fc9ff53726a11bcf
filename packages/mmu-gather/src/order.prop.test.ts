/** The order law on random programs under random schedules, in every mode. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MODES } from './kconfigModes.testlib.ts';
import { judge, plans } from './programs.testlib.ts';
import type { OrderEvent } from './recorder.testlib.ts';

/** Allocations fail at random here, so modes that differ in what fails are one. */
const CONFIGURATIONS = MODES.filter(({ failures }) => failures === undefined);

const seen = (events: readonly OrderEvent[], is: (event: OrderEvent) => boolean): number =>
  events.filter(is).length;

test.each([...CONFIGURATIONS, ...MODES.filter(({ name }) => name.includes('7.3'))])(
  'unhook, invalidate, free: $name',
  (mode) => {
    const totals = { pages: 0, tables: 0, everything: 0, walks: 0 };
    fc.assert(
      fc.property(plans, (plan) => {
        const { broken, k, recorder, lost } = judge(mode, plan);
        expect([...broken, ...k.warnings]).toEqual([]);
        expect(lost).toBe(0);
        const { events } = recorder;
        totals.pages += seen(events, ({ kind }) => kind === 'free-page');
        totals.tables += seen(events, ({ kind }) => kind === 'free-table');
        totals.everything += seen(
          events,
          (event) => event.kind === 'flush' && event.end === Infinity,
        );
        totals.walks += seen(events, (event) => event.kind === 'reads' && event.walks !== null);
      }),
      { numRuns: 40 },
    );
    // It was put to the test: not a law about nothing.
    expect(totals.pages).toBeGreaterThan(1000);
    expect(totals.tables).toBeGreaterThan(200);
    expect(totals.everything).toBeGreaterThan(50);
    expect(totals.walks).toBeGreaterThan(20);
  },
);
