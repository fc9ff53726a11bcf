/**
 * A kernel whose tasks do what they are told: a recording says which task runs where and what it
 * asks of the kernel, and the kernel code does the rest. A task is a coroutine that waits for its
 * next piece of work; a switch between tasks is the kernel's own schedule(), with the run queue set
 * to whom the recording names.
 *
 * A piece of work runs to its end before the next begins, with the interrupts it sends taken at
 * once. So the clock of the recording decides the order of works and nothing inside of one.
 */
import {
  assert,
  atomicWhen,
  call,
  type Cell,
  type Cpu,
  Machine,
  MAX_CPUS,
  nanoseconds,
  type TraceRecord,
} from '@shootdown/machine';
import {
  composeKernel,
  type CoreFunctions,
  currentTask,
  decTlbFlushPending,
  incTlbFlushPending,
  type Kernel,
  type Kthread,
  type MmStruct,
  type MmuGather,
  newTaskStruct,
  perCpu,
  type Release,
  schedule,
  smpProcessorId,
  type TaskStruct,
  type TlbBackend,
} from '@shootdown/mmu-gather';
import type { MmFunctions, MmKernel } from '@shootdown/linux-mm';
import type { RecordedEvent } from '@shootdown/trace';

/** What to build the kernel of. */
export interface StageParts {
  readonly cpus: number;
  readonly backend: TlbBackend;
  readonly functions: CoreFunctions & MmFunctions;
  readonly kernel: Release;
}

/** A tlb:tlb_flush event of the model: on which CPU. */
export type FlushListener = (cpu: number, reason: number, pages: number) => void;

type Work = () => Kthread<unknown>;

/** Frames that nobody uses cost nothing: a machine of 64 GiB for whatever was recorded. */
const FRAMES = 2 ** 24;
/** Where a call asks for pages of another node there is one. */
const NODES = 2;

const isGiven = (work: Work | null): boolean => work !== null;
const taken = (): null => null;

const nothing = function* (): Kthread {};

/** The kernel, its CPUs and its tasks. */
export class Stage {
  readonly k: MmKernel;
  /** Who stops at the end of a gather: see `hold`. */
  readonly #holding = new Set<TaskStruct>();
  readonly #inboxes = new WeakMap<TaskStruct, Cell<Work | null>>();
  readonly #posted = new Set<number>();
  #listener: FlushListener | null = null;

  constructor({ cpus, backend, functions, kernel }: StageParts) {
    const machine = new Machine({
      cpus: Math.min(cpus, MAX_CPUS),
      model: 'sc',
      frames: FRAMES,
      sink: (record) => this.#record(record),
    });
    machine.onPosted = (_from, to) => this.#posted.add(to);
    const held = { ...functions, tlbFinishMmu: this.#holdAround(functions) };
    this.k = composeKernel({
      machine,
      backend,
      functions: held,
      kernel,
      frames: FRAMES,
      nodes: NODES,
    });
  }

  /**
   * tlb_finish_mmu() of a task that holds. Whether gathers of one address space overlap decides what
   * they flush, so a gather lasts until its call is seen to return: its flush is pending until then.
   * The flush itself is where the call has most of its time behind it: at once if it is to wait for
   * other CPUs, and at the end if it is not.
   */
  #holdAround(functions: CoreFunctions): CoreFunctions['tlbFinishMmu'] {
    const wait = (task: TaskStruct): Kthread => this.#untilReleased(task);
    const holding = this.#holding;
    return function* (k, tlb) {
      const task = currentTask(k);
      if (!holding.has(task)) return yield* call(functions.tlbFinishMmu(k, tlb));
      if (!interrupts(k, tlb)) yield* call(wait(task));
      yield* call(functions.tlbFinishMmu(k, tlb));
      if (!holding.has(task)) return;
      yield* call(incTlbFlushPending(tlb.mm));
      yield* call(wait(task));
      yield* call(decTlbFlushPending(tlb.mm));
    };
  }

