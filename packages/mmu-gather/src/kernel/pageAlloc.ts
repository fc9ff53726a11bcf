/**
 * The page allocator: page frames of NUMA nodes, in single pages and in huge pages of 2 MiB, that
 * can run out. A free list is one cell, so that who frees and who allocates next are ordered, and a
 * freed frame is the first to be used again, which is what a use after free needs to be seen.
 *
 * Not modelled: per-CPU page lists, buddy merging, watermarks, reclaim on behalf of an allocation.
 */
import {
  assert,
  atomicUpdate,
  call,
  type Cell,
  mayFail,
  type Machine,
  pfn,
  type Pfn,
  type PhysAddr,
  physAddr,
  PAGE_SIZE,
  UsageError,
  writeWord,
} from '@shootdown/machine';
import type { Kernel, Kthread } from '../kernel.ts';
import type { MmStruct } from '../mmStruct.ts';
import { newSpinLock, type SpinLock } from './locking.ts';

/** log2 of the pages of a huge page: HPAGE_PMD_ORDER. */
export const HPAGE_PMD_ORDER = 9;
/** Pages of a huge page. */
export const HPAGE_PMD_NR = 512;

/** One entry that maps a page. */
export interface Mapping {
  readonly mm: MmStruct;
  readonly addr: number;
}

/** struct page of the first frame of an allocation. */
export interface Page {
  readonly pfn: Pfn;
  /** 0, or `HPAGE_PMD_ORDER`. */
  readonly order: number;
  /** _refcount. */
  readonly refcount: Cell<number>;
  /** Where it is mapped: _mapcount, and what the reverse mapping would find. */
  readonly mappings: Cell<readonly Mapping[]>;
  /** PG_locked: who moves the page, or writes it out, holds it. */
  readonly lock: SpinLock;
  /** PageAnonExclusive: nobody else can reach it, so a write needs no copy. */
  anonExclusive: boolean;
  /** Where its contents are in swap; null if they are not. */
  swapEntry: number | null;
  /** pt_share_count: how many mms beyond the first use it as a PMD table. */
  readonly ptShareCount: Cell<number>;
}

/** Frames that are free: a list of freed ones, and those never used between `low` and `high`. */
interface FreeArea {
  readonly pages: FreeList | null;
  readonly huge: FreeList | null;
  readonly low: number;
  readonly high: number;
  /** Free frames, all together. */
  readonly free: number;
}

interface FreeList {
  readonly pfn: number;
  readonly next: FreeList | null;
}

/** struct zone, one for each node. */
export interface Zone {
  readonly node: number;
  readonly start: number;
  readonly end: number;
  readonly area: Cell<FreeArea>;
}

/** Frames that were set up in bulk, in the order of the addresses that they are mapped at. */
export interface BulkFrames {
  readonly first: number;
  readonly count: number;
  readonly mm: MmStruct;
  readonly addr: number;
}

/** Zones, and the struct pages of what is allocated. */
export interface PageAllocator {
  readonly zones: readonly Zone[];
  readonly pages: Map<number, Page>;
  /** Their struct pages are made when they are first asked for. */
  readonly bulk: BulkFrames[];
}

/** Frame 0 is init_mm's root table, so that an entry of 0 is none; frame 1 is the zero page. */
export const ZERO_PFN: Pfn = pfn(1);
const FIRST_FRAME = 2;

/**
 * An allocator of `frames` frames in `nodes` equal nodes.
 *
 * @throws UsageError ERR_MEMORY when a node would have less than a huge page.
 */
export function newPageAllocator(machine: Machine, frames: number, nodes: number): PageAllocator {
  const each = Math.floor(frames / nodes / HPAGE_PMD_NR) * HPAGE_PMD_NR;
  if (each < HPAGE_PMD_NR)
    throw new UsageError(
      'ERR_MEMORY',
      `${frames} page frames in ${nodes} nodes: a node needs ${HPAGE_PMD_NR} frames (2 MiB) at least`,
    );
  const zones = Array.from({ length: nodes }, (_, node): Zone => {
    const start = node * each;
    const end = start + each;
    const low = node === 0 ? FIRST_FRAME : start;
    const area: FreeArea = { pages: null, huge: null, low, high: end, free: end - low };
    return { node, start, end, area: machine.cell(`zone[${node}].free_area`, area) };
  });
  return { zones, pages: new Map(), bulk: [] };
}

/** gfp_t: may the allocation wait for memory? Here: may it fail without memory being short? */
export type Gfp = 'GFP_KERNEL' | 'GFP_NOWAIT';

