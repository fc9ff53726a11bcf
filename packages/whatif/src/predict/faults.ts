/**
 * A recorded page fault: its address and error code say what was in the page table at that instant,
 * and so also what no call has told. Three rules, in this order:
 *
 * A fault where nothing is known to be mapped proves a mapping: a page of private memory that may be
 * read and written. The program image, the stack and what was mapped before the recording become
 * known this way, page by page.
 *
 * A fault on a page that is present (bit 0), where no page is known, proves a page that is mapped
 * read-only and is not the process's own: a page of a file, or the zero page. So a write to it is a
 * copy.
 *
 * A fault on a page that is not present, where the zero page was taken to be, proves that it is not
 * there: the access came before.
 */
import { call, PAGE_SIZE, Pte, pteHas, ptePfn, readWord, writeWord } from '@shootdown/machine';
import {
  entryOf,
  findEntry,
  isTable,
  type Kthread,
  Level,
  type MmStruct,
  type VmArea,
  ZERO_PFN,
} from '@shootdown/mmu-gather';
import { ANON_RW, doUserAddrFault, linkVma, type MmKernel, vmaLookup } from '@shootdown/linux-mm';

/** Bits of the error code. */
const PF_PROT = 1;
const PF_WRITE = 2;

/** Whether a fault with this error code is a write. */
export const isWrite = (errorCode: number): boolean => (errorCode & PF_WRITE) !== 0;

/** The entry that maps `addr`: 0 if there is none, or a huge one. */
function* entryAt(k: MmKernel, mm: MmStruct, addr: number): Kthread<number> {
  const pmd = yield* call(findEntry(k, mm, addr, Level.pmd));
  if (pmd === null) return 0;
  const table = yield* readWord(pmd);
  if (!isTable(table, Level.pmd)) return table;
  return yield* readWord(entryOf(ptePfn(table), addr, Level.pte));
}

/** The zero page goes from where it cannot be: no CPU has used it there. */
function* forgetZeroPage(k: MmKernel, mm: MmStruct, addr: number): Kthread {
  const pmd = yield* call(findEntry(k, mm, addr, Level.pmd));
  if (pmd === null) return;
  const table = ptePfn(yield* readWord(pmd));
  yield* writeWord(entryOf(table, addr, Level.pte), 0);
}

/** Handles a recorded fault in `mm`, that of the task that runs; gives whether a mapping was not known. */
export function* recordedFault(
  k: MmKernel,
  mm: MmStruct,
  address: number,
  errorCode: number,
): Kthread<boolean> {
  const addr = Math.floor(address / PAGE_SIZE) * PAGE_SIZE;
  const known = vmaLookup(mm, addr);
  const vma: VmArea =
    known ?? (yield* call(linkVma(mm, { start: addr, end: addr + PAGE_SIZE, flags: ANON_RW })));
  const write = isWrite(errorCode);
  const entry = yield* call(entryAt(k, mm, addr));
  const present = pteHas(entry, Pte.present);
  if ((errorCode & PF_PROT) !== 0) {
    if (write && !present) yield* call(doUserAddrFault(k, addr, false));
  } else if (present && ptePfn(entry) === ZERO_PFN && !pteHas(entry, Pte.huge))
    yield* call(forgetZeroPage(k, mm, addr));
  // A shared page is mapped as writable as its mapping is, and never copied.
  const mapsWritable = vma.flags.shared && vma.flags.write;
  yield* call(doUserAddrFault(k, addr, write || mapsWritable));
  return known === null;
}
