/**
 * Worlds for the commutation law that random programs seldom are: each is the smallest in which one
 * part of some footprint is needed.
 */
import type { Plan } from './programs.testlib.ts';
import { ENTRIES, type Instruction } from './world.testlib.ts';

const does = (name: string, a = 0, b = 0): Instruction => ({ does: name, a, b });

/** The number of the entry at `at`, and of the value to write there. */
function entry(name: string, at: number, value: number): Instruction {
  const a = ENTRIES.findIndex((known) => known.at === at);
  return does(name, a, value);
}

const plan = (main: readonly (readonly Instruction[])[], changes: Partial<Plan> = {}): Plan => ({
  machine: { cpus: main.length, tlb: 'mayCached' },
  main,
  second: main.map(() => []),
  traveller: [],
  low: [],
  high: [],
  nmi: [],
  called: [],
  host: [],
  moves: [],
  ...changes,
});

/** By what they are about. */
export const SHAPES: Readonly<Record<string, Plan>> = {
  'a mask is read, written and waited for as a whole': plan([
    [does('waitForBit', 0, 0), does('loadMask')],
    [does('setBit', 0, 0), does('storeMask', 0, 2)],
    [does('setBit', 0, 2), does('clearBit', 0, 0)],
  ]),
  'a table is linked while another CPU changes what it holds': plan([
    [entry('writeEntry', 0x3000, 2), does('userLoad')],
    [entry('writeEntry', 0x5000, 2)],
    [entry('writeEntry', 0x5000, 0)],
  ]),
  'a table is linked by a locked instruction while another CPU fills it': plan([
    [does('nop'), does('userLoad')],
    [entry('xchgEntry', 0x3000, 2)],
    [entry('xchgEntry', 0x5008, 1)],
  ]),
  'a table changes below one that is only cached, under the PCID that is loaded again': plan([
    [does('writeCr3', 1, 1), does('writeCr3', 0, 3)],
    [entry('xchgEntry', 0x1000, 0), entry('xchgEntry', 0x3000, 3), entry('xchgEntry', 0xd000, 1)],
  ]),
  'a broadcast takes away what an access may use': plan([
    [does('nop'), does('userLoad')],
    [entry('xchgEntry', 0x6000, 2), does('invlpgb')],
  ]),
  'a walk that waits for stores waits for those to words only': plan(
    [
      [does('userStore', 2), does('store'), does('userLoad', 0)],
      [does('nop'), does('fence')],
    ],
    { machine: { cpus: 2, tlb: 'mayCached', axioms: { walkWaitsForStores: true } } },
  ),
  'a clean entry of a table that is cached no more is written through': plan([
    [does('userTouch', 0, 1), does('invlpg', 2), does('userStore', 0)],
    [entry('xchgEntry', 0x4000, 0), entry('xchgEntry', 0x6000, 2)],
  ]),
  'a call is unlocked and posted again while its target still answers others': plan(
    [
      [does('irqOff'), does('irqOn')],
      [does('callAndWait', 0, 1), does('post', 0, 1)],
      [does('post', 0, 1)],
    ],
    { machine: { cpus: 3 }, called: [does('load')] },
  ),
  'tasks change CPUs': plan(
    [
      [does('switchTo', 0, 2), does('load')],
      [does('switchTo', 0, 2), does('load')],
    ],
    { traveller: [does('nop'), does('switchTo', 0, 1)] },
  ),
};
