/**
 * What a task was doing when it sent a call: the system call it is in, a page fault, or what its
 * name says when it is a kernel thread. Follows each task through the trace with one small state.
 *
 * Only what every form of a recording holds is used. Flags (was it an interrupt?) would tell more,
 * but a `trace-cmd report` has none, and the answer must not depend on which file of the same
 * recording was given.
 */
import type { RecordedEvent, RecordedTask, SysEnter } from '@shootdown/trace';

/** Where a call came from. */
export interface Origin {
  /**
   * `syscall`: inside that system call. `fault`: the task's last entry into the kernel that the
   * trace shows is a page fault. `kthread`: a kernel thread, by its name. `callsite`: sent on
   * nobody's behalf, named by the place in the kernel. `idle`: the idle task. `untraced`: none of
   * these is in the trace (an exec, a fork or another system call that was not recorded).
   */
  readonly kind: 'syscall' | 'fault' | 'kthread' | 'callsite' | 'idle' | 'untraced';
  /** `munmap`, `madvise(MADV_COLLAPSE)`, `page fault`, `kworker`, `ttwu_queue_wakelist`, ... */
  readonly name: string;
}

/** Names of kernel threads; a program that calls itself so is taken for one. */
const KTHREAD = new RegExp(
  `^(?:${[
    'cpuhp',
    'idle_inject',
    'irq',
    'irq_work',
    'kauditd',
    'kcompactd\\d*',
    'kdamond\\S*',
    'khugepaged',
    'khungtaskd',
    'ksmd',
    'ksoftirqd',
    'kswapd\\d*',
    'kthreadd',
    'ktimers',
    'kworker',
    'migration',
    'oom_reaper',
    'rcu\\w*',
    'watchdogd?',
  ].join('|')})(?:/|$)`,
);

/** Whether a task of this name is taken for a kernel thread. */
export function isKernelThread(comm: string): boolean {
  return KTHREAD.test(comm);
}

/** madvise's behaviours that do TLB work, from the kernel's user-space interface. */
const MADVISE: ReadonlyMap<number, string> = new Map([
  [4, 'MADV_DONTNEED'],
  [8, 'MADV_FREE'],
  [9, 'MADV_REMOVE'],
  [12, 'MADV_MERGEABLE'],
  [13, 'MADV_UNMERGEABLE'],
  [20, 'MADV_COLD'],
  [21, 'MADV_PAGEOUT'],
  [24, 'MADV_DONTNEED_LOCKED'],
  [25, 'MADV_COLLAPSE'],
]);

/** System calls that do not come back, so that an entry without an exit is nothing strange. */
const NO_RETURN: ReadonlySet<string> = new Set(['exit', 'exit_group', 'rt_sigreturn']);

const UNTRACED: Origin = { kind: 'untraced', name: 'not in a traced system call' };
const IDLE: Origin = { kind: 'idle', name: 'idle' };
const FAULT: Origin = { kind: 'fault', name: 'page fault' };
const COW: Origin = { kind: 'fault', name: 'page fault (copy-on-write)' };
/** Write to a present page from user mode: protection 1, write 2, user 4. */
const COW_FAULT = 7;
/** The fault is about protection: the page is there. */
const PRESENT = 1;

/** At most so many tasks are followed; beyond, those that are in no call are forgotten first. */
const MAX_TASKS = 1 << 17;
const MAX_NAMES = 1 << 14;

/** What every task of one trace is doing. */
export class Origins {
  readonly #open = new Map<number, Origin>();
  readonly #entered = new Set<string>();
  readonly #returned = new Set<string>();
  readonly #calls = new Map<string, Origin>();
  /**
   * Tasks that the trace has not yet seen enter or leave the kernel. If the first thing seen is the
   * exit of a system call, they were in that call since before the trace began, and what they sent
   * meanwhile is that call's: so each has an origin of its own that can still become it.
   */
  readonly #unseen = new Map<number, { kind: Origin['kind']; name: string }>();
  readonly #seen = new Set<number>();

