/**
 * The machine: CPUs, memory, and what can happen next. A driver asks which transitions are enabled,
 * what each would touch, and has one executed; nothing here decides which. The clock of sim, the
 * explorer of check and the trace driver of validate are such drivers.
 */
import { drain, touchDrain, touchDrained } from './access.ts';
import { Audit } from './audit.ts';
import { type Axioms, axioms } from './axioms.ts';
import { applicable, touchApply } from './broadcast.ts';
import { Cell, CellNumbers } from './cell.ts';
import { Cpu, NMI_VECTOR } from './cpu.ts';
import { CpuMask } from './cpuMask.ts';
import type { MaskCall } from './csd.ts';
import { assert, UsageError } from './errors.ts';
import type { EnvironmentMove } from './environment.ts';
import { describeOp, explain } from './explain.ts';
import { Footprint, Hardware } from './footprint.ts';
import { cpuId, type Nanoseconds } from './ids.ts';
import { checkVector, enterContext, HANDLER_END } from './interrupt.ts';
import { checkOptions } from './machineOptions.ts';
import { PhysicalMemory } from './memory.ts';
import { type Coroutine, MOVED } from './op.ts';
import { advance, begin, newTask, type Task } from './stack.ts';
import type { Tlb } from './tlb.ts';
import { FiniteTlb, type TlbSizes } from './tlb/finite.ts';
import { MayCachedTlb } from './tlb/mayCached.ts';
import type { TraceEvent, TraceRecord } from './traceRecord.ts';
import {
  type Transition,
  transition,
  transitionArg,
  transitionCpu,
  TransitionKind,
  transitionKind,
} from './transition.ts';

/** What to build. */
export interface MachineOptions {
  /** How many CPUs, 1 to 8192. */
  readonly cpus: number;
  /** `tso`: stores wait in store buffers (x86). `sc`: they do not. Default `tso`. */
  readonly model?: 'tso' | 'sc' | undefined;
  /** Page frames of memory. Default 2^20, 4 GiB. */
  readonly frames?: number | undefined;
  /** Levels of a page table. Default 4. */
  readonly levels?: 4 | 5 | undefined;
  /** `finite` (default): caches as hardware has them; `mayCached`: all that it might hold. */
  readonly tlb?: 'finite' | 'mayCached' | undefined;
  /** How much a finite TLB holds. */
  readonly tlbSizes?: Partial<TlbSizes> | undefined;
  /** Assumptions that are not as usual. */
  readonly axioms?: Partial<Axioms> | undefined;
  /** What nobody asked for. */
  readonly environment?: readonly EnvironmentMove[] | undefined;
  /** Gets every record that code emits; without it `recording` is false. */
  readonly sink?: ((record: TraceRecord) => void) | undefined;
  /** Checking mode: every access is compared with the declared footprint. Slow. */
  readonly checked?: boolean | undefined;
}

/** Answers an interrupt: what the CPU runs. */
export type Handler = () => Coroutine<unknown>;

/** CPUs, memory, and the single-step interface. */
export class Machine {
  readonly cpus: readonly Cpu[];
  /** How many CPUs. */
  readonly count: number;
  readonly model: 'tso' | 'sc';
  readonly levels: 4 | 5;
  readonly axioms: Axioms;
  readonly physical: PhysicalMemory;
  /** Whether translation caches are sets of what may be cached. */
  readonly speculative: boolean;
  readonly audit: Audit | null;
  readonly environment: readonly EnvironmentMove[];
  /** The driver's clock. A record carries it; nothing in the machine reads it. */
  time: Nanoseconds = 0 as Nanoseconds;
  /** The CPU whose code runs at this moment; null between transitions. */
  current: Cpu | null = null;
  /** Page-table words that the walker read in the last transition. */
  walked = 0;
  /** Called when a cell that CPUs wait for changes; set by a driver. */
  onWake: ((cpus: Set<number>) => void) | null = null;
  /** Called for every interrupt that is sent, or timed to come in `ns`; set by a driver. */
  onPosted: ((from: number, to: number, vector: number, ns?: number) => void) | null = null;
  /** Called when a CPU has broadcast an invalidation; set by a driver. */
  onBroadcast: ((from: number) => void) | null = null;
  /** Does a whole mask call at once, or says that it cannot; set by a driver. See csd.ts. */
  onMaskCall: ((from: Cpu, call: MaskCall) => boolean) | null = null;
  /** Where records go; a driver may put itself between. */
  sink: ((record: TraceRecord) => void) | null;