interface Taken {
  readonly area: FreeArea;
  readonly pfn: number | null;
}

/** The area without one block of `order`, and which that was; pure, so that it can be one step. */
function take(area: FreeArea, order: number): Taken {
  const { pages, huge, low, high, free } = area;
  if (order === 0) {
    if (pages !== null)
      return { area: { pages: pages.next, huge, low, high, free: free - 1 }, pfn: pages.pfn };
    if (low < high) return { area: { pages, huge, low: low + 1, high, free: free - 1 }, pfn: low };
    if (huge === null) return { area, pfn: null };
    // The last huge page is broken up.
    const broken = { ...area, huge: huge.next, low: huge.pfn + 1, high: huge.pfn + HPAGE_PMD_NR };
    return { area: { ...broken, free: free - 1 }, pfn: huge.pfn };
  }
  const left = free - HPAGE_PMD_NR;
  if (huge !== null) return { area: { ...area, huge: huge.next, free: left }, pfn: huge.pfn };
  const aligned = Math.floor(high / HPAGE_PMD_NR) * HPAGE_PMD_NR - HPAGE_PMD_NR;
  if (aligned < low) return { area, pfn: null };
  // What is above the alignment becomes single pages.
  let list = pages;
  for (let above = aligned + HPAGE_PMD_NR; above < high; above++) list = { pfn: above, next: list };
  return { area: { ...area, pages: list, high: aligned, free: left }, pfn: aligned };
}

function give(area: FreeArea, frame: number, order: number): FreeArea {
  const { pages, huge, low, high, free } = area;
  if (order === 0) return { pages: { pfn: frame, next: pages }, huge, low, high, free: free + 1 };
  return { pages, huge: { pfn: frame, next: huge }, low, high, free: free + HPAGE_PMD_NR };
}

const zoneOf = (k: Kernel, frame: number): Zone => {
  const zone = k.pages.zones.find(({ start, end }) => frame >= start && frame < end);
  assert(zone !== undefined, 'every frame is in a zone');
  return zone;
};

/** Node of a frame: page_to_nid. */
export const pageToNid = (k: Kernel, frame: number): number => zoneOf(k, frame).node;

/** Free frames of all nodes: nr_free_pages. */
export const freePages = (k: Kernel): number =>
  k.pages.zones.reduce((sum, { area }) => sum + area.value.free, 0);

const UNMAPPED: readonly Mapping[] = [];

/** A struct page. What few pages need is made when it is asked for. */
class PageStruct implements Page {
  readonly pfn: Pfn;
  readonly order: number;
  readonly refcount: Cell<number>;
  readonly mappings: Cell<readonly Mapping[]>;
  anonExclusive = false;
  swapEntry: number | null = null;
  private readonly machine: Machine;
  private ownLock: SpinLock | null = null;
  private shareCount: Cell<number> | null = null;

  constructor(machine: Machine, frame: number, order: number) {
    this.machine = machine;
    this.pfn = pfn(frame);
    this.order = order;
    this.refcount = machine.cell('page._refcount', 1);
    this.mappings = machine.cell('page._mapcount', UNMAPPED);
  }

  get lock(): SpinLock {
    return (this.ownLock ??= newSpinLock(this.machine, `page[${this.pfn}].lock`));
  }

  get ptShareCount(): Cell<number> {
    return (this.shareCount ??= this.machine.cell(`page[${this.pfn}].pt_share_count`, 0));
  }
}

/** A struct page for `frame`, with one reference. */
export function newPage(k: Kernel, frame: number, order = 0): Page {
  const page = new PageStruct(k.machine, frame, order);
  k.pages.pages.set(frame, page);
  return page;
}

/** What an allocation is for: names the choice to fail. */
export interface AllocRequest {
  readonly gfp: Gfp;
  /** `tlb_next_batch`, for example. */
  readonly purpose: string;
  readonly order?: number | undefined;
  /** The node to take it from first. Default 0. */
  readonly node?: number | undefined;
  /** Take it from no other node: __GFP_THISNODE. */
  readonly thisNode?: boolean | undefined;
}

/**
 * alloc_pages: null when memory is short, or when the environment says so of a request that may not
 * wait. The contents are whatever was there.
 */
