/**
 * Who is who in a recording: which task belongs to which address space, from system calls and
 * switches alone.
 *
 * A task that calls the kernel or faults in user mode is one of user mode, and so are its children;
 * any other is taken for a kernel thread until it does. A child has the name of its parent when it
 * first runs; which call made it is known for sure when that returns.
 *
 * Not modelled: that clone3 has its flags in memory, which is not recorded. It is taken to share the
 * address space, as pthread_create and posix_spawn have it; fork has a system call that shows.
 */
import { assert, atomicUpdate, call } from '@shootdown/machine';
import type { Kthread, MmStruct, TaskStruct } from '@shootdown/mmu-gather';
import { dupMm, execMmap, exitMm, mmAlloc, mmput } from '@shootdown/linux-mm';
import type { Turn } from './mmapLock.ts';
import type { Operation } from './operation.ts';
import type { FlushListener, Stage } from './stage.ts';

/** An address space, and what is known of it. */
export interface Space {
  readonly mm: MmStruct;
  /** Since it began, or since the exec that gave it its address space, everything is recorded. */
  readonly known: boolean;
  /** mm->brk; null while no call has told. */
  brk: number | null;
  /** Whose calls have mmap_lock for reading, with a gather that has not ended. */
  readonly readers: Set<Thread>;
  /** Whose calls have it for writing until they return. */
  readonly owners: Set<Thread>;
  /** Who has faulted meanwhile, and waits. */
  readonly faulting: Set<Thread>;
  /** Calls that wait for it, in their order. */
  readonly writers: Turn[];
}

const newSpace = (mm: MmStruct, known: boolean, brk: number | null = null): Space => ({
  mm,
  known,
  brk,
  readers: new Set(),
  owners: new Set(),
  faulting: new Set(),
  writers: [],
});

/** A system call that has been entered and not left. */
export interface OpenCall {
  /** What is to be done when it returns. */
  readonly onExit: (cpu: number, ret: number) => void;
}

/** A fault that is not handled yet. */
export interface WaitingFault {
  readonly handle: (cpu: number) => void;
  /** Its task has given the CPU up meanwhile: it goes on when it runs again. */
  asleep: boolean;
}

/** A task of the recording. */
export interface Thread {
  readonly pid: number;
  readonly comm: string;
  readonly task: TaskStruct;
  /** Null: a kernel thread, or one that has exited. */
  space: Space | null;
  /** Of the same thread group, where that is known: all end by one exit_group. */
  group: number;
  /** exit_group was called for it: it ends when it runs next. */
  dying: boolean;
  dead: boolean;
  open: OpenCall | null;
  fault: WaitingFault | null;
  /** What its flushes are for. */
  operation: Operation | null;
}

/** A child that was asked for. */
export interface Birth {
  readonly parent: Thread;
  space: Space;
  readonly sameGroup: boolean;
  pid: number | null;
}

const CLONE_VM = 0x100;
const CLONE_THREAD = 0x10000;

/** The tasks of one recording. */
export class Processes {
  readonly #stage: Stage;
  readonly #threads = new Map<number, Thread>();
  readonly #births: Birth[] = [];

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  /** Live tasks: for tests of what is kept. */
  get size(): number {
    return this.#threads.size;
  }

  /** Every live task. */
  all(): Iterable<Thread> {
    return this.#threads.values();
  }

  /** The task `pid`, as whom it is known; a new one is a child that waits for its first run, or a kernel thread. */
  thread(pid: number, comm: string): Thread {
    const known = this.#threads.get(pid);
    if (known !== undefined && !known.dead) return known;
    const birth =
      this.#births.find((one) => one.pid === pid) ??
      this.#births.find((one) => one.pid === null && one.parent.comm === comm);
    if (birth !== undefined) birth.pid = pid;
    return this.#add(pid, comm, birth ?? null);
  }

