/**
 * The law of mmu_gather, as a function of what one run did: first a page or table is unhooked, then
 * invalidated, then freed; and whoever might have read the table has ended before it is freed.
 */
import { PAGE_SIZE } from '@shootdown/machine';
import type { Kconfig } from './kconfig.ts';
import type { Page } from './kernel/pageAlloc.ts';
import type { MmStruct } from './mmStruct.ts';
import type { ProbeEvent } from './probe.ts';
import { type Held, type Invalidation, isEverything, type OrderEvent } from './recorder.testlib.ts';

/** Under which configuration the run was. */
export interface Under {
  readonly kconfig: Kconfig;
  /** The backend's claim of that name. */
  readonly needsTableInvalidate: boolean;
}

type Flush = Extract<ProbeEvent, { kind: 'flush' | 'flushed' }>;

/** Something that began and ended, at places in the list. */
interface Done {
  readonly what: Flush | Invalidation;
  readonly begun: number;
}

interface UnmappedPage {
  readonly mm: MmStruct;
  readonly addr: number;
  /** When its entry was cleared, or was about to be. */
  readonly at: number;
}

interface UnhookedTable {
  readonly mm: MmStruct;
  readonly at: number;
  /** Readers, as `cpu:when it began`, that may know the table; walkers of its mm among them. */
  readonly readers: Set<string>;
  readonly walkers: Set<string>;
  /** A flush for tables has begun since: who begins to read later finds the entry cleared. */
  flushing: boolean;
  /** There was a wait for walkers since. */
  synced: boolean;
}

/** What breaks the law, in sentences; none if nothing does. */
export function violations(events: readonly OrderEvent[], under: Under): readonly string[] {
  const judge = new Judge(under);
  for (const [at, event] of events.entries()) judge.take(event, at);
  return judge.end();
}

class Judge {
  private readonly found: string[] = [];
  private readonly under: Under;
  private readonly pages = new Map<number, UnmappedPage[]>();
  private readonly tables = new Map<number, UnhookedTable>();
  /** What has begun and not ended, and what has ended. */
  private readonly open: Done[] = [];
  private readonly flushes: Done[] = [];
  private readonly invalidations: Done[] = [];
  /** By CPU: since when it reads, and what it walks. */
  private readonly reading = new Map<number, { since: number; walks: MmStruct | null }>();
  /** Address spaces that nobody runs in any more. */
  private readonly unused = new Set<MmStruct>();
  /** NO_GATHER: when an entry was last to be cleared, by mm and address. */
  private readonly cleared = new Map<string, number>();
  private held: Held | null = null;

  constructor(under: Under) {
    this.under = under;
  }

  take(event: OrderEvent, at: number): void {
    switch (event.kind) {
      case 'unused':
        this.unused.add(event.mm);
        return;
      case 'clear':
        this.cleared.set(entryName(event), at);
        return;
      case 'unmap-page': {
        const { mm, addr, pfn } = event;
        const unmapped = { mm, addr, at: this.cleared.get(entryName(event)) ?? at };
        this.pages.set(pfn, [...(this.pages.get(pfn) ?? []), unmapped]);
        return;
      }
      case 'unhook-table': {
        const { mm, table } = event;
        const unhooked = { mm, at, readers: new Set<string>(), walkers: new Set<string>() };
        this.tables.set(table.pfn, { ...unhooked, flushing: false, synced: false });
        this.suspect(mm);
        return;
      }
      case 'flush':
        this.open.push({ what: event, begun: at });
        if (!event.freedTables) return;
        this.suspect(event.mm);
        for (const table of this.tables.values()) table.flushing ||= table.mm === event.mm;
        return;
      case 'invalidate':
        this.open.push({ what: event, begun: at });
        return;
      case 'flushed':
        this.ended(event, 'flush', this.flushes);
        return;
      case 'invalidated':
        this.ended(event, 'invalidate', this.invalidations);
        return;
      case 'reads':
        this.reading.set(event.cpu, { since: at, walks: event.walks });
        return;
      case 'quiet':
        this.quiet(event.cpu);
        return;
      case 'sync':
        for (const table of this.tables.values()) table.synced = true;
        return;
      case 'held':
        this.held = event;
        return;
      case 'free-page':
        this.freePage(event.page);
        this.notHeld(event.page, 'page');
        return;
      case 'free-table':
        this.freeTable(event);
        this.notHeld(event.table, 'table');
    }
  }

  /** Whoever reads now may have found a table of `mm` that was unhooked and is not flushed yet. */
  private suspect(mm: MmStruct): void {
    for (const table of this.tables.values()) {
      if (table.mm !== mm || table.flushing) continue;
      for (const [cpu, { since, walks }] of this.reading) {
        table.readers.add(`${cpu}:${since}`);
        if (walks === mm) table.walkers.add(`${cpu}:${since}`);
      }
    }
  }

