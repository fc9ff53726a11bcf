/**
 * A task in exit() is without its mm before it is gone, and an idle CPU leaves an mm without being
 * asked: what the scheduler's events alone do not say. Each recording is of one CPU and tlb_flush alone.
 */
import { expect, test } from 'vitest';
import { validateLines } from './recordings.testlib.ts';
import type { ValidationResult } from './result.ts';

const IDLE = 'swapper/0:0';
const INIT = 'init:1';
const PARENT = 'shell:100';
const CHILD = 'shell:101';

/** A line of a trace, by who runs. */
type Said = readonly [task: string, event: string];

const switchTo = (from: string, to: string): Said => {
  const [prev = '', prevPid = ''] = from.split(':');
  const [next = '', nextPid = ''] = to.split(':');
  return [
    from,
    `sched_switch: prev_comm=${prev} prev_pid=${prevPid} prev_prio=1 prev_state=R ==> next_comm=${next} next_pid=${nextPid} next_prio=1`,
  ];
};
const wrote = (task: string, pages: 0 | -1): Said => [
  task,
  `tlb_flush: pages:${pages} reason:flush on task switch (0)`,
];

const forked = (parent: string, child: string): readonly Said[] => [
  [parent, 'sys_clone(clone_flags: 1200011, newsp: 0, parent_tidptr: 0, child_tidptr: 0, tls: 0)'],
  [
    parent,
    `sched_process_fork: comm=shell pid=${parent.split(':')[1]} child_comm=shell child_pid=${child.split(':')[1]}`,
  ],
  switchTo(parent, child),
  wrote(parent, -1),
];

/** Two are born here, one of the other: what the ASIDs hold of them is known. */
const FORKED: readonly Said[] = [
  switchTo(IDLE, INIT),
  wrote(IDLE, -1),
  ...forked(INIT, PARENT),
  ...forked(PARENT, CHILD),
];

function judge(said: readonly Said[]): Promise<ValidationResult> {
  const events = said.map(([task, event], at) => {
    const [comm = '', pid = ''] = task.split(':');
    const name = pid === '0' ? '<idle>' : comm;
    return `${`${name}-${pid}`.padStart(23)} [000] d.... ${1000 + at}: ${event}`;
  });
  const header = `# entries-in-buffer/entries-written: ${events.length}/${events.length}   #P:1`;
  return validateLines(['# tracer: nop', '#', header, '#', ...events, ''], {
    kernel: '6.12.117',
    depth: 'tlb_flush',
    pcid: true,
  });
}

test('a task that has flushed its mm in exit(), and is preempted, comes back without one', async () => {
  const { scores, differences } = await judge([
    ...FORKED,
    [CHILD, 'sys_exit_group(error_code: 0)'],
    // exit_mm() has borrowed the mm; its last flush finds the CPU lazy, which leaves for init_mm.
    wrote(CHILD, -1),
    switchTo(CHILD, PARENT),
    wrote(CHILD, 0),
    // Nothing to load: CR3 stays.
    switchTo(PARENT, CHILD),
    [CHILD, 'sched_process_exit: comm=shell pid=101 prio=120'],
    switchTo(CHILD, PARENT),
    switchTo(PARENT, IDLE),
  ]);
  expect(differences).toEqual([]);
  expect(scores.switch.equal).toBe(2);
});

test('a pid that comes again is of somebody else, who has an mm', async () => {
  const { scores, differences } = await judge([
    ...FORKED,
    [CHILD, 'sys_exit_group(error_code: 0)'],
    wrote(CHILD, -1),
    [CHILD, 'sched_process_exit: comm=shell pid=101 prio=120'],
    switchTo(CHILD, PARENT),
    wrote(CHILD, 0),
    // The same pid, on the same CPU: a miss, as it was never here before.
    ...forked(PARENT, CHILD),
    switchTo(CHILD, IDLE),
  ]);
  expect(differences).toEqual([]);
  // Both children, certainly.
  expect(scores.switch.equal).toBe(2);
});

test('since 6.16 sched_process_exit comes before exit_mm(): the last flush is yet to come', async () => {
  const { scores, differences } = await judge([
    ...FORKED,
    [CHILD, 'sched_process_exit: comm=shell pid=101 prio=120 group_dead=true'],
    wrote(CHILD, -1),
    switchTo(CHILD, PARENT),
    wrote(CHILD, 0),
    // Preempted once more, on its way out.
    switchTo(PARENT, CHILD),
    switchTo(CHILD, PARENT),
    switchTo(PARENT, IDLE),
  ]);
  expect(differences).toEqual([]);
  expect(scores.switch.equal).toBe(2);
});

test('an idle CPU that writes CR3 has left the mm that it had borrowed', async () => {
  const { scores, differences } = await judge([
    ...FORKED,
    switchTo(CHILD, IDLE),
    wrote(IDLE, -1),
    switchTo(IDLE, CHILD),
    wrote(IDLE, 0),
    switchTo(CHILD, IDLE),
  ]);
  expect(differences).toEqual([]);
  expect(scores.switch.equal).toBe(1);
});
