/**
 * Tasks by thread id, one object each, so that tasks of a trace compare by identity. Names are
 * those that the recorder saved at its end.
 */
import type { RecordedTask } from '../events/shapes.ts';

/**
 * Past this many distinct thread ids (more than a kernel has), tasks without a name are made anew
 * each time.
 */
const MOST_UNNAMED = 1 << 22;

/** The tasks of one recording. */
export class TaskTable {
  readonly #byPid = new Map<number, RecordedTask>();

  /** @param cmdlines - lines of `pid comm`, as in saved_cmdlines. */
  constructor(cmdlines: string) {
    for (const line of cmdlines.split('\n')) {
      const space = line.indexOf(' ');
      const pid = space > 0 ? Number(line.slice(0, space)) : Number.NaN;
      if (Number.isSafeInteger(pid))
        this.#byPid.set(pid, { pid, comm: line.slice(space + 1), tgid: null });
    }
    this.#byPid.set(0, { pid: 0, comm: '<idle>', tgid: null });
  }

  /** The task `pid`; `<...>` when nobody saved its name. */
  get(pid: number): RecordedTask {
    const known = this.#byPid.get(pid);
    if (known !== undefined) return known;
    const task: RecordedTask = { pid, comm: '<...>', tgid: null };
    if (this.#byPid.size < MOST_UNNAMED) this.#byPid.set(pid, task);
    return task;
  }
}