  /** Takes note of what a task does. */
  observe(task: RecordedTask, event: RecordedEvent): void {
    switch (event.kind) {
      case 'sys_enter':
        if (this.#entered.size < MAX_NAMES) this.#entered.add(event.syscall);
        this.#see(task.pid);
        this.#set(task.pid, this.#call(event));
        break;
      case 'sys_exit':
        if (this.#returned.size < MAX_NAMES) this.#returned.add(event.syscall);
        this.#see(task.pid, event.syscall);
        this.#open.delete(task.pid);
        break;
      case 'page_fault':
        // The other one, page_fault_kernel, happens inside a system call and is the call's.
        if (event.name !== 'page_fault_user') break;
        this.#see(task.pid);
        // A fault on a page that is not there maps one, and nobody else has it in a TLB: if a flush
        // follows, something else that is not traced did it.
        if ((event.errorCode & PRESENT) === 0) this.#open.delete(task.pid);
        else this.#set(task.pid, event.errorCode === COW_FAULT ? COW : FAULT);
        break;
      default:
    }
  }

  /** What `task` is doing. */
  of(task: RecordedTask): Origin {
    if (task.pid === 0) return IDLE;
    const open = this.#open.get(task.pid);
    if (open !== undefined) return open;
    if (isKernelThread(task.comm)) return this.#named('kthread', task.comm.replace(/\/.*/, ''));
    if (this.#seen.has(task.pid)) return UNTRACED;
    let unseen = this.#unseen.get(task.pid);
    if (unseen === undefined) {
      if (this.#unseen.size >= MAX_TASKS) return UNTRACED;
      this.#unseen.set(task.pid, (unseen = { ...UNTRACED }));
    }
    return unseen;
  }

  /** A call that nobody's system call is to blame for. */
  at(callsite: string): Origin {
    return this.#named('callsite', callsite);
  }

  /**
   * System calls whose entries are in the trace and whose exits are not: what follows them in the
   * same task is blamed on them.
   */
  openEnded(): readonly string[] {
    return [...this.#entered]
      .filter((name) => !this.#returned.has(name) && !NO_RETURN.has(name))
      .toSorted();
  }

  /** The first sight of `pid`: leaving `syscall`, or entering the kernel, or not the first. */
  #see(pid: number, syscall?: string): void {
    if (this.#seen.has(pid)) return;
    if (this.#seen.size < MAX_TASKS) this.#seen.add(pid);
    const unseen = this.#unseen.get(pid);
    if (unseen === undefined) return;
    this.#unseen.delete(pid);
    if (syscall !== undefined) Object.assign(unseen, { kind: 'syscall', name: syscall });
  }

  #call(event: SysEnter): Origin {
    if (event.syscall !== 'madvise') return this.#named('syscall', event.syscall);
    const behavior = event.values[event.args.indexOf('behavior')];
    const name = behavior === undefined ? undefined : MADVISE.get(behavior);
    return this.#named('syscall', name === undefined ? 'madvise' : `madvise(${name})`);
  }

  #named(kind: Origin['kind'], name: string): Origin {
    const id = `${kind} ${name}`;
    let origin = this.#calls.get(id);
    // More names than a kernel has system calls and places: no such trace is worth telling apart.
    if (origin === undefined && this.#calls.size >= MAX_NAMES) return UNTRACED;
    if (origin === undefined) {
      origin = { kind, name };
      this.#calls.set(id, origin);
    }
    return origin;
  }

  #set(pid: number, origin: Origin): void {
    if (this.#open.size >= MAX_TASKS && !this.#open.has(pid)) {
      for (const [other, held] of this.#open) if (held.kind === 'fault') this.#open.delete(other);
      if (this.#open.size >= MAX_TASKS) this.#open.clear();
    }
    this.#open.set(pid, origin);
  }
}
