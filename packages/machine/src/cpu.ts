/**
 * One logical CPU: the interrupt flag, the NMI mask, what has arrived and was not taken, the store
 * buffer, the translation caches, and the one stack of coroutines that it runs (stack.ts).
 *
 * State that other CPUs can notice, or that decides whether something may happen, is a cell of
 * footprint.ts; reading or changing it is reported to the machine's audit, when there is one.
 */
import type { Audit } from './audit.ts';
import { assert } from './errors.ts';
import { Hardware, type HardwareCell, hardwareId, postedId, storeId } from './footprint.ts';
import type { CpuId } from './ids.ts';
import type { Op } from './op.ts';
import { idleTask, type Task } from './stack.ts';
import { StoreBuffer } from './storeBuffer.ts';
import type { Invalidation, Tlb } from './tlb.ts';
import { Context } from './traceRecord.ts';

/** The vector of a non-maskable interrupt. */
export const NMI_VECTOR = 2;

/** An invalidation that another CPU broadcast and that waits to be applied here. */
export interface PostedInvalidation {
  readonly from: Cpu;
  /** How many others `from` had broadcast before. */
  readonly ordinal: number;
  readonly what: Invalidation;
}

/** One CPU of a machine. */
export class Cpu {
  readonly id: CpuId;
  readonly buffer: StoreBuffer = new StoreBuffer();
  /** What runs when no task does: nothing, with interrupts on, as in user mode. */
  readonly idle: Task;
  /** What it executes next; null while it is idle. */
  op: Op | null = null;
  /** Whose stack it runs on. */
  task: Task;
  readonly tlb: Tlb;
  /** Page frame of the root page table; null before the first load. */
  root: number | null = null;
  /** The PCID that `root` was loaded with. */
  pcid = 0;
  /** How many Ops it has executed. */
  steps = 0;
  readonly audit: Audit | null;

  private irqFlag = true;
  private nmiMask = false;
  private readonly arrived: number[] = [];
  private readonly inbox: PostedInvalidation[] = [];
  private unapplied = 0;
  private broadcasts = 0;

  constructor(id: CpuId, tlbOf: (cpu: Cpu) => Tlb, audit: Audit | null) {
    this.id = id;
    this.audit = audit;
    this.idle = idleTask(id);
    this.task = this.idle;
    this.tlb = tlbOf(this);
  }

  /** The id of a piece of this CPU's state, for footprints. */
  cell(which: HardwareCell): number {
    return hardwareId(this.id, which);
  }

  /** IF: whether maskable interrupts are taken. */
  get irqsOn(): boolean {
    if (this.audit !== null) this.audit.read(this.cell(Hardware.irqFlag));
    return this.irqFlag;
  }

  set irqsOn(on: boolean) {
    if (this.audit !== null) this.audit.write(this.cell(Hardware.irqFlag));
    this.irqFlag = on;
  }

  /** Whether an NMI waits for the running one to return. */
  get nmisMasked(): boolean {
    if (this.audit !== null) this.audit.read(this.cell(Hardware.nmiMask));
    return this.nmiMask;
  }

  set nmisMasked(masked: boolean) {
    if (this.audit !== null) this.audit.write(this.cell(Hardware.nmiMask));
    this.nmiMask = masked;
  }

  /** Whether the host has taken the CPU away: nothing is delivered, and only the host's code runs. */
  get frozen(): boolean {
    if (this.audit !== null) this.audit.read(this.cell(Hardware.running));
    return this.task.contexts.at(-1)?.kind === 'host';
  }

  /** What TraceRecord.context says: the CPU about itself, which is no access to declare. */
  get contextBits(): number {
    let bits = this.irqFlag ? 0 : Context.irqsOff;
    for (const { kind } of this.task.contexts) {
      if (kind === 'irq') bits |= Context.hardirq;
      if (kind === 'nmi') bits |= Context.nmi;
    }
    return bits;
  }

  /** Vectors that have arrived, highest first. The local APIC holds each at most once. */
  get pending(): readonly number[] {
    if (this.audit !== null) this.audit.read(this.cell(Hardware.pending));
    return this.arrived;
  }

  /** A vector arrives. False if it was there already: two become one interrupt. */
  arrive(vector: number): boolean {
    if (this.audit !== null) this.audit.write(this.cell(Hardware.pending));
    if (this.arrived.includes(vector)) return false;
    let at = 0;
    while (at < this.arrived.length && (this.arrived[at] ?? 0) > vector) at++;
    this.arrived.splice(at, 0, vector);
    return true;
  }

  /** The CPU takes `vector`. */
  accept(vector: number): void {
    if (this.audit !== null) this.audit.write(this.cell(Hardware.pending));
    const at = this.arrived.indexOf(vector);
    assert(at !== -1, 'a vector that is taken is pending');
    this.arrived.splice(at, 1);
  }

  /** Whether every store of this CPU has reached memory. */
  get drained(): boolean {
    if (this.audit !== null) this.audit.read(storeId(this.id, this.buffer.count));
    return this.buffer.empty;
  }

  /** Invalidations that wait here, oldest first. */
  get invalidations(): readonly PostedInvalidation[] {
    return this.inbox;
  }

  /** Broadcasts an invalidation, which each of `targets` is to apply. */
  broadcast(targets: readonly Cpu[], what: Invalidation): void {
    const ordinal = this.broadcasts++;
    for (const target of targets) {
      if (this.audit !== null) {
        this.audit.write(target.cell(Hardware.inbox));
        this.audit.write(postedId(this.id, target.id, ordinal));
      }
      target.inbox.push({ from: this, ordinal, what });
    }
    this.unapplied += targets.length;
  }

  /** How many invalidations this CPU ever broadcast: the ordinal of the next. */
  get broadcastCount(): number {
    return this.broadcasts;
  }

  /** Takes the oldest posted invalidation off the list. */
  takeInvalidation(): PostedInvalidation {
    const posted = this.inbox.shift();
    assert(posted !== undefined, 'an invalidation that is applied waits');
    if (this.audit !== null) this.audit.write(postedId(posted.from.id, this.id, posted.ordinal));
    posted.from.unapplied--;
    return posted;
  }

  /** How many of this CPU's own broadcast invalidations are not applied everywhere yet. */
  get outstanding(): number {
    return this.unapplied;
  }
}