export function* allocPages(k: Kernel, request: AllocRequest): Kthread<Page | null> {
  const { gfp, purpose, order = 0, node = 0, thisNode = false } = request;
  if (gfp === 'GFP_NOWAIT' && !(yield* mayFail(purpose))) return null;
  const { zones } = k.pages;
  for (let tried = 0; tried < (thisNode ? 1 : zones.length); tried++) {
    const zone = zones[(node + tried) % zones.length];
    assert(zone !== undefined, 'nodes are numbered from 0');
    const before = yield* atomicUpdate(zone.area, (area) => take(area, order).area);
    const { pfn: frame } = take(before, order);
    if (frame !== null) return newPage(k, frame, order);
  }
  return null;
}

/** get_zeroed_page: what was in the frame is cleared, where it is not 0 already. */
export function* getZeroedPage(k: Kernel, request: AllocRequest): Kthread<Page | null> {
  const page = yield* call(allocPages(k, request));
  if (page !== null) yield* call(clearPage(k, page));
  return page;
}

/** clear_page, word by word where a word is not 0. */
export function* clearPage(k: Kernel, page: Page): Kthread {
  for (let sub = 0; sub < 2 ** page.order; sub++) {
    const frame = k.machine.physical.frame(page.pfn + sub);
    if (frame === null) continue;
    for (const index of frame.used)
      if (frame.words[index] !== 0) yield* writeWord(wordOf(page.pfn + sub, index), 0);
  }
}

const wordOf = (frame: number, index: number): PhysAddr => physAddr(frame * PAGE_SIZE + index * 8);

/** The struct page of `frame`, or of the huge page that it is part of. */
export function pageOf(k: Kernel, frame: number): Page {
  const { pages } = k.pages;
  const page = pages.get(frame) ?? bulkPage(k, frame) ?? hugePageOf(k, frame);
  assert(page !== null, 'a frame that is used was allocated');
  return page;
}

function hugePageOf(k: Kernel, frame: number): Page | null {
  const head = k.pages.pages.get(Math.floor(frame / HPAGE_PMD_NR) * HPAGE_PMD_NR);
  return head?.order === HPAGE_PMD_ORDER ? head : null;
}

function bulkPage(k: Kernel, frame: number): Page | null {
  const range = k.pages.bulk.find(({ first, count }) => frame >= first && frame < first + count);
  if (range === undefined) return null;
  const page = newPage(k, frame);
  page.anonExclusive = true;
  page.mappings.value = [{ mm: range.mm, addr: range.addr + (frame - range.first) * PAGE_SIZE }];
  return page;
}

/**
 * Takes `count` single frames that were never used, in one go: set-up, before anything runs. They are
 * the memory of [addr, ...) of `mm`; the entries are the caller's to write.
 *
 * @throws UsageError ERR_MEMORY if no node has that many left.
 */
export function takeBulk(k: Kernel, mm: MmStruct, addr: number, count: number): BulkFrames {
  const zone = k.pages.zones.find(({ area }) => area.value.high - area.value.low >= count);
  if (zone === undefined) {
    const most = Math.max(...k.pages.zones.map(({ area }) => area.value.high - area.value.low));
    throw new UsageError(
      'ERR_MEMORY',
      `${count} page frames are wanted and the machine has ${most} in a row: give it more memory`,
    );
  }
  const { low } = zone.area.value;
  zone.area.value = { ...zone.area.value, low: low + count, free: zone.area.value.free - count };
  const range: BulkFrames = { first: low, count, mm, addr };
  k.pages.bulk.push(range);
  return range;
}

/** get_page, for somebody who has a reference or the lock of an entry that maps it. */
export function* getPage(page: Page): Kthread {
  yield* atomicUpdate(page.refcount, (count) => count + 1);
}

/** try_get_page, without either: false if it is free already. */
export function* tryGetPage(page: Page): Kthread<boolean> {
  return (yield* atomicUpdate(page.refcount, (count) => (count > 0 ? count + 1 : count))) > 0;
}

/** put_page: the last reference frees it. */
export function* putPage(k: Kernel, page: Page): Kthread {
  if ((yield* atomicUpdate(page.refcount, (count) => count - 1)) !== 1) return;
  k.probe?.({ kind: 'free-page', page });
  yield* call(freeFrames(k, page));
}

/** __free_pages: gives the frames back, whoever had them. */
export function* freeFrames(k: Kernel, { pfn: frame, order }: Page): Kthread {
  // Before the frames are anybody else's: the next owner makes a struct page of its own.
  k.pages.pages.delete(frame);
  yield* atomicUpdate(zoneOf(k, frame).area, (area) => give(area, frame, order));
}
