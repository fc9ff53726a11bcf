/**
 * Memory that is there when a workload begins: mapped, touched, and in page tables, as if it had been
 * faulted in page by page. Set-up only: no CPU takes part and no time passes.
 */
import { makePte, PAGE_SIZE, ptePfn } from '@shootdown/machine';
import {
  addTableLock,
  alignDown,
  entryOf,
  isTable,
  Level,
  type MmStruct,
  newPage,
  type Page,
  pageOf,
  tableEntry,
  takeBulk,
} from '@shootdown/mmu-gather';
import type { MmKernel } from '../mm.ts';
import { flagsFor } from '../pteOf.ts';
import { ANON_RW, insertVma } from '../vma.ts';
import { takeFrame } from './workload.ts';

/**
 * Maps and touches `pages` pages of private anonymous memory at `addr`.
 *
 * @throws UsageError ERR_MEMORY when the machine lacks them.
 */
export function populate(k: MmKernel, mm: MmStruct, addr: number, pages: number): void {
  const vma = insertVma(mm, { start: addr, end: addr + pages * PAGE_SIZE, flags: ANON_RW });
  const { physical } = k.machine;
  const { first } = takeBulk(k, mm, addr, pages);
  const flags = flagsFor(vma, true);
  let table = -1;
  let covers = -1;
  for (let n = 0; n < pages; n++) {
    const at = addr + n * PAGE_SIZE;
    const start = alignDown(at, Level.pmd);
    if (start !== covers) {
      table = tableFor(k, mm, at);
      covers = start;
    }
    physical.write(entryOf(table, at, Level.pte), makePte(first + n, flags));
  }
}

/** Frame of the PTE table for `addr`, made with the tables above it where it is missing. */
function tableFor(k: MmKernel, mm: MmStruct, addr: number): number {
  const { physical, levels } = k.machine;
  let table: number = mm.pgd;
  for (let level: number = levels; level > Level.pte; level--) {
    const at = entryOf(table, addr, level);
    const entry = physical.read(at);
    if (isTable(entry, level)) table = ptePfn(entry);
    else {
      const page = newTable(k, level - 1);
      physical.write(at, tableEntry(page.pfn));
      table = page.pfn;
    }
  }
  return table;
}

function newTable(k: MmKernel, level: number): Page {
  const frame = takeFrame(k);
  const page = newPage(k, frame);
  addTableLock(k, page, level);
  return pageOf(k, frame);
}