  private readonly numbers: CellNumbers;
  private readonly handlers = new Map<number, Handler>();
  private readonly movesLeft: number[];
  private readonly declared = new Footprint();

  /** @throws UsageError ERR_MACHINE when the options make no machine. */
  constructor(options: MachineOptions) {
    checkOptions(options);
    const { cpus, frames = 2 ** 20, environment = [] } = options;
    this.count = cpus;
    this.model = options.model ?? 'tso';
    this.levels = options.levels ?? 4;
    this.axioms = axioms(options.axioms);
    this.physical = new PhysicalMemory(frames);
    this.speculative = options.tlb === 'mayCached';
    this.audit = options.checked === true ? new Audit(cpus) : null;
    this.environment = environment;
    this.movesLeft = environment.map(({ times }) => times);
    this.sink = options.sink ?? null;
    this.numbers = new CellNumbers(cpus);
    const tlbOf = (cpu: Cpu): Tlb =>
      this.speculative ? new MayCachedTlb(this, cpu) : new FiniteTlb(this, cpu, options.tlbSizes);
    this.cpus = Array.from({ length: cpus }, (_, id) => new Cpu(cpuId(id), tlbOf, this.audit));
  }

  /** CPU number `id`. @throws UsageError ERR_CPU_RANGE */
  cpu(id: number): Cpu {
    const found = this.cpus[id];
    if (found !== undefined) return found;
    throw new UsageError(
      'ERR_CPU_RANGE',
      `there is no CPU ${id} here, the CPUs are 0-${this.count - 1}`,
    );
  }

  /** Makes a named location. Code may do so too: the cell's id is then its CPU's. */
  cell<T>(name: string, value: T): Cell<T> {
    const place = this.numbers.next(this.current?.id ?? null, 1);
    this.audit?.name(place.id, name);
    return new Cell(place, name, value, 0);
  }

  /** Makes a set of CPUs that CPUs change bit by bit. */
  maskCell(name: string, members: Iterable<number> = []): Cell<CpuMask> {
    const place = this.numbers.next(this.current?.id ?? null, this.count);
    for (let bit = 0; bit < this.count; bit++)
      this.audit?.name(place.id + bit * place.stride, `${name}[${bit}]`);
    return new Cell(place, name, new CpuMask(this.count, members), this.count);
  }

  /** Whether records go anywhere: code that builds a costly one may ask first. */
  get recording(): boolean {
    return this.sink !== null;
  }

  /**
   * Installs what a CPU runs when it takes `vector`; 2 is the NMI.
   *
   * @throws UsageError ERR_INTERRUPT for a vector that is none.
   */
  onInterrupt(vector: number, handler: Handler): void {
    checkVector(vector);
    this.handlers.set(vector, handler);
  }

  /** The handler of `vector`. @throws UsageError ERR_INTERRUPT */
  handler(vector: number): Handler {
    const handler = this.handlers.get(vector);
    if (handler !== undefined) return handler;
    throw new UsageError(
      'ERR_INTERRUPT',
      `nothing answers vector ${vector}: install a handler with onInterrupt(${vector}, ...)`,
    );
  }

  /** Has CPU `id`, which must be idle, run `body` from now on, as a task called `name`. */
  run(id: number, body: Coroutine<unknown>, name = `cpu${id}`, who: unknown = null): Task {
    const task = newTask(name, who, body);
    const cpu = this.cpu(id);
    if (cpu.task.stack.length > 0)
      throw new UsageError('ERR_MACHINE', `CPU ${id} already runs ${cpu.task.name}`);
    cpu.task = task;
    this.on(cpu, () => begin(cpu, HANDLER_END));
    return task;
  }

  /** Emits a record of what the running code has just done. */
  emit(event: TraceEvent): void {
    if (this.sink === null) return;
    const cpu = this.current;
    assert(cpu !== null, 'a record is emitted by code that runs');
    const { id, task } = cpu;
    const record = { time: this.time, cpu: id, task: task.who, context: cpu.contextBits, event };
    // The sink is the outside world: it may ask for the time (determinism.ts).
    this.current = null;
    this.sink(record);
    this.current = cpu;
  }

