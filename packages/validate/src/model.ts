/** The model that runs beside a recording: a composed kernel, its CPUs' lines, and what is known. */
import {
  contextOf,
  type CpuTlbState,
  type LoadedMm,
  TLB_NR_DYN_ASIDS,
  tlbstate,
  x86,
} from '@shootdown/arch-x86';
import { assert, type Cpu, cpuId, Machine } from '@shootdown/machine';
import {
  composeKernel,
  coreFunctions,
  type Edition,
  type Kernel,
  type MmStruct,
  newMm,
  type Release,
  type TlbBackend,
} from '@shootdown/mmu-gather';
import type { RecordedEvent } from '@shootdown/trace';
import { Histories } from './history.ts';
import { type CpuKnowledge, Known, type Level, unknownCpu } from './knowledge.ts';
import { Line, type Lockstep } from './line.ts';
import { withProbes } from './observe.ts';
import { Queue } from './queues.ts';

/** An mm that the recording names. */
export interface KnownMm {
  /** Its address, as recorded. */
  readonly at: string;
  readonly mm: MmStruct;
  /** mm->context.ctx_id, once it was shown. */
  ctx: string | null;
  /** It was made during the recording, so nothing of it is from before. */
  born: boolean;
  /** Events were missing since it was first seen. */
  gap: boolean;
  /** Its mm_cpumask. */
  mask: Level;
  /** Its generation, as recorded, is the model's plus this. */
  offset: number;
  generation: Level;
  /** Which tasks run in it is not certain. */
  vague: boolean;
  /** Batches have left it open who is up to date. */
  doubted: boolean;
  /** How many flushes of batches have raised it, unseen, since it was last shown. */
  batches: number;
}

/** One CPU of the model. */
export interface CpuView {
  readonly known: CpuKnowledge;
  readonly state: CpuTlbState;
  readonly loaded: LoadedMm;
}

/** What a model is made of. */
export interface ModelOptions {
  readonly cpus: number;
  readonly backend: TlbBackend;
  readonly kernel?: Release | undefined;
  readonly editions?: readonly Edition[] | undefined;
  /** Kinds of events that the recording has. */
  readonly recorded: Iterable<string>;
}

/** Frames for page tables that nobody walks here. */
const FRAMES = 512;
/** Generations that an mm from before the recording has room for below. */
const EARLIER = 2 ** 20;

/** The model. */
export class Model implements Lockstep {
  readonly k: Kernel;
  readonly machine: Machine;
  readonly histories: Histories = new Histories();
  readonly lines: readonly Line[];
  readonly known: readonly CpuKnowledge[];
  readonly queues: readonly Queue[];
  readonly recorded: Set<string>;
  seq = 0;
  readonly #mms = new Map<string, KnownMm>();
  readonly #entries = new WeakMap<object, KnownMm>();
  /** Stands for whatever a CPU had loaded before the recording. */
  readonly #older: MmStruct;

  constructor({ cpus, backend, kernel, editions, recorded }: ModelOptions) {
    this.recorded = new Set(recorded);
    const show = (cpu: number, event: RecordedEvent): void => this.lines[cpu]?.show(event);
    this.machine = new Machine({
      cpus,
      model: 'sc',
      frames: FRAMES,
      sink: ({ cpu, event }) => show(cpu, event as RecordedEvent),
    });
    this.k = composeKernel({
      machine: this.machine,
      backend: withProbes(backend),
      functions: coreFunctions,
      kernel,
      editions,
      frames: FRAMES,
    });
    this.#older = newMm(this.k, 'older', this.k.initMm.pgd);
    this.lines = this.machine.cpus.map((cpu: Cpu) => new Line(this, cpu));
    this.known = this.machine.cpus.map(() => unknownCpu(TLB_NR_DYN_ASIDS));
    this.queues = this.machine.cpus.map(() => new Queue());
    const { ctxId } = contextOf(this.#older);
    this.machine.cpus.forEach(({ id }) => {
      const state = tlbstate(this.k, id);
      state.loadedMm.value = this.#older;
      this.#older.cpumask.value.set(id);
      state.ctxs.forEach((ctx, asid) =>
        Object.assign(ctx, { ctxId: asid === 0 ? ctxId : 0, tlbGen: 0 }),
      );
      this.histories.watch(state.loadedMm);
      this.histories.watch(state.isLazy);
    });
    this.#watch(this.#older);
    this.#watch(this.k.initMm);
  }

  /** PCIDs are in use. */
  get pcid(): boolean {
    return x86(this.k).features.pcid;
  }

  /** The mm at `address`; made known if it was not. */
  mmAt(address: string, born = false): KnownMm {
    return this.#mms.get(address) ?? this.newMmAt(address, born);
  }

  /** The mm at `address`, if it is known. */
  find(address: string): KnownMm | null {
    return this.#mms.get(address) ?? null;
  }

  /** Of which recorded mm `mm` is the model; null if of none. */
  entryOf(mm: unknown): KnownMm | null {
    return typeof mm === 'object' && mm !== null ? (this.#entries.get(mm) ?? null) : null;
  }

  /** One CPU: what is known of it, and what the model holds. */
  cpu(id: number): CpuView {
    const known = this.known[id];
    assert(known !== undefined, 'a CPU of the recording is one of the model');
    const state = tlbstate(this.k, cpuId(id));
    return { known, state, loaded: state.loadedMm.value };
  }

  /** All mms that are known. */
  get mms(): Iterable<KnownMm> {
    return this.#mms.values();
  }

  /** Another mm than before is at `address`. */
  newMmAt(address: string, born: boolean): KnownMm {
    const mm = newMm(this.k, `mm@${address}`, this.k.initMm.pgd);
    this.#watch(mm);
    // Earlier generations than the first that is seen are to come, in calls on their way.
    const base = born ? 0 : EARLIER;
    contextOf(mm).tlbGen.value = base;
    return this.#keep({
      at: address,
      mm,
      ctx: null,
      born,
      mask: born ? Known.yes : Known.no,
      offset: -base,
      generation: born ? Known.yes : Known.no,
      batches: 0,
      doubted: false,
      gap: false,
      vague: false,
    });
  }

  /** Nobody runs in `entry` any more. */
  release({ at }: KnownMm): void {
    this.#mms.delete(at);
  }

  /** init_mm is at `address`. */
  initMmAt(address: string): KnownMm {
    const known = this.#mms.get(address);
    if (known?.mm === this.k.initMm) return known;
    return this.#keep({
      at: address,
      mm: this.k.initMm,
      ctx: '1',
      born: false,
      mask: Known.yes,
      offset: 0,
      generation: Known.yes,
      batches: 0,
      doubted: false,
      gap: false,
      vague: false,
    });
  }

  /** CPU `cpu`, of which nothing was known, turns out to have `mm` loaded. */
  loadOlder(cpu: number, mm: MmStruct): void {
    const state = tlbstate(this.k, cpuId(cpu));
    state.loadedMm.value = mm;
    const ctx = state.ctxs[state.loadedMmAsid];
    const { ctxId, tlbGen } = contextOf(mm);
    if (ctx !== undefined) Object.assign(ctx, { ctxId, tlbGen: tlbGen.value });
    const known = this.known[cpu];
    if (known !== undefined) known.loaded = true;
  }

  #keep(entry: KnownMm): KnownMm {
    this.#mms.set(entry.at, entry);
    this.#entries.set(entry.mm, entry);
    return entry;
  }

  #watch(mm: MmStruct): void {
    this.histories.watch(mm.cpumask);
    this.histories.watch(contextOf(mm).tlbGen);
  }
}
