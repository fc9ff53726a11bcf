/**
 * What a user program is made of: accesses to memory and system calls. A workload is written with
 * these, and every one of them is kernel code underneath.
 */
import {
  atomicUpdate,
  call,
  type Cell,
  compute,
  PAGE_FAULT,
  PAGE_SIZE,
  userSpin,
  userTouch,
  UsageError,
  virtAddr,
  writeOnce,
} from '@shootdown/machine';
import {
  complete,
  type Completion,
  completion,
  currentTask,
  enqueueBeforeStart,
  type Kthread,
  type MmStruct,
  moveTo,
  newTaskStruct,
  putPage,
  schedYield,
  sleep,
  type TaskStruct,
  traceMarker,
  waitForCompletion,
  wakeUp,
} from '@shootdown/mmu-gather';
import { exitToUserMode, systemCall } from './entry.ts';
import { doExit } from './exit.ts';
import { doUserAddrFault } from './fault.ts';
import { dupMm } from './fork.ts';
import { getUserPages } from './gupSlow.ts';
import { doMadvise, type MadviseBehavior } from './madvise.ts';
import { Errno, type MmKernel } from './mm.ts';
import { doMbindMove, MPOL_BIND, MPOL_MF_MOVE } from './mempolicy.ts';
import { doMmap, doMunmap, type MmapRequest } from './mmap.ts';
import { doMprotect, type Protection } from './mprotect.ts';
import { doMremap } from './mremap.ts';
import { ANON_RW } from './vma.ts';

/** What a thread does; its system calls are those of `user`. */
export type Program = (user: User) => Kthread<unknown>;

/** A thread's or child's end can be waited for. */
export interface Started {
  readonly task: TaskStruct;
  readonly ended: Completion;
}

/** The system calls and accesses of the task that runs. */
export class User {
  readonly k: MmKernel;

  constructor(k: MmKernel) {
    this.k = k;
  }

  /** The address space. @throws UsageError ERR_COROUTINE for a kernel thread. */
  get mm(): MmStruct {
    const { mm, comm } = currentTask(this.k);
    if (mm === null)
      throw new UsageError('ERR_COROUTINE', `${comm} has no user memory: start it with newProcess`);
    return mm;
  }

  /**
   * One access to the page of `addr`; faults as often as it takes.
   *
   * @throws UsageError ERR_WORKLOAD for SIGSEGV, ERR_MEMORY when the machine has no page left.
   */
  *access(addr: number, write: boolean): Kthread {
    while ((yield* userTouch(virtAddr(addr), write)) === PAGE_FAULT) {
      const result = yield* call(doUserAddrFault(this.k, addr, write));
      if (result === 'oom') throw outOfMemory(addr);
      if (result === 'sigsegv') throw segfault(currentTask(this.k), addr, write);
    }
  }

  /** Writes to `pages` pages from `addr` on. */
  *touch(addr: number, pages: number): Kthread {
    for (let page = 0; page < pages; page++)
      yield* call(this.access(addr + page * PAGE_SIZE, true));
  }

  /** Reads from `pages` pages from `addr` on. */
  *read(addr: number, pages: number): Kthread {
    for (let page = 0; page < pages; page++)
      yield* call(this.access(addr + page * PAGE_SIZE, false));
  }

  /** Computes for `ns`. */
  *compute(ns: number): Kthread {
    yield* compute(ns);
  }

  /** Sets a flag that others look at. */
  *set(flag: Cell<boolean>): Kthread {
    yield* writeOnce(flag, true);
  }

  /** Spins in user mode until `flag` is set. */
  *spin(flag: Cell<boolean>): Kthread {
    yield* userSpin(flag, (set) => set);
  }

  /** mmap; without an address: where there is room. Gives the address, or -errno. */
  mmap(request: Partial<MmapRequest> & { readonly length: number }): Kthread<number> {
    const whole: MmapRequest = { addr: null, flags: ANON_RW, ...request };
    const args = { addr: whole.addr ?? 0, len: whole.length };
    return systemCall(this.k, { name: 'mmap', args }, () => doMmap(this.k, this.mm, whole));
  }

  /** munmap. */
  munmap(addr: number, length: number): Kthread<number> {
    return systemCall(this.k, { name: 'munmap', args: { addr, len: length } }, () =>
      doMunmap(this.k, this.mm, addr, length),
    );
  }

  /** mprotect. */
  mprotect(start: number, length: number, to: Protection): Kthread<number> {
    const prot = (to.read ? 1 : 0) + (to.write ? 2 : 0);
    return systemCall(this.k, { name: 'mprotect', args: { start, len: length, prot } }, () =>
      doMprotect(this.k, this.mm, start, length, to),
    );
  }

  /** mbind to `node`, with MPOL_MF_MOVE. `nmask` is the mask itself, where a recording has its address. */
  mbind(start: number, length: number, node: number): Kthread<number> {
    const args = {
      start,
      len: length,
      mode: MPOL_BIND,
      nmask: 2 ** node,
      maxnode: 64,
      flags: MPOL_MF_MOVE,
    };
    return systemCall(this.k, { name: 'mbind', args }, () =>
      doMbindMove(this.k, this.mm, start, length, node),
    );
  }

  /** madvise. */
  madvise(start: number, length: number, behavior: MadviseBehavior): Kthread<number> {
    const args = { start, len_in: length, behavior };
    return systemCall(this.k, { name: 'madvise', args }, () =>
      doMadvise(this.k, this.mm, start, length, behavior),
    );
  }