  /** Fills `into` with every transition that can happen now. */
  enabled(into: Transition[]): Transition[] {
    into.length = 0;
    for (const cpu of this.cpus) this.enabledOn(cpu, into);
    return into;
  }

  /** Whether `next` can happen now. */
  isEnabled(next: Transition): boolean {
    const enabled: Transition[] = [];
    this.enabledOn(this.cpu(transitionCpu(next)), enabled);
    return enabled.includes(next);
  }

  /** Appends to `into` what can happen now on `cpu`. */
  enabledOn(cpu: Cpu, into: Transition[]): void {
    for (let way = 0, ways = this.ways(cpu); way < ways; way++)
      into.push(transition(TransitionKind.step, cpu.id, way));
    if (!cpu.buffer.empty) into.push(transition(TransitionKind.drain, cpu.id));
    if (this.deliverable(cpu) !== null) into.push(transition(TransitionKind.deliver, cpu.id));
    if (applicable(this, cpu)) into.push(transition(TransitionKind.apply, cpu.id));
    for (let index = 0; index < this.environment.length; index++)
      if (this.moveEnabled(index, cpu)) into.push(transition(TransitionKind.move, cpu.id, index));
  }

  /** In how many ways the next Op of `cpu` can go now: 0 while it has to wait, or has none. */
  ways(cpu: Cpu): number {
    const { op } = cpu;
    if (op === null) return 0;
    try {
      if (!op.kind.ready(this, cpu, op)) return 0;
      return op.kind.ways === undefined ? 1 : op.kind.ways(this, cpu, op);
    } catch (error) {
      throw explain(cpu, error, op);
    }
  }

  /** The vector that `cpu` could take now, or null. */
  deliverable(cpu: Cpu): number | null {
    const { pending } = cpu;
    if (pending.length === 0 || cpu.frozen) return null;
    if (this.axioms.deliveryDrains && !cpu.drained) return null;
    if (!cpu.nmisMasked && pending.includes(NMI_VECTOR)) return NMI_VECTOR;
    if (!cpu.irqsOn) return null;
    for (const vector of pending) if (vector !== NMI_VECTOR) return vector;
    return null;
  }

  private moveEnabled(index: number, cpu: Cpu): boolean {
    const move = this.environment[index];
    if (move === undefined || move.cpu !== cpu.id || this.movesLeft[index] === 0) return false;
    if (cpu.frozen || (this.axioms.deliveryDrains && !cpu.drained)) return false;
    if (move.kind === 'irq') return cpu.irqsOn;
    return move.kind === 'host' || !cpu.nmisMasked;
  }

  /** Puts what `next` would read and write into `into`. It must be enabled. */
  touch(next: Transition, into: Footprint): void {
    const cpu = this.cpu(transitionCpu(next));
    switch (transitionKind(next)) {
      case TransitionKind.step: {
        const { op } = cpu;
        assert(op !== null, 'a CPU that steps has an Op');
        try {
          op.kind.touch(this, cpu, op, into, transitionArg(next));
        } catch (error) {
          throw explain(cpu, error, op);
        }
        return;
      }
      case TransitionKind.drain:
        touchDrain(this, cpu, into);
        return;
      case TransitionKind.apply:
        touchApply(this, cpu, into);
        cpu.tlb.touchInvalidate(cpu.root, into);
        return;
      case TransitionKind.deliver:
        into.write(cpu.cell(Hardware.pending));
        this.touchEntry(cpu, into);
        return;
      case TransitionKind.move:
        this.touchEntry(cpu, into);
    }
  }

  /** Declares what taking an interrupt, an NMI or a VM exit rests on and changes. */
  private touchEntry(cpu: Cpu, into: Footprint): void {
    into.write(cpu.cell(Hardware.stack));
    into.write(cpu.cell(Hardware.irqFlag));
    into.write(cpu.cell(Hardware.nmiMask));
    into.write(cpu.cell(Hardware.running));
    if (this.axioms.deliveryDrains) touchDrained(cpu, into);
  }

