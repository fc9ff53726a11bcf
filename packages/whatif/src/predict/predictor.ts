/**
 * The records of a trace, one by one: system calls, page faults and switches drive the kernel; what
 * the trace says of flushes is compared with what the kernel did.
 */
import { UsageError } from '@shootdown/machine';
import { type CoreFunctions, type Release, taskSize, type TlbBackend } from '@shootdown/mmu-gather';
import type { MmFunctions } from '@shootdown/linux-mm';
import type {
  PageFault,
  RecordedRecord,
  RecordedTask,
  SchedSwitch,
  SysEnter,
  SysExit,
  TlbFlush,
  TraceHeader,
} from '@shootdown/trace';
import { isWrite, recordedFault } from './faults.ts';
import { handleFault, MmapLocks, unheard } from './mmapLock.ts';
import { addEvent, type Operation, type OperationKind } from './operation.ts';
import { type Space, Processes, type Thread } from './processes.ts';
import { Score } from './score.ts';
import { type FlushListener, Stage } from './stage.ts';
import { type Effect, effectOf } from './systemCalls.ts';

/** CPUs where the recording does not say how many there are. */
const CPUS = 256;
/**
 * Where times count ticks of the TSC, whose rate is not recorded: so many for a nanosecond. Only that
 * mm_cpumask is trimmed once a second depends on it.
 */
const TICKS_PER_NS = 2.5;

const CLONE_VM = 0x100;
const CLONE_VFORK = 0x4000;
const CLONE_THREAD = 0x10000;

/** Flags of the calls that make a child; those of clone are an argument. */
const CLONES: Readonly<Record<string, number | null>> = {
  clone: null,
  clone3: CLONE_VM + CLONE_THREAD,
  fork: 0,
  vfork: CLONE_VM + CLONE_VFORK,
};

/** What one CPU is doing. */
interface CpuState {
  readonly id: number;
  running: Thread | null;
  /** The last switch. */
  switched: Operation | null;
}

/** A write of the kernel to user memory while a program is loaded. */
type LoadFault = Pick<PageFault, 'errorCode'> & { readonly address: number };

/** What a predictor is made of. */
export interface PredictorParts {
  readonly backend: TlbBackend;
  readonly kernel: Release;
  readonly functions: CoreFunctions & MmFunctions;
  readonly marks: { readonly from: string; readonly to: string } | null;
}

/** The kernel that follows a trace. */
export class Predictor {
  readonly score: Score = new Score();
  /** Records so far. */
  events = 0;
  readonly #marks: PredictorParts['marks'];
  readonly #stage: Stage;
  readonly #processes: Processes;
  readonly #locks: MmapLocks;
  readonly #cpus: (CpuState | undefined)[] = [];
  readonly #nsPerUnit: number;
  /** By the task that is in execve. */
  readonly #loading = new Map<Thread, LoadFault[]>();
  #counting: boolean;