  /** mremap to `to`. */
  mremap(addr: number, length: number, to: number): Kthread<number> {
    const args = { addr, old_len: length, new_len: length, flags: 3, new_addr: to };
    return systemCall(this.k, { name: 'mremap', args }, () =>
      doMremap(this.k, this.mm, addr, length, to),
    );
  }

  /** vmsplice of `pages` pages, which are let go again at once. Gives how many, or -errno. */
  vmsplice(addr: number, pages: number): Kthread<number> {
    const { k } = this;
    const end = addr + pages * PAGE_SIZE;
    return systemCall(k, { name: 'vmsplice', args: { fd: 0, nr_segs: 1 } }, function* () {
      const range = { start: addr, end, write: false, pin: false, pages: [] };
      const got = yield* call(getUserPages(k, range));
      for (const page of range.pages) yield* call(putPage(k, page));
      return got === 0 ? Errno.EFAULT : got;
    });
  }

  /** nanosleep. */
  nanosleep(ns: number): Kthread<number> {
    const { k } = this;
    return systemCall(k, { name: 'clock_nanosleep', args: {} }, function* () {
      yield* call(sleep(k, ns));
      return 0;
    });
  }

  /** sched_yield. */
  schedYield(): Kthread<number> {
    const { k } = this;
    return systemCall(k, { name: 'sched_yield', args: {} }, function* () {
      yield* call(schedYield(k));
      return 0;
    });
  }

  /** sched_setaffinity to one CPU. */
  pin(cpu: number): Kthread<number> {
    const { k } = this;
    const args = { pid: 0, len: 8 };
    return systemCall(k, { name: 'sched_setaffinity', args }, function* () {
      yield* call(moveTo(k, cpu));
      return 0;
    });
  }

  /** fork: the child runs `program` on `cpu`, the parent's if it is not said. Gives it, or -errno. */
  *fork(program: Program, cpu?: number): Kthread<Started> {
    const { k } = this;
    const parent = currentTask(k);
    let started: Started | null = null;
    yield* call(
      systemCall(k, { name: 'clone', args: {} }, function* (): Kthread<number> {
        const mm = yield* call(dupMm(k, parent.mm ?? k.initMm, `mm${k.ids.mm}`));
        if (mm === null) return Errno.ENOMEM;
        started = prepare(k, { comm: parent.comm, mm, cpu: cpu ?? parent.cpu }, program);
        yield* call(wakeUp(k, started.task));
        return started.task.pid;
      }),
    );
    if (started === null) throw outOfMemory(0);
    return started;
  }

  /** pthread_create, pinned to `cpu`. */
  *thread(cpu: number, program: Program): Kthread<Started> {
    const { k, mm } = this;
    const { comm, tgid } = currentTask(k);
    let started: Started | null = null;
    yield* call(
      systemCall(k, { name: 'clone3', args: {} }, function* (): Kthread<number> {
        yield* atomicUpdate(mm.users, (users) => users + 1);
        started = prepare(k, { comm, mm, cpu, tgid }, program);
        yield* call(wakeUp(k, started.task));
        return started.task.pid;
      }),
    );
    if (started === null) throw outOfMemory(0);
    return started;
  }

  /** pthread_join, waitpid: until a thread or child has ended. */
  join({ ended }: Started): Kthread<number> {
    return this.waitFor(ended, 1);
  }

  /** Sleeps until something has happened `times` times: a futex. */
  waitFor(what: Completion, times: number): Kthread<number> {
    const { k } = this;
    return systemCall(k, { name: 'futex', args: {} }, function* () {
      yield* call(waitForCompletion(k, what, times));
      return 0;
    });
  }

  /** Wakes who waits for it. */
  signal(what: Completion): Kthread<number> {
    const { k } = this;
    return systemCall(k, { name: 'futex', args: {} }, function* () {
      yield* call(complete(k, what));
      return 0;
    });
  }

  /** A line in the trace. */
  mark(text: string): void {
    traceMarker(this.k, text);
  }
}

const outOfMemory = (addr: number): UsageError =>
  new UsageError(
    'ERR_MEMORY',
    `no page frame is left for the access to 0x${addr.toString(16)}: give the machine more memory, or the workload less`,
  );

const segfault = ({ comm }: TaskStruct, addr: number, write: boolean): UsageError =>
  new UsageError(
    'ERR_WORKLOAD',
    `${comm} ${write ? 'writes to' : 'reads'} 0x${addr.toString(16)}, where nothing is mapped that allows it`,
  );

/** A task with an address space, ready to be woken. */
function prepare(
  k: MmKernel,
  what: Omit<Parameters<typeof newTaskStruct>[1], 'body'>,
  program: Program,
): Started {
  const ended = completion(k.machine, `${what.comm}-${k.ids.pid}`);
  const task = newTaskStruct(k, { ...what, body: () => run(k, program, ended) });
  return { task, ended };
}

function* run(k: MmKernel, program: Program, ended: Completion): Kthread {
  yield* call(exitToUserMode(k));
  yield* call(program(new User(k)));
  currentTask(k).inKernel = true;
  yield* call(complete(k, ended));
  yield* call(doExit(k));
}

/**
 * A process that starts with the machine, on `cpu`, in `mm`: set-up, before any CPU runs. Follow it by
 * startCpus().
 */
export function newProcess(
  k: MmKernel,
  { comm, cpu, mm }: { readonly comm: string; readonly cpu: number; readonly mm: MmStruct },
  program: Program,
): Started {
  const started = prepare(k, { comm, mm, cpu }, program);
  enqueueBeforeStart(k, started.task);
  return started;
}
