/** Whose mm each task runs in, where no probe shows the mm: from fork, exec and the scheduler. */
import type { RecordedTask } from '@shootdown/trace';
import type { KnownMm, Model } from './model.ts';

/**
 * Names of kernel threads, as the kernel gives them. A user task may take such a name; a recording
 * that begins after the task was made cannot tell.
 */
const KERNEL_THREAD = new RegExp(
  `^(?:${[
    'kworker/|ksoftirqd/|migration/|cpuhp/|idle_inject/|irq/|rcu_|rcuo|rcub/|rcuc/|watchdog|jbd2/',
    'kthreadd$|kswapd|kcompactd|khugepaged|ksmd|kdamond|oom_reaper|pool_workqueue',
    'kauditd|khungtaskd|kdevtmpfs',
  ].join('|')})`,
);

/** The mm of each task. */
export class Processes {
  readonly #model: Model;
  readonly #mms = new Map<number, KnownMm>();
  /** What tasks in execve() have left: nobody else flushes it, and nobody else has the new one. */
  readonly #left = new Map<number, KnownMm>();
  readonly #groups = new Map<number, number>();
  readonly #kernel = new Set<number>();
  #made = 0;

  constructor(model: Model) {
    this.#model = model;
  }

  /** The mm that task `pid` runs in; null: it is a kernel thread, or idle. */
  mmOf(pid: number, comm: string): KnownMm | null {
    if (pid === 0 || this.#kernel.has(pid)) return null;
    const known = this.#mms.get(pid);
    if (known !== undefined) return known;
    if (KERNEL_THREAD.test(comm)) {
      this.#kernel.add(pid);
      return null;
    }
    // From before the recording: who else runs in it is known only by the thread group.
    const tgid = this.#groups.get(pid) ?? null;
    const entry = this.#model.mmAt(tgid === null ? `task ${pid}` : `process ${tgid}`);
    entry.vague = tgid === null;
    this.#mms.set(pid, entry);
    return entry;
  }

  /** Learns the thread group of a task. */
  note(task: RecordedTask | null): void {
    if (task !== null && task.tgid !== null) this.#groups.set(task.pid, task.tgid);
  }

  /** The mm of the task that a record names. */
  of(task: RecordedTask | null): KnownMm | null {
    this.note(task);
    return task === null ? null : this.mmOf(task.pid, task.comm);
  }

  /**
   * `parent` has made `child`.
   *
   * @param shares - in the same mm; null: nobody saw whether.
   */
  fork(parent: RecordedTask, child: number, shares: boolean | null): void {
    const mm = this.of(parent);
    if (mm === null) {
      // A kernel thread makes kernel threads.
      this.#kernel.add(child);
      return;
    }
    if (shares === true) this.#mms.set(child, mm);
    else this.#mms.set(child, this.#make(shares === null));
  }

  /** The mm that a task has other CPUs flush: the one that execve() has left, once and all of it. */
  flushed(task: RecordedTask | null, pages: number): KnownMm | null {
    const now = this.of(task);
    if (now === null || task === null || pages !== -1) return now;
    const left = this.#left.get(task.pid) ?? now;
    this.#left.delete(task.pid);
    return left;
  }

  /** Forks and execs may be missing. */
  forget(): void {
    for (const entry of this.#mms.values()) entry.vague = true;
  }

  /** `pid` is out of execve(). */
  execEnded(pid: number): void {
    this.#left.delete(pid);
  }

  /** `pid` has called execve(): it has an mm of its own. */
  exec(pid: number, bears: boolean): KnownMm {
    const left = this.#mms.get(pid);
    if (left !== undefined) this.#left.set(pid, left);
    const entry = this.#make(!bears);
    this.#mms.set(pid, entry);
    return entry;
  }

  /** `pid` is gone. */
  exit(pid: number): void {
    const mm = this.#mms.get(pid);
    this.#mms.delete(pid);
    this.#kernel.delete(pid);
    this.#groups.delete(pid);
    this.#left.delete(pid);
    if (mm === undefined) return;
    for (const other of this.#mms.values()) if (other === mm) return;
    this.#model.release(mm);
  }

  #make(vague: boolean): KnownMm {
    const entry = this.#model.newMmAt(`mm ${++this.#made}`, !vague);
    entry.vague = vague;
    return entry;
  }
}
