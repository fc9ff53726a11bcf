/** Who runs where, who is born, and who may be unmapping in batches. */
import type { SysEnter } from '@shootdown/trace';
import type { Handler } from './handler.ts';
import { field, number } from './payload.ts';

const CLONE_VM = 0x100;

/** Kernel threads that unmap in batches: reclaim, and who acts for it; compaction is seen to migrate. */
const RECLAIMS = /^(?:kswapd|kdamond)/;

/** System calls that migrate, and so put flushes off: try_to_unmap_flush(). */
const MIGRATES: ReadonlySet<string> = new Set([
  'mbind',
  'migrate_pages',
  'move_pages',
  'set_mempolicy_home_node',
]);
const MADV_COLD = 20;
const MADV_PAGEOUT = 21;

/** Those that unmap from the mm of who calls. */
const OWN: ReadonlySet<string> = new Set(['mbind', 'madvise']);

function pagesOut({ syscall, args, values }: SysEnter): boolean {
  const behavior = values[args.indexOf('behavior')] ?? values[2];
  if (syscall === 'process_madvise') return true;
  return syscall === 'madvise' && (behavior === MADV_COLD || behavior === MADV_PAGEOUT);
}

/** The scheduler, and system calls. */
export const TASK_HANDLERS: Readonly<Record<string, Handler>> = {
  enter_lazy(on, line, record) {
    const { k } = on.model;
    line.begin('enter_lazy_tlb', 'task', false, () => k.backend.enterLazyTlb(k, line.cpu.id));
    const { known } = on.model.cpu(record.cpu);
    known.lazy = known.loaded;
  },

  sched_switch(on, _line, record) {
    const { event } = record;
    if (event.kind !== 'sched_switch') return;
    const going = on.at(record);
    if (RECLAIMS.test(event.prevComm)) on.unmapping.delete(event.prevPid);
    if (RECLAIMS.test(event.nextComm)) on.unmapping.add(event.nextPid);
    going.nextPid = event.nextPid;
    going.switchedAt = on.model.seq;
  },

  sched_process_fork(on, _line, record, payload) {
    const child = number(payload, 'child_pid');
    const shares = on.cloning.get(record.task?.pid ?? -1);
    if (child === null) return;
    if (shares === false) on.forked.add(child);
    // A pid comes again: what its last owner did is not the new one's.
    on.exiting.delete(child);
    for (const going of on.going) if (going.diedPid === child) going.diedPid = -1;
  },

  sched_process_exit(on, _line, { task, cpu }) {
    if (task === null) return;
    const going = on.going[cpu];
    if (going !== undefined) going.diedPid = task.pid;
    for (const table of [on.made, on.cloning, on.exiting]) table.delete(task.pid);
    for (const set of [on.forked, on.inExec, on.unmapping, on.unmappingOwn]) set.delete(task.pid);
  },

  sys_enter(on, _line, { event, task }) {
    if (event.kind !== 'sys_enter' || task === null) return;
    const { syscall } = event;
    if (syscall === 'execve' || syscall === 'execveat') on.inExec.add(task.pid);
    if (MIGRATES.has(syscall) && !on.model.recorded.has('mm_migrate_pages_start'))
      on.unmapping.add(task.pid);
    if (pagesOut(event)) on.unmapping.add(task.pid);
    if (syscall === 'exit' || syscall === 'exit_group') on.exiting.set(task.pid, false);
    if (OWN.has(syscall)) on.unmappingOwn.add(task.pid);
    const shares = sharesMm(event);
    if (shares !== null) on.cloning.set(task.pid, shares);
  },

  sys_exit(on, _line, { event, task }) {
    if (event.kind !== 'sys_exit' || task === null) return;
    on.inExec.delete(task.pid);
    on.made.delete(task.pid);
    on.cloning.delete(task.pid);
    on.unmapping.delete(task.pid);
    on.unmappingOwn.delete(task.pid);
  },

  mm_migrate_pages_start(on, _line, { task }) {
    if (task !== null) on.unmapping.add(task.pid);
  },

  mm_migrate_pages(on, _line, { task }) {
    if (task !== null) on.unmapping.delete(task.pid);
  },
};

/** Since 6.16 the event comes before exit_mm(), not behind it: and names group_dead since. */
export const isBeforeExitMm = (payload: string): boolean => field(payload, 'group_dead') !== null;

/** Whether a system call makes a task in the same mm; null: it makes none. */
function sharesMm({ syscall, args, values }: SysEnter): boolean | null {
  if (syscall === 'fork') return false;
  // clone3() has its flags in memory: it is what threads are made by.
  if (syscall === 'vfork' || syscall === 'clone3') return true;
  if (syscall !== 'clone') return null;
  return ((values[args.indexOf('clone_flags')] ?? 0) & CLONE_VM) !== 0;
}
