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

/** A world, and the pairs that must be met in it. */
export interface Shape {
  readonly about: string;
  readonly plan: Plan;
  readonly pairs: readonly string[];
}

const HARDWARE: readonly Shape[] = [
  {
    about: 'stores on their way, and who waits for them',
    plan: plan(
      [
        [does('store', 0), does('load', 0), does('wait', 1)],
        [does('store', 1), does('store', 1)],
      ],
      {
        moves: [
          { kind: 'host', cpu: 0 },
          { kind: 'nmi', cpu: 0 },
        ],
      },
    ),
    pairs: [
      'drain and store',
      'drain and wait in conflict',
      'drain changes load',
      'drain enables move',
      'drain enables wait',
      'vmEntry enables move',
    ],
  },
  {
    about: 'a wait for two variables at once',
    plan: plan([
      [does('store', 0), does('fence'), does('load', 1)],
      [does('store', 1), does('xchg', 1)],
      [does('waitForTwo', 0, 1)],
    ]),
    pairs: ['drain enables fence', 'drain enables wait', 'locked and wait in conflict'],
  },
  {
    about: 'two CPUs that store and load crosswise',
    plan: plan([
      [does('store', 0), does('load', 1), does('xchg', 0)],
      [does('store', 1), does('load', 0), does('cmpxchg', 0, 1)],
    ]),
    pairs: ['drain and drain', 'drain and load in conflict', 'locked and locked in conflict'],
  },
  {
    about: 'a cell that code makes, hands out and reads',
    plan: plan([
      [does('publish'), does('publish'), does('follow')],
      [does('follow'), does('publish'), does('follow')],
    ]),
    pairs: ['drain changes load', 'locked and locked in conflict', 'drain and drain in conflict'],
  },
  {
    about: 'bits of one mask',
    plan: plan([
      [does('testBit', 0, 0), does('testAndSetBit', 0, 0)],
      [does('setBit', 0, 0), does('clearBit', 0, 1), does('clearBit', 0, 0)],
      [does('xchgMask', 0, 2), does('storeMask', 0, 5)],
    ]),
    pairs: [
      'clearBit and testBit',
      'clearBit and testBit in conflict',
      'locked and setBit in conflict',
      'locked and testBit in conflict',
      'setBit and testAndSetBit in conflict',
      'drain and testAndSetBit in conflict',
    ],
  },
  {
    about: 'a mask is read, written and waited for as a whole',
    plan: plan([
      [does('waitForBit', 0, 0), does('loadMask')],
      [does('setBit', 0, 0), does('storeMask', 0, 2)],
      [does('setBit', 0, 2), does('clearBit', 0, 0)],
    ]),
    pairs: [
      'setBit and wait in conflict',
      'drain and load in conflict',
      'drain and setBit in conflict',
    ],
  },
  {
    about: 'an interrupt waits for the flag, the buffer, the NMI and the host',
    plan: plan(
      [
        [does('irqOff'), does('irqOn'), does('store')],
        [does('sendLow', 0, 1), does('sendNmi', 0, 1)],
      ],
      {
        low: [does('store', 1)],
        host: [does('vcpuPark')],
        moves: [{ kind: 'host', cpu: 0 }],
      },
    ),
    pairs: [
      'deliver and sendIpi in conflict',
      'drain enables deliver',
      'drain enables iret',
      'irqFlag ends deliver',
      'irqFlag enables deliver',
      'iret enables deliver',
      'move ends deliver',
      'store ends deliver',
      'vmEntry enables deliver',
    ],
  },
  {
    about: 'calls that meet at one target, which answers others meanwhile',
    plan: plan(
      [[does('irqOff'), does('irqOn')], [does('callAndWait', 0, 1)], [does('post', 0, 1)]],
      { machine: { cpus: 3 }, called: [does('load')] },
    ),
    pairs: [
      'csdEnqueue and csdEnqueue in conflict',
      'csdEnqueue and csdTake in conflict',
      'csdUnlock enables drain',
      'drain enables csdWait',
    ],
  },
  {
    about: 'a CPU calls another again, and is called',
    plan: plan([[does('nop')], [does('post', 0, 1), does('post', 0, 1)], [does('post', 0, 2)]]),
    pairs: [
      'csdEnqueue and csdEnqueue',
      'csdFill ends deliver',
      'drain enables csdEnqueue',
      'drain enables csdLock',
    ],
  },
  {
    about: 'tasks change CPUs',
    plan: plan(
      [
        [does('switchTo', 0, 2), does('load')],
        [does('switchTo', 0, 2), does('load')],
        [does('switchTo', 0, 0), does('store')],
      ],
      { traveller: [does('nop'), does('switchTo', 0, 1)] },
    ),
    pairs: ['load and switchTo', 'nop and switchTo'],
  },
];