  #add(pid: number, comm: string, birth: Birth | null): Thread {
    const space = birth?.space ?? null;
    const thread: Thread = {
      pid,
      comm,
      task: this.#stage.task(comm, space?.mm ?? null),
      space,
      group: birth?.sameGroup === true ? birth.parent.group : pid,
      dying: false,
      dead: false,
      open: null,
      fault: null,
      operation: null,
    };
    this.#threads.set(pid, thread);
    return thread;
  }

  /** `thread`, which runs on `cpu`, acts as a task of user mode. */
  actsAsUser(thread: Thread, cpu: number, listener: FlushListener): Space {
    if (thread.space !== null) return thread.space;
    const stage = this.#stage;
    const mm = stage.run(cpu, listener, () => mmAlloc(stage.k, `of ${thread.pid}`));
    assert(mm !== undefined && mm !== null, 'there is memory for a table');
    stage.run(cpu, listener, () => execMmap(stage.k, mm));
    thread.space = newSpace(mm, false);
    return thread.space;
  }

  /** clone() and its like are entered: the child's address space is made here and now. */
  clone(thread: Thread, cpu: number, flags: number, listener: FlushListener): Birth {
    const { k } = this.#stage;
    const { space } = thread;
    assert(space !== null, 'whoever clones has an address space');
    const birth: Birth = {
      parent: thread,
      space,
      sameGroup: (flags & CLONE_THREAD) !== 0,
      pid: null,
    };
    if ((flags & CLONE_VM) !== 0)
      this.#stage.run(cpu, listener, function* (): Kthread {
        yield* atomicUpdate(space.mm.users, (users) => users + 1);
      });
    else {
      const name = `of a child of ${thread.pid}`;
      const mm = this.#stage.run(cpu, listener, () => dupMm(k, space.mm, name));
      assert(mm !== undefined && mm !== null, 'there is memory for a child');
      birth.space = newSpace(mm, space.known, space.brk);
    }
    this.#births.push(birth);
    return birth;
  }

  /** It has returned in the parent. */
  cloned(birth: Birth, cpu: number, ret: number, listener: FlushListener): void {
    this.#births.splice(this.#births.indexOf(birth), 1);
    const { k } = this.#stage;
    const { space } = birth;
    if (ret <= 0) {
      this.#stage.run(cpu, listener, () => mmput(k, space.mm));
      return;
    }
    if (birth.pid === ret) return;
    // The child has run already, and was taken for that of another parent: they change places.
    const taken = this.#births.find(({ pid }) => pid === ret);
    if (taken !== undefined) {
      taken.pid = birth.pid;
      taken.space = birth.space;
    } else this.#add(ret, birth.parent.comm, birth);
  }

  /** execve has succeeded: a fresh address space, of which everything will be recorded. */
  exec(thread: Thread, cpu: number, listener: FlushListener): void {
    const stage = this.#stage;
    stage.run(cpu, listener, function* (): Kthread {
      const mm = yield* call(mmAlloc(stage.k, `of ${thread.pid}`));
      assert(mm !== null, 'there is memory for a table');
      yield* call(execMmap(stage.k, mm));
      thread.space = newSpace(mm, true);
    });
    for (const other of this.#threads.values())
      if (other !== thread && other.group === thread.group) other.dying = true;
    thread.group = thread.pid;
  }

  /** `thread`, which runs on `cpu`, ends. */
  exit(thread: Thread, cpu: number, listener: FlushListener): void {
    if (thread.dead) return;
    const { k } = this.#stage;
    if (thread.space !== null) this.#stage.run(cpu, listener, () => exitMm(k));
    thread.space = null;
    thread.dead = true;
    this.#threads.delete(thread.pid);
  }

  /** exit_group: the others of the group end when they run next. */
  exitGroup(thread: Thread): void {
    for (const other of this.#threads.values())
      if (other !== thread && other.group === thread.group) other.dying = true;
  }
}
