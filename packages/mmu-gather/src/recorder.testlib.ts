/**
 * What the order law judges: what the probe sees, what the backend was asked to invalidate and when
 * it was done, who reads page tables meanwhile, and which CPUs still know a frame that is freed.
 */
import { call, type Machine } from '@shootdown/machine';
import type { Scheduler } from '@shootdown/sim';
import type { Kernel, Kthread } from './kernel.ts';
import type { Page } from './kernel/pageAlloc.ts';
import { perCpu } from './kernel/percpu.ts';
import type { MmStruct } from './mmStruct.ts';
import type { ProbeEvent } from './probe.ts';
import { type TlbBackend, TLB_FLUSH_ALL } from './tlb.ts';

/** What the backend was asked for, at both ends of its work. */
export interface Invalidation {
  readonly kind: 'invalidate' | 'invalidated';
  readonly mm: MmStruct;
  readonly start: number;
  readonly end: number;
  readonly freedTables: boolean;
}

/** A CPU begins or ends to be a reader for RCU; `walks`: in GUP-fast, through the tables of `mm`. */
export interface Reading {
  readonly kind: 'reads' | 'quiet';
  readonly cpu: number;
  readonly walks: MmStruct | null;
}

/** The frame that is freed next is still known to these CPUs' hardware. */
export interface Held {
  readonly kind: 'held';
  readonly pfn: number;
  readonly cpus: readonly number[];
}

/** From here on nobody runs in `mm`: exit tears it down. */
export interface Unused {
  readonly kind: 'unused';
  readonly mm: MmStruct;
}

/** The backend begins to clear an entry and to invalidate it (NO_GATHER). */
export interface Clearing {
  readonly kind: 'clear';
  readonly mm: MmStruct;
  readonly addr: number;
}

export type OrderEvent = ProbeEvent | Invalidation | Reading | Held | Unused | Clearing;

/** Records one run. */
export class OrderRecorder {
  readonly events: OrderEvent[] = [];
  private readonly reading: (Reading | null)[] = [];
  private readonly unused = new Set<MmStruct>();
  private k: Kernel | null = null;

  /** The backend, with what it is asked for recorded. */
  watch(backend: TlbBackend): TlbBackend {
    const { events } = this;
    function* told(what: Omit<Invalidation, 'kind'>, body: Kthread): Kthread {
      events.push({ kind: 'invalidate', ...what });
      yield* call(body);
      events.push({ kind: 'invalidated', ...what });
    }
    const { ptepGetAndClear } = backend;
    const clear: TlbBackend['ptepGetAndClear'] =
      ptepGetAndClear &&
      ((k, mm, addr, at) => {
        events.push({ kind: 'clear', mm, addr });
        return ptepGetAndClear(k, mm, addr, at);
      });
    return {
      ...backend,
      ptepGetAndClear: clear,
      flushTlbMmRange(k, info) {
        const { mm, start, end, freedTables } = info;
        const body = backend.flushTlbMmRange(k, info);
        return mm === null ? body : told({ mm, start, end, freedTables }, body);
      },
      flushTlbRange(k, mm, start, end, shift) {
        const freedTables = k.rules.flushRangeFreesTables;
        const body = backend.flushTlbRange(k, mm, start, end, shift);
        return told({ mm, start, end, freedTables }, body);
      },
    };
  }

  /** Looks on at `k`. */
  attach(k: Kernel): void {
    this.k = k;
    k.probe = (event) => {
      this.look(k.machine);
      if (event.kind === 'unmap-page' || event.kind === 'unhook-table') this.use(event.mm);
      if (event.kind === 'free-table') this.hold(event.table, true);
      if (event.kind === 'free-page') this.hold(event.page, false);
      this.events.push(event);
    };
  }

  /** `inner`, with who reads noted between all transitions. */
  scheduler(inner: Scheduler): Scheduler {
    return {
      name: inner.name,
      pick: (enabled, machine) => {
        this.look(machine);
        return inner.pick(enabled, machine);
      },
    };
  }

  private use(mm: MmStruct): void {
    if (mm.users.value > 0 || this.unused.has(mm)) return;
    this.unused.add(mm);
    this.events.push({ kind: 'unused', mm });
  }

  private look(machine: Machine): void {
    for (const cpu of machine.cpus) {
      const now = this.readerOn(cpu.id);
      const before = this.reading[cpu.id] ?? null;
      if (now?.walks === before?.walks && (now === null) === (before === null)) continue;
      if (before !== null) this.events.push({ ...before, kind: 'quiet' });
      if (now !== null) this.events.push(now);
      this.reading[cpu.id] = now;
    }
  }

  private readerOn(id: number): Reading | null {
    const { k } = this;
    if (k === null) return null;
    const cpu = k.machine.cpu(id);
    const handler = cpu.task.contexts.some(({ kind }) => kind !== 'host');
    const nesting = k.rcu.nesting[id]?.value ?? 0;
    if (cpu.irqsOn && !handler && nesting === 0) return null;
    const { current } = perCpu(k, id);
    const walks = !cpu.irqsOn && !handler && current.syscall === 'vmsplice' ? current.mm : null;
    return { kind: 'reads', cpu: id, walks };
  }

  /**
   * Which CPUs' hardware may use the page: those that run its mm, as who is lazy touches no user
   * page. A table must not be walked by anybody. With interrupts off a CPU may be between two address
   * spaces, and then it is in no mask.
   */
  private hold(page: Page, table: boolean): void {
    const { k } = this;
    if (k === null) return;
    const cpus = k.machine.cpus.filter((cpu) => {
      if (!cpu.irqsOn) return false;
      if (table) return cpu.tlb.walksThrough(page.pfn);
      return perCpu(k, cpu.id).current.mm !== null && cpu.tlb.translatesTo(page.pfn);
    });
    if (cpus.length > 0)
      this.events.push({ kind: 'held', pfn: page.pfn, cpus: cpus.map(({ id }) => id) });
  }
}

/** Whether a flush or invalidation is of everything. */
export const isEverything = ({ end }: { readonly end: number }): boolean => end === TLB_FLUSH_ALL;
