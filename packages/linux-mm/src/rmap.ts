/**
 * The reverse mapping: which entries map a page. Counted in the page itself, as _mapcount is.
 *
 * Follows mm/rmap.c. Not modelled: anon_vma and its locks; a page knows its entries.
 */
import { atomicUpdate } from '@shootdown/machine';
import type { Kthread, Mapping, MmStruct, Page } from '@shootdown/mmu-gather';

/** folio_add_anon_rmap_pte, folio_add_file_rmap_pte. */
export function* addRmap(page: Page, mm: MmStruct, addr: number): Kthread {
  yield* atomicUpdate(page.mappings, (mappings) => [...mappings, { mm, addr }]);
}

const UNMAPPED: readonly Mapping[] = [];

/** folio_remove_rmap_pte; without an address: the one that this mm has. */
export function* removeRmap(page: Page, mm: MmStruct, addr: number | null): Kthread {
  yield* atomicUpdate(page.mappings, (mappings) => {
    const [only] = mappings;
    if (mappings.length === 1 && only?.mm === mm && (addr === null || only.addr === addr))
      return UNMAPPED;
    const at = mappings.findIndex(
      (mapping) => mapping.mm === mm && (addr === null || mapping.addr === addr),
    );
    return at === -1 ? mappings : mappings.toSpliced(at, 1);
  });
}
