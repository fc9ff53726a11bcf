/** Processes that take turns on one CPU: how long an address space keeps its ASID. */
import { call, PAGE_SIZE } from '@shootdown/machine';
import { completion } from '@shootdown/mmu-gather';
import { Madvise } from '../madvise.ts';
import type { Started } from '../user.ts';
import { BASE, numberOf, startProgram, type Workload } from './workload.ts';

const PAGES = 4;

export const asid: Workload = {
  name: 'asid',
  title: 'processes that yield to each other on CPU 0',
  parameters: [
    { name: 'processes', help: 'how many', fallback: 4 },
    { name: 'iterations', help: 'how often each yields', fallback: 50 },
    {
      name: 'other',
      help: 'every so many turns process 0 unmaps a page; 0 never',
      fallback: 0,
      least: 0,
    },
  ],
  frames: (setting) => numberOf(setting, 'processes') * 32,
  setUp(setting) {
    const { k, phases } = setting;
    const processes = numberOf(setting, 'processes');
    const other = numberOf(setting, 'other');
    const ready = completion(k.machine, 'ready');
    const go = completion(k.machine, 'go');
    startProgram(setting, function* (user) {
      const started: Started[] = [];
      for (let id = 0; id < processes; id++)
        started.push(
          yield* call(
            user.fork(function* (child) {
              yield* call(child.mmap({ addr: BASE, length: PAGES * PAGE_SIZE }));
              yield* call(child.touch(BASE, PAGES));
              yield* call(child.signal(ready));
              yield* call(child.waitFor(go, 1));
              for (let turn = 0; turn < numberOf(setting, 'iterations'); turn++) {
                if (other > 0 && id === 0 && turn % other === 0) {
                  yield* call(child.madvise(BASE, PAGE_SIZE, Madvise.DONTNEED));
                  yield* call(child.touch(BASE, 1));
                }
                yield* call(child.schedYield());
              }
            }),
          ),
        );
      yield* call(user.waitFor(ready, processes));
      phases.begin(`asid procs=${processes} other=${other}`);
      yield* call(user.signal(go));
      for (const child of started) yield* call(user.join(child));
      phases.end();
    });
  },
};