  /** Does other work meanwhile: it may be switched out. */
  *#untilReleased(task: TaskStruct): Kthread {
    const inbox = this.#inboxes.get(task);
    assert(inbox !== undefined, 'a task of the stage waits for work');
    while (this.#holding.has(task)) {
      const work = yield* atomicWhen(inbox, isGiven, taken);
      if (work !== null) yield* call(work());
    }
  }

  /** As run(), but a gather that the work begins lasts until `release`. */
  hold(cpu: number, listener: FlushListener, work: () => Kthread<unknown>): void {
    const task = this.current(cpu);
    assert(task !== null, 'calls are made by tasks');
    this.#holding.add(task);
    let ended = false;
    this.run(cpu, listener, function* () {
      yield* call(work());
      ended = true;
    });
    if (ended) this.#holding.delete(task);
  }

  /** Whether `task` holds. */
  holds(task: TaskStruct): boolean {
    return this.#holding.has(task);
  }

  /** `task`, which runs on `cpu`, ends what it holds. */
  release(task: TaskStruct, cpu: number, listener: FlushListener): void {
    if (!this.#holding.delete(task)) return;
    this.run(cpu, listener, nothing);
  }

  #record({ cpu, event }: TraceRecord): void {
    const recorded = event as RecordedEvent;
    if (recorded.kind === 'tlb_flush') this.#listener?.(cpu, recorded.reason, recorded.pages);
  }

  /** A task that has run nowhere yet; null: a kernel thread. */
  task(comm: string, mm: MmStruct | null): TaskStruct {
    const inbox = this.k.machine.cell<Work | null>(`inbox of ${comm}`, null);
    const task = newTaskStruct(this.k, { comm, mm, cpu: 0, body: () => obey(inbox) });
    this.#inboxes.set(task, inbox);
    return task;
  }

  /** Who runs on `cpu`; null: nobody. */
  current(cpu: number): TaskStruct | null {
    const { current, idle } = perCpu(this.k, cpu);
    return current === idle ? null : current;
  }

  /** The time that kernel code sees. */
  set time(ns: number) {
    this.k.machine.time = nanoseconds(ns);
  }

  /** Has whoever runs on `cpu` do `work`; every flush until it is done goes to `listener`. */
  run<T>(cpu: number, listener: FlushListener, work: () => Kthread<T>): T | undefined {
    let result: T | undefined;
    const whole = function* (): Kthread {
      result = yield* call(work());
    };
    const task = this.current(cpu);
    this.#listener = listener;
    if (task === null) {
      const { idle } = perCpu(this.k, cpu);
      this.k.machine.run(cpu, whole(), idle.comm, idle);
    } else {
      const inbox = this.#inboxes.get(task);
      assert(inbox !== undefined, 'a task of the stage waits for work');
      inbox.value = whole;
    }
    this.#settle(this.k.machine.cpu(cpu));
    this.#listener = null;
    return result;
  }

  /** Has `cpu` run `next` from now on; null: nobody. */
  switchTo(cpu: number, next: TaskStruct | null, listener: FlushListener): void {
    const { k } = this;
    if (this.current(cpu) === next) return;
    const { rq, id } = perCpu(k, cpu);
    if (next !== null) next.cpu = id;
    rq.value = { ...rq.value, currSleeps: true, queue: next === null ? [] : [next] };
    this.run(cpu, listener, () => schedule(k));
  }

  /** Runs `cpu`, and whom it interrupts, until nobody can go on. */
  #settle(cpu: Cpu): void {
    const { machine } = this.k;
    for (let moved = true; moved;) {
      moved = this.#advance(cpu);
      for (const id of this.#posted) {
        this.#posted.delete(id);
        if (this.#advance(machine.cpu(id))) moved = true;
      }
    }
    const inbox =
      this.current(cpu.id) === null ? null : this.#inboxes.get(perCpu(this.k, cpu.id).current);
    assert(inbox === null ? cpu.op === null : inbox?.value === null, 'work that was begun ends');
  }

  #advance(cpu: Cpu): boolean {
    const { machine } = this.k;
    for (let steps = 0; ; steps++) {
      if (machine.deliverable(cpu) !== null) machine.deliver(cpu);
      else if (machine.ways(cpu) > 0) machine.step(cpu);
      else return steps > 0;
    }
  }
}

/** Whether the flush at the end of `tlb` interrupts anybody: who is lazy is left out if no table goes. */
function interrupts(k: Kernel, tlb: MmuGather): boolean {
  const { mm, freedTables, end } = tlb;
  if (end === 0 && !freedTables) return false;
  const self = smpProcessorId(k);
  return mm.cpumask.value
    .members()
    .some((cpu) => cpu !== self && (freedTables || perCpu(k, cpu).current.mm === mm));
}

/** A task's life. */
function* obey(inbox: Cell<Work | null>): Kthread {
  for (;;) {
    const work = yield* atomicWhen(inbox, isGiven, taken);
    if (work !== null) yield* call(work());
  }
}
