/**
 * Everything at random: threads of one process map, protect, move, fork, read and get pages, and
 * processes of one thread each share their CPUs.
 */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { completion, HPAGE_PMD_NR, HPAGE_PMD_SIZE, type Kthread } from '@shootdown/mmu-gather';
import { Madvise } from '../madvise.ts';
import type { Started, User } from '../user.ts';
import { BASE, numberOf, startProgram, type Workload, RO, RW } from './workload.ts';

const MIB = 2 ** 20;
const SIZES = [1, 2, 8, 33, 34, 64, 512] as const;

/** xorshift32, so that a recorded program with the same seed does the same. */
function dice(seed: number): (sides: number) => number {
  let state = seed >>> 0;
  return (sides) => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % sides;
  };
}

export const mixed: Workload = {
  name: 'mixed',
  title: 'everything at random, by threads and by processes that share their CPUs',
  parameters: [
    { name: 'processes', help: 'processes of one thread beside', fallback: 2, least: 0 },
    { name: 'iterations', help: 'what each does, in steps', fallback: 100 },
  ],
  frames: (setting) => 4 * 512 * (setting.threads + 4),
  setUp(setting) {
    const { k, phases, threads } = setting;
    const steps = numberOf(setting, 'iterations');
    const ready = completion(k.machine, 'ready');
    const go = completion(k.machine, 'go');
    startProgram(setting, function* (user) {
      yield* call(user.mmap({ addr: BASE, length: 8 * PAGE_SIZE }));
      yield* call(user.touch(BASE, 8));
      const started: Started[] = [];
      for (let i = 0; i < numberOf(setting, 'processes'); i++) {
        const cpu = (1 + 3 * i) % threads;
        started.push(yield* call(user.fork((child) => churn(child, steps, 77 + i), cpu)));
      }
      for (let id = 0; id < threads; id++)
        started.push(
          yield* call(
            user.thread(id, function* (mixer) {
              yield* call(mixer.signal(ready));
              yield* call(mixer.waitFor(go, 1));
              yield* call(mix(mixer, id, steps));
            }),
          ),
        );
      yield* call(user.waitFor(ready, threads));
      phases.begin(`mixed procs=${numberOf(setting, 'processes')}`);
      yield* call(user.signal(go));
      for (const one of started) yield* call(user.join(one));
      phases.end();
    });
  },
};

function* churn(user: User, steps: number, seed: number): Kthread {
  const roll = dice(seed);
  const own = BASE + 2 ** 30;
  yield* call(user.mmap({ addr: own, length: 40 * PAGE_SIZE }));
  for (let step = 0; step < steps; step++) {
    yield* call(user.touch(own, 40));
    yield* call(user.madvise(own, (1 + roll(40)) * PAGE_SIZE, Madvise.DONTNEED));
    if (step % 3 === 0) yield* call(user.nanosleep(500_000));
    else yield* call(user.schedYield());
  }
}

function* mix(user: User, id: number, steps: number): Kthread {
  const roll = dice((0x9e3779b9 * (id + 1)) | 1);
  const own = BASE + (id + 1) * 64 * MIB;
  for (let step = 0; step < steps; step++) {
    const pages = SIZES[roll(id % 3 === 0 ? 7 : 6)] ?? 1;
    const act = ACTS[roll(ACTS.length)];
    if (act !== undefined) yield* call(act({ user, own, pages, id, roll }));
  }
}

interface Turn {
  readonly user: User;
  readonly own: number;
  readonly pages: number;
  readonly id: number;
  readonly roll: (sides: number) => number;
}

function* mapAndTouch({ user, own, pages }: Turn): Kthread {
  yield* call(user.mmap({ addr: own, length: pages * PAGE_SIZE }));
  yield* call(user.touch(own, pages));
}

function* mapAndUnmap(turn: Turn): Kthread {
  yield* call(mapAndTouch(turn));
  yield* call(turn.user.munmap(turn.own, turn.pages * PAGE_SIZE));
}

function* discard(turn: Turn): Kthread {
  const { user, own, pages } = turn;
  yield* call(mapAndTouch(turn));
  yield* call(user.madvise(own, pages * PAGE_SIZE, Madvise.DONTNEED));
  yield* call(user.touch(own, 1));
  yield* call(user.munmap(own, pages * PAGE_SIZE));
}

function* protect(turn: Turn): Kthread {
  const { user, own, pages } = turn;
  yield* call(mapAndTouch(turn));
  yield* call(user.mprotect(own, pages * PAGE_SIZE, RO));
  yield* call(user.mprotect(own, pages * PAGE_SIZE, RW));
  yield* call(user.touch(own, pages));
  yield* call(user.munmap(own, pages * PAGE_SIZE));
}

function* rest({ user, roll }: Turn): Kthread {
  yield* call(user.nanosleep(1000 * (200 + roll(3000))));
}

function* copy({ user, id }: Turn): Kthread {
  if (id % 4 !== 1) return;
  const child = yield* call(
    user.fork(function* (forked) {
      yield* call(forked.touch(BASE, 4));
    }),
  );
  yield* call(user.touch(BASE, 2));
  yield* call(user.join(child));
}

function* move(turn: Turn): Kthread {
  const { user, own, pages } = turn;
  yield* call(mapAndTouch(turn));
  const moved = yield* call(user.mremap(own, pages * PAGE_SIZE, own + 8 * MIB));
  yield* call(user.munmap(moved, pages * PAGE_SIZE));
}

function* get({ user }: Turn): Kthread {
  yield* call(user.vmsplice(BASE, 4));
}

function* readAndCollapse({ user, id, roll }: Turn): Kthread {
  for (let round = 0; round < 250; round++) yield* call(user.read(BASE, 8));
  if (id !== 0 || roll(4) !== 0) return;
  const huge = BASE + 60 * MIB - HPAGE_PMD_SIZE;
  yield* call(user.mmap({ addr: huge, length: HPAGE_PMD_SIZE }));
  yield* call(user.touch(huge, HPAGE_PMD_NR));
  yield* call(user.madvise(huge, HPAGE_PMD_SIZE, Madvise.HUGEPAGE));
  yield* call(user.madvise(huge, HPAGE_PMD_SIZE, Madvise.COLLAPSE));
  yield* call(user.munmap(huge, HPAGE_PMD_SIZE));
}

/** Ten sides; some acts have two. */
const ACTS: readonly ((turn: Turn) => Kthread)[] = [
  mapAndUnmap,
  mapAndUnmap,
  discard,
  discard,
  protect,
  rest,
  copy,
  move,
  get,
  readAndCollapse,
];