  constructor({ cpus, clock }: TraceHeader, { marks, ...parts }: PredictorParts) {
    this.#marks = marks;
    this.#counting = marks === null;
    this.#nsPerUnit = clock.unit === 'ticks' ? 1 / TICKS_PER_NS : 1;
    // A header counts the CPUs that are online, whose numbers may be higher.
    this.#stage = new Stage({ cpus: cpus === null ? CPUS : 2 * cpus, ...parts });
    this.#processes = new Processes(this.#stage);
    this.#locks = new MmapLocks(
      this.#stage,
      (thread) => this.#where(thread)?.id ?? null,
      (operation) => this.#into(operation),
    );
  }

  /** What the kernel's WARNs said. */
  get warnings(): readonly string[] {
    return Array.from(this.#stage.k.warnings);
  }

  /** Tasks that are known now. */
  get tasks(): number {
    return this.#processes.size;
  }

  /** The next record. */
  record({ cpu, task, event, time }: RecordedRecord): void {
    this.events++;
    this.#stage.time = time * this.#nsPerUnit;
    const state = this.#cpu(cpu, task);
    switch (event.kind) {
      case 'sched_switch':
        return this.#switch(state, event);
      case 'sys_enter':
        return this.#enter(state, this.#onCpu(state, task), event);
      case 'sys_exit':
        return this.#exit(state, this.#onCpu(state, task), event);
      case 'page_fault':
        if (task.pid !== 0) this.#fault(state, this.#onCpu(state, task), event);
        return;
      case 'tlb_flush':
        return this.#flushed(state, event);
      case 'other':
        if (event.name === 'tracing_mark_write') this.#mark(event.payload.text());
        return;
      default:
    }
  }

  /** There are no more. */
  end(): void {
    for (const thread of this.#processes.all()) this.#endOf(thread);
    for (const state of this.#cpus) {
      if (state === undefined) continue;
      if (state.running !== null) this.#endOf(state.running);
      if (state.switched !== null) this.score.finish(state.switched);
    }
    this.score.end();
  }

  #mark(text: string): void {
    if (this.#marks === null) return;
    if (text.startsWith(this.#marks.from)) this.#counting = true;
    else if (text.startsWith(this.#marks.to)) this.#counting = false;
  }

  /** The state of `cpu`. Who is first seen there has been running. */
  #cpu(cpu: number, task: RecordedTask): CpuState {
    const known = this.#cpus[cpu];
    if (known !== undefined) return known;
    const { count } = this.#stage.k.machine;
    if (cpu >= count)
      throw new UsageError(
        'ERR_CPU_RANGE',
        `there is a CPU ${cpu} in the trace, whose header counts ${count / 2} CPUs`,
      );
    const state: CpuState = { id: cpu, running: null, switched: null };
    this.#cpus[cpu] = state;
    if (task.pid !== 0) this.#run(state, this.#processes.thread(task.pid, task.comm), unheard);
    return state;
  }

  #where(thread: Thread): CpuState | undefined {
    return this.#cpus.find((state) => state?.running === thread);
  }

  /** The task of a record that only the running task can cause; a switch to it may be missing. */
  #onCpu(state: CpuState, { pid, comm }: RecordedTask): Thread {
    let { running } = state;
    if (running === null || running.pid !== pid) {
      running = this.#processes.thread(pid, comm);
      this.#run(state, running, unheard);
    }
    handleFault(running, state.id);
    return running;
  }

  #run(state: CpuState, next: Thread | null, listener: FlushListener): void {
    // Clocks of CPUs differ: it may be seen here before it is seen to leave.
    const elsewhere = next === null ? undefined : this.#where(next);
    if (elsewhere !== undefined && elsewhere !== state) this.#run(elsewhere, null, unheard);
    this.#stage.switchTo(state.id, next?.task ?? null, listener);
    state.running = next;
  }

  #begin(kind: OperationKind, name: string, space: Space | null): Operation {
    return {
      kind,
      name,
      decidable: kind === 'switch' ? space?.known !== false : space?.known === true,
      obstacle: null,
      began: this.events,
      counted: this.#counting,
      predicted: [],
      recorded: [],
    };
  }

  #beginOf(thread: Thread, kind: OperationKind, name: string): Operation {
    this.#endOf(thread);
    const operation = this.#begin(kind, name, thread.space);
    thread.operation = operation;
    return operation;
  }

  #endOf(thread: Thread): void {
    if (thread.operation !== null) this.score.finish(thread.operation);
    thread.operation = null;
  }

  #into(operation: Operation): FlushListener {
    return (cpu, reason, pages) => this.score.predict(operation, cpu, reason, pages);
  }

  #switch(state: CpuState, { nextPid, nextComm }: SchedSwitch): void {
    const { running } = state;
    if (running !== null && running.fault !== null) running.fault.asleep = true;
    if (running?.dying === true) this.#exits(state, running, 'exit');
    if (running?.dead === true) this.#endOf(running);
    if (state.switched !== null) this.score.finish(state.switched);
    const next = nextPid === 0 ? null : this.#processes.thread(nextPid, nextComm);
    state.switched = this.#begin('switch', 'switch', next?.space ?? null);
    this.#run(state, next, this.#into(state.switched));
    if (next === null) return;
    if (next.space !== null) this.#locks.letWrite(next.space);
    handleFault(next, state.id);
    if (next.dying) this.#exits(state, next, 'exit');
  }

  #exits(state: CpuState, thread: Thread, name: string): void {
    if (thread.space !== null) this.#locks.leave(thread, thread.space, state.id);
    const operation = this.#beginOf(thread, 'exit', name);
    this.#processes.exit(thread, state.id, this.#into(operation));
  }

  #enter(state: CpuState, thread: Thread, { syscall: name, args: names, values }: SysEnter): void {
    const space = this.#processes.actsAsUser(thread, state.id, unheard);
    const args = (arg: string): number => values[names.indexOf(arg)] ?? 0;
    thread.open = null;
    if (name === 'exit' || name === 'exit_group') {
      if (name === 'exit_group') this.#processes.exitGroup(thread);
      return this.#exits(state, thread, name);
    }
    if (name === 'execve' || name === 'execveat') return this.#load(thread, name);
    const operation = this.#beginOf(thread, 'call', name);
    const flags = CLONES[name];
    if (flags !== undefined)
      return this.#clone(state, thread, space, operation, flags ?? args('clone_flags'));
    const effect = effectOf(this.#stage.k, space, name, args);
    if (effect !== null) this.#call(state, thread, space, operation, effect);
  }

  #clone(state: CpuState, thread: Thread, space: Space, operation: Operation, flags: number): void {
    const listener = this.#into(operation);
    this.#locks.alone(space, state.id);
    const birth = this.#processes.clone(thread, state.id, flags, listener);
    if (birth.space !== space) this.#locks.own(thread, space);
    thread.open = {
      onExit: (cpu, ret) => {
        this.#locks.disown(thread, space);
        this.#processes.cloned(birth, cpu, ret, listener);
      },
    };
  }

  #call(
    { id }: CpuState,
    thread: Thread,
    space: Space,
    operation: Operation,
    { enter, exit, obstacle, lock = 'write', overlaps = false }: Effect,
  ): void {
    operation.obstacle = obstacle ?? null;
    const listener = this.#into(operation);
    const turn = enter && { thread, space, listener, work: enter, lock, overlaps };
    const owns = lock === 'write' && !overlaps;
    // Where nobody can be interrupted the flush is at the end, and whoever comes before it counts.
    const last = !overlaps && space.mm.cpumask.value.members().every((cpu) => cpu === id);
    if (turn !== undefined && !last) this.#locks.enter(turn, id);
    if (owns) this.#locks.own(thread, space);
    thread.open = {
      onExit: (cpu, ret) => {
        if (turn !== undefined && last && ret >= 0) this.#locks.enter(turn, cpu);
        this.#locks.leave(thread, space, cpu);
        if (exit !== undefined && ret >= 0) {
          this.#locks.alone(space, cpu);
          this.#stage.run(cpu, listener, exit(ret));
        }
        if (owns) this.#locks.disown(thread, space);
      },
    };
  }

  /** execve: what the kernel writes to user memory from now on is in the new address space. */
  #load(thread: Thread, name: string): void {
    const operation = this.#beginOf(thread, 'exec', name);
    const faults: LoadFault[] = [];
    this.#loading.set(thread, faults);
    thread.open = {
      onExit: (cpu, ret) => {
        this.#loading.delete(thread);
        if (ret >= 0) this.#processes.exec(thread, cpu, this.#into(operation));
        for (const { address, errorCode } of faults)
          this.#handle(cpu, thread, address, errorCode, operation);
      },
    };
  }

  #exit(state: CpuState, thread: Thread, { ret }: SysExit): void {
    // Also whoever was in a call when the recording began.
    this.#processes.actsAsUser(thread, state.id, unheard);
    const { open } = thread;
    thread.open = null;
    open?.onExit(state.id, ret);
    this.#endOf(thread);
  }

  #fault(state: CpuState, thread: Thread, { name, address, errorCode }: PageFault): void {
    const user = name === 'page_fault_user';
    if (user) this.#processes.actsAsUser(thread, state.id, unheard);
    const { space } = thread;
    if (space === null || address === null) return;
    // The kernel's own memory.
    if (address < 0 || address >= taskSize(this.#stage.k)) return;
    const loading = this.#loading.get(thread);
    if (loading !== undefined && isWrite(errorCode)) {
      loading.push({ address, errorCode });
      return;
    }
    // The kernel's accesses to user memory are part of the call they are in.
    const inside = thread.operation !== null && thread.operation.kind !== 'fault';
    const operation =
      !user && inside && thread.operation !== null
        ? thread.operation
        : this.#beginOf(thread, 'fault', 'page fault');
    this.#locks.fault(thread, space, state.id, (cpu) =>
      this.#handle(cpu, thread, address, errorCode, operation),
    );
  }

  #handle(
    cpu: number,
    { space }: Thread,
    address: number,
    errorCode: number,
    operation: Operation,
  ): void {
    if (space === null) return;
    const { k } = this.#stage;
    const unknown = this.#stage.run(cpu, this.#into(operation), () =>
      recordedFault(k, space.mm, address, errorCode),
    );
    if (unknown === true) operation.obstacle ??= 'memory that no call has mapped';
  }

  #flushed(state: CpuState, { reason, pages }: TlbFlush): void {
    if (reason < 2 || reason > 4) {
      this.score.received({
        cpu: state.id,
        reason,
        pages,
        at: this.events,
        switched: state.switched,
        counted: this.#counting,
      });
      return;
    }
    const { running } = state;
    let operation = running?.operation ?? null;
    if (operation === null) {
      const kind = running === null || running.space === null ? 'kthread' : 'call';
      operation = this.#begin(kind, 'nothing that is traced', null);
      if (running !== null) running.operation = operation;
    }
    addEvent(operation.recorded, reason, pages);
    if (running === null) this.score.finish(operation);
  }
}