  private quiet(cpu: number): void {
    const reader = this.reading.get(cpu);
    this.reading.delete(cpu);
    if (reader === undefined) return;
    for (const { readers, walkers } of this.tables.values()) {
      readers.delete(`${cpu}:${reader.since}`);
      walkers.delete(`${cpu}:${reader.since}`);
    }
  }

  private ended(
    { mm, start, end, freedTables }: Flush | Invalidation,
    kind: 'flush' | 'invalidate',
    into: Done[],
  ): void {
    const index = this.open.findLastIndex(
      ({ what }) =>
        what.kind === kind &&
        what.mm === mm &&
        what.start === start &&
        what.end === end &&
        what.freedTables === freedTables,
    );
    const begun = this.open[index];
    if (begun === undefined) return;
    this.open.splice(index, 1);
    into.push(begun);
  }

  private freePage(page: Page): void {
    const size = PAGE_SIZE * 2 ** page.order;
    const { MMU_GATHER_NO_GATHER: alone } = this.under.kconfig;
    for (const unmapped of this.pages.get(page.pfn) ?? []) {
      const { mm, addr } = unmapped;
      // Each entry is invalidated when it is cleared, if anybody runs there: no page waits.
      if (alone && this.unused.has(mm)) continue;
      const covers = ({ what, begun }: Done): boolean =>
        begun > unmapped.at &&
        what.mm === mm &&
        (isEverything(what) || (what.start <= addr && what.end >= addr + (alone ? 1 : size)));
      const who = `page ${page.pfn} is freed, unmapped from ${where(unmapped)}`;
      if (!alone && !this.flushes.some(covers)) this.found.push(`${who}, before a flush covers it`);
      if (!this.invalidations.some(covers))
        this.found.push(`${who}, before an invalidation covers it`);
    }
    this.pages.delete(page.pfn);
  }

  private freeTable({ table, by }: Extract<ProbeEvent, { kind: 'free-table' }>): void {
    const unhooked = this.tables.get(table.pfn);
    if (unhooked === undefined) {
      this.found.push(`table ${table.pfn} is freed and was never unhooked`);
      return;
    }
    this.tables.delete(table.pfn);
    const who = `table ${table.pfn} of ${unhooked.mm.name} is freed (${by})`;
    const { kconfig, needsTableInvalidate } = this.under;
    const drops = ({ what, begun }: Done): boolean =>
      begun > unhooked.at && what.mm === unhooked.mm && what.freedTables;
    if (needsTableInvalidate && !kconfig.MMU_GATHER_NO_TABLE_INVALIDATE) {
      if (!this.flushes.some(drops)) this.found.push(`${who} before a flush for tables`);
      if (!this.invalidations.some(drops))
        this.found.push(`${who} before an invalidation for tables`);
    }
    if (by === 'one' && kconfig.MMU_GATHER_RCU_TABLE_FREE && !unhooked.synced)
      this.found.push(`${who} without a wait for walkers`);
    // A grace period, or an interrupt to everybody: nobody reads on who read then.
    const waited = by === 'rcu' || by === 'one-rcu' || unhooked.synced;
    if (waited && unhooked.readers.size > 0)
      this.found.push(`${who} while a reader from before goes on: ${list(unhooked.readers)}`);
    if (unhooked.walkers.size > 0)
      this.found.push(`${who} while somebody walks in it: ${list(unhooked.walkers)}`);
  }

  private notHeld({ pfn }: Page, what: string): void {
    const { held, under } = this;
    this.held = null;
    if (held === null || held.pfn !== pfn) return;
    const { kconfig, needsTableInvalidate } = under;
    const walks = needsTableInvalidate && !kconfig.MMU_GATHER_NO_TABLE_INVALIDATE;
    if (what === 'page' || walks)
      this.found.push(`${what} ${pfn} is freed while CPU ${held.cpus.join(', ')} may still use it`);
  }

  end(): readonly string[] {
    for (const [pfn, { mm }] of this.tables)
      this.found.push(`table ${pfn} of ${mm.name} was unhooked and is never freed`);
    return this.found;
  }
}

const entryName = ({ mm, addr }: Pick<UnmappedPage, 'mm' | 'addr'>): string => `${mm.name}:${addr}`;
const where = ({ mm, addr }: UnmappedPage): string => `0x${addr.toString(16)} of ${mm.name}`;
const list = (readers: ReadonlySet<string>): string =>
  Array.from(readers, (name) => `CPU ${name.split(':').join(' since ')}`).join(', ');