  /** Makes `next`, which must be enabled, happen, and runs its CPU's code to the next Op. */
  execute(next: Transition): void {
    const cpu = this.cpu(transitionCpu(next));
    if (this.audit === null) return this.perform(next, cpu);
    this.declared.clear();
    this.touch(next, this.declared);
    this.audit.begin(this.declared, this.describe(next));
    try {
      this.perform(next, cpu);
    } finally {
      this.audit.end();
    }
  }

  private perform(next: Transition, cpu: Cpu): void {
    switch (transitionKind(next)) {
      case TransitionKind.step:
        return this.step(cpu, transitionArg(next));
      case TransitionKind.drain:
        return drain(this, cpu);
      case TransitionKind.deliver:
        return this.deliver(cpu);
      case TransitionKind.apply:
        return cpu.tlb.invalidate(cpu.takeInvalidation().what);
      case TransitionKind.move:
        return this.move(cpu, transitionArg(next));
    }
  }

  /** Executes the next Op of `cpu`, which must be ready, going `way`. */
  step(cpu: Cpu, way = 0): void {
    const { op } = cpu;
    if (op === null) throw new UsageError('ERR_MACHINE', `CPU ${cpu.id} has no Op to execute`);
    this.current = cpu;
    this.walked = 0;
    cpu.steps++;
    try {
      if (this.audit !== null) assert(op.kind.ready(this, cpu, op), 'an Op that runs is ready');
      const result = op.kind.execute(this, cpu, op, way);
      // What follows is the code between two Ops. Only Ops declare what they touch.
      if (result !== MOVED) advance(cpu, result, HANDLER_END);
    } catch (error) {
      this.current = null;
      throw explain(cpu, error, op);
    }
    this.current = null;
  }

  /** Resumes `cpu` as if its next Op had given `result`: for a driver that knows the answer. */
  answer(cpu: Cpu, result: unknown): void {
    this.on(cpu, () => advance(cpu, result, HANDLER_END));
  }

  /** Has the oldest store of `cpu` reach memory. */
  drain(cpu: Cpu): void {
    drain(this, cpu);
  }

  /** Has `cpu` take what `deliverable` says. */
  deliver(cpu: Cpu): void {
    const vector = this.deliverable(cpu);
    assert(vector !== null, 'an interrupt that is taken can be');
    cpu.accept(vector);
    const handler = this.handler(vector);
    this.on(cpu, () => enterContext(cpu, vector === NMI_VECTOR ? 'nmi' : 'irq', vector, handler()));
  }

  private move(cpu: Cpu, index: number): void {
    const move = this.environment[index];
    assert(move !== undefined && this.moveEnabled(index, cpu), 'a move that happens is enabled');
    this.movesLeft[index] = (this.movesLeft[index] ?? 0) - 1;
    const vector = move.kind === 'nmi' ? NMI_VECTOR : (move.vector ?? null);
    const body = move.body ?? (vector === null ? nothing : this.handler(vector));
    this.on(cpu, () => enterContext(cpu, move.kind, vector, body()));
  }

  /** Runs code of `cpu`. */
  on(cpu: Cpu, body: () => void): void {
    this.current = cpu;
    try {
      body();
    } catch (error) {
      throw explain(cpu, error, null);
    } finally {
      this.current = null;
    }
  }

  /** Tells the driver that `cpus` wait for something that has just changed. */
  wake(cpus: Set<number>): void {
    this.onWake?.(cpus);
  }

  /** `next` in words. */
  describe(next: Transition): string {
    const cpu = this.cpu(transitionCpu(next));
    switch (transitionKind(next)) {
      case TransitionKind.step:
        return `CPU ${cpu.id}: ${describeOp(cpu.op)}`;
      case TransitionKind.drain:
        return `CPU ${cpu.id}: drain of a store`;
      case TransitionKind.deliver:
        return `CPU ${cpu.id}: takes vector ${this.deliverable(cpu) ?? 'nothing'}`;
      case TransitionKind.apply:
        return `CPU ${cpu.id}: applies a broadcast invalidation`;
      case TransitionKind.move:
        return `CPU ${cpu.id}: ${this.environment[transitionArg(next)]?.name ?? 'no such move'}`;
    }
  }
}

function* nothing(): Coroutine {}
