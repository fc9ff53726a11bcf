/**
 * What is cached under one PCID is used under no other, and an invalidation takes out what it names
 * and nothing else: of both forms of translation cache.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Footprint } from './footprint.ts';
import { pfn, physAddr, virtAddr } from './ids.ts';
import { Machine, type MachineOptions } from './machine.ts';
import type { Coroutine, Op } from './op.ts';
import { xchgWord } from './ops/memory.ts';
import * as translation from './ops/translation.ts';
import { makePte, Pte } from './pageTable.ts';
import { picks } from './programs.testlib.ts';
import { runToEnd } from './schedule.testlib.ts';
import type { Invalidation } from './tlb.ts';

const USED = Pte.present | Pte.write | Pte.user | Pte.accessed | Pte.dirty;
const PAGE = 4096;

/** Address space `pcid`, 1 or 2, has its tables from frame `10 * pcid` on, root first. */
const tableOf = (pcid: number, level: number): number => 10 * pcid + 4 - level;
const entryOf = (pcid: number, page: number): number => tableOf(pcid, 1) * PAGE + 8 * page;
/** Its pages: 100 and on, or 200 and on. */
const frameOf = (pcid: number, which: number): number => 100 * pcid + which;

function machineWith(
  tlb: MachineOptions['tlb'],
  flags: (pcid: number, page: number) => number,
): Machine {
  const machine = new Machine({ cpus: 2, tlb, frames: 1024, checked: true });
  for (const pcid of [1, 2]) {
    for (const level of [4, 3, 2])
      machine.physical.write(tableOf(pcid, level) * PAGE, makePte(tableOf(pcid, level - 1), USED));
    for (let page = 0; page < 4; page++)
      machine.physical.write(entryOf(pcid, page), makePte(frameOf(pcid, page), flags(pcid, page)));
  }
  return machine;
}

const addressOf = (page: number) => virtAddr(page * PAGE);
const load = (pcid: number, flush: boolean): Op<void> =>
  translation.writeCr3(pfn(tableOf(pcid, 4)), pcid, flush);

const step = fc.record({
  does: fc.constantFrom('load', 'touch', 'touch', 'remap', 'invlpg', 'invpcid'),
  pcid: fc.constantFrom(1, 2),
  page: fc.nat(3),
  flag: fc.boolean(),
});

test.each(['finite', 'mayCached'] as const)(
  'no access leaves its address space, whatever is cached of the other (%s)',
  (form) => {
    let hits = 0;
    const programs = fc.array(fc.array(step, { maxLength: 12, size: 'max' }), {
      minLength: 2,
      maxLength: 2,
      size: 'max',
    });
    fc.assert(
      fc.property(programs, picks(60), (all, numbers) => {
        const machine = machineWith(form, () => USED);
        function* program(steps: (typeof all)[number]): Coroutine {
          let loaded = 1;
          yield* load(1, false);
          for (const { does, pcid, page, flag } of steps) {
            if (does === 'load') yield* load((loaded = pcid), flag);
            if (does === 'remap')
              yield* xchgWord(
                physAddr(entryOf(pcid, page)),
                flag ? 0 : makePte(frameOf(pcid, page + 4), USED),
              );
            if (does === 'invlpg') yield* translation.invlpg(addressOf(page));
            if (does === 'invpcid') yield* translation.invpcidSingle(pcid);
            if (does !== 'touch') continue;
            const at = yield* translation.userTouch(addressOf(page), flag);
            if (typeof at !== 'number') continue;
            expect(Math.floor(at / PAGE / 100)).toBe(loaded);
            hits++;
          }
        }
        for (const [id, steps] of all.entries()) machine.run(id, program(steps));
        runToEnd(machine, numbers);
      }),
      { numRuns: 300 },
    );
    expect(hits).toBeGreaterThan(300);
  },
);

/** An invalidation, and which translations of CPU 0, which runs under PCID 1, it takes out. */
interface Flush {
  readonly op: () => Op<void>;
  readonly takes: (pcid: number, page: number, global: boolean) => boolean;
}