/** Those in which translation caches matter. */
export const TRANSLATION: readonly Shape[] = [
  {
    about: 'a table is linked while another CPU changes what it holds',
    plan: plan([
      [entry('writeEntry', 0x3000, 2), does('userLoad')],
      [entry('writeEntry', 0x5000, 2)],
      [entry('writeEntry', 0x5000, 0)],
    ]),
    pairs: ['access and drain in conflict', 'drain and drain in conflict', 'drain changes access'],
  },
  {
    about: 'a table is linked by a locked instruction while another CPU fills it',
    plan: plan([
      [does('nop'), does('userLoad')],
      [entry('xchgEntry', 0x3000, 2)],
      [entry('xchgEntry', 0x5008, 1)],
    ]),
    pairs: ['access and locked in conflict'],
  },
  {
    about: 'a table changes below one that is only cached, under the PCID that is loaded again',
    plan: plan([
      [does('writeCr3', 1, 1), does('writeCr3', 0, 3)],
      [entry('xchgEntry', 0x1000, 0), entry('xchgEntry', 0x3000, 3), entry('xchgEntry', 0xd000, 1)],
    ]),
    pairs: ['locked and writeCr3 in conflict'],
  },
  {
    about: 'a broadcast takes away what an access may use',
    plan: plan([
      [does('nop'), does('userLoad')],
      [
        entry('xchgEntry', 0x6000, 2),
        does('invlpgb'),
        entry('xchgEntry', 0x6000, 1),
        does('tlbsync'),
      ],
    ]),
    pairs: [
      'access and apply in conflict',
      'apply and locked in conflict',
      'apply enables tlbsync',
      'invlpgb enables apply',
    ],
  },
  {
    about: 'broadcasts of two CPUs, and what waits for them',
    plan: plan([
      [entry('writeEntry', 0x6000, 1), does('invlpgb', 1, 0), does('tlbsync')],
      [does('invlpgb', 1, 1), does('dsb')],
      [does('nop'), does('frameUsers', 2)],
    ]),
    pairs: [
      'apply and apply',
      'apply and invlpgb',
      'apply and frameUsers in conflict',
      'invlpgb and invlpgb in conflict',
      'apply enables dsb',
    ],
  },
  {
    about: 'a table is unlinked, flushed and looked for, while others walk',
    plan: plan([
      [entry('xchgEntry', 0x3000, 0), does('invlpg', 0), does('frameUsers', 5)],
      [does('writeCr3', 0, 0), does('userTouch', 0, 0)],
    ]),
    pairs: [
      'access and frameUsers in conflict',
      'access and invlpg',
      'frameUsers and writeCr3 in conflict',
      'locked and writeCr3 in conflict',
    ],
  },
  {
    about: 'two CPUs use one page by two addresses',
    plan: plan([
      [does('userStore', 2), does('userLoad', 2)],
      [does('userStore', 0), does('userLoad', 0)],
    ]),
    pairs: [
      'access changes access',
      'access and access in conflict',
      'access and drain in conflict',
      'drain and drain in conflict',
    ],
  },
  {
    about: 'a page becomes visible to a CPU while another asks who may use it',
    plan: plan([
      [entry('writeEntry', 0x6000, 2), does('invlpg', 0)],
      [does('frameUsers', 1), does('frameUsers', 0)],
    ]),
    pairs: ['drain and frameUsers in conflict', 'drain enables invlpg'],
  },
  {
    about: 'a broadcast waits for the stores that went through a translation',
    plan: plan([
      [does('userStore', 0), does('store'), does('userStore', 0)],
      [does('invlpgb'), does('tlbsync')],
    ]),
    pairs: ['drain enables apply', 'access ends apply'],
  },
  {
    about: 'a fault waits for the stores before it',
    plan: plan([
      [does('store'), does('userStore', 1), does('store')],
      [entry('xchgEntry', 0x6000, 0), does('invpcidAll')],
    ]),
    pairs: ['drain enables pageFault', 'access and locked in conflict'],
  },
  {
    about: 'a walk that waits for stores waits for those to words only',
    plan: plan(
      [
        [does('userStore', 2), does('store'), does('userLoad', 0)],
        [does('nop'), does('fence')],
      ],
      { machine: { cpus: 2, tlb: 'mayCached', axioms: { walkWaitsForStores: true } } },
    ),
    pairs: ['drain enables access'],
  },
  {
    about: 'a clean entry of a table that is cached no more is written through',
    plan: plan([
      [does('userTouch', 0, 1), does('invlpg', 2), does('userStore', 0)],
      [entry('xchgEntry', 0x4000, 0), entry('xchgEntry', 0x6000, 2)],
    ]),
    pairs: ['access and locked in conflict'],
  },
];

/** All of them. */
export const SHAPES: readonly Shape[] = [...HARDWARE, ...TRANSLATION];