const flush: fc.Arbitrary<Flush> = fc
  .record({
    kind: fc.constantFrom('invlpg', 'one', 'single', 'all', 'nonGlobals', 'cr3', 'broadcast'),
    pcid: fc.constantFrom(1, 2),
    page: fc.nat(3),
    pages: fc.integer({ min: 1, max: 3 }),
    stride: fc.constantFrom(1, 2),
    globals: fc.boolean(),
    everyPcid: fc.boolean(),
  })
  .map(({ kind, pcid, page, pages, stride, globals, everyPcid }): Flush => {
    const at = addressOf(page);
    const what: Invalidation = {
      pcid: everyPcid ? null : pcid,
      from: at,
      pages,
      stride: stride * PAGE,
      globals,
      upper: 'none',
    };
    const flushes: Record<typeof kind, Flush> = {
      invlpg: {
        op: () => translation.invlpg(at),
        takes: (of, where, global) => where === page && (of === 1 || global),
      },
      one: {
        op: () => translation.invpcidOne(pcid, at),
        takes: (of, where, global) => where === page && of === pcid && !global,
      },
      single: {
        op: () => translation.invpcidSingle(pcid),
        takes: (of, _where, global) => of === pcid && !global,
      },
      all: { op: () => translation.invpcidAll(), takes: () => true },
      nonGlobals: {
        op: () => translation.invpcidAllNonGlobals(),
        takes: (_of, _where, global) => !global,
      },
      cr3: { op: () => load(1, true), takes: (of, _where, global) => of === 1 && !global },
      broadcast: {
        op: () => translation.invlpgb(what),
        takes: (of, where, global) =>
          (global ? globals : everyPcid || of === pcid) &&
          where >= page &&
          where < page + pages * stride &&
          (where - page) % stride === 0,
      },
    };
    return flushes[kind];
  });

/** The addresses that `machine`'s CPU 0 may get for `page` now. */
function reachable(machine: Machine, page: number): readonly number[] {
  const { tlb } = machine.cpu(0);
  const access = { va: page * PAGE, write: false, user: true };
  const frames: number[] = [];
  for (let way = 0; way < tlb.ways(access); way++)
    tlb.touch(access, way, new Footprint(), (at) => frames.push(at / PAGE));
  return frames.toSorted((a, b) => a - b);
}

test.each(['finite', 'mayCached'] as const)(
  'an invalidation takes out what it names, and all else may stay (%s)',
  (form) => {
    const count = { gone: 0, stayed: 0 };
    const globals = fc.array(fc.boolean(), { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(flush, globals, ({ op, takes }, global) => {
        // Pages 0 and 1 are used under PCID 1, the others under PCID 2, so that no global page of
        // one space answers for the other.
        const pagesOf = (pcid: number): readonly number[] => (pcid === 1 ? [0, 1] : [2, 3]);
        const flags = (page: number): number => USED | (global[page] === true ? Pte.global : 0);
        const machine = machineWith(form, (pcid, page) =>
          pagesOf(pcid).includes(page) ? flags(page) : 0,
        );
        function* fill(): Coroutine {
          for (const pcid of [2, 1]) {
            yield* load(pcid, false);
            for (const page of pagesOf(pcid)) yield* translation.userTouch(addressOf(page), false);
          }
          for (const pcid of [1, 2])
            for (const page of pagesOf(pcid)) {
              const now = makePte(frameOf(pcid, page + 4), flags(page));
              yield* xchgWord(physAddr(entryOf(pcid, page)), now);
            }
          yield* op();
          yield* translation.tlbsync();
        }
        function* look(pcid: number): Coroutine {
          yield* load(pcid, false);
        }
        machine.run(0, fill());
        runToEnd(machine);
        for (const pcid of [1, 2]) {
          machine.run(0, look(pcid));
          runToEnd(machine);
          for (const page of pagesOf(pcid)) {
            const gone = takes(pcid, page, global[page] === true);
            const [old, now] = [frameOf(pcid, page), frameOf(pcid, page + 4)];
            const left = form === 'finite' ? [old] : [old, now];
            expect(reachable(machine, page)).toEqual(gone ? [now] : left);
            count[gone ? 'gone' : 'stayed']++;
          }
        }
      }),
      { numRuns: 300 },
    );
    expect(count.gone).toBeGreaterThan(100);
    expect(count.stayed).toBeGreaterThan(100);
  },
);
