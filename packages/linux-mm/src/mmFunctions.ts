/** This package's replaceable functions with the core's, as mainline has them. */
import { type CoreFunctions, coreFunctions } from '@shootdown/mmu-gather';
import { doWpPage } from './fault.ts';
import { gupFastPgdRange } from './gup.ts';
import { collapseHugePage } from './khugepaged.ts';
import { noLruCaches } from './lru.ts';
import type { MmFunctions } from './mm.ts';
import { changeProtection } from './mprotect.ts';
import { perfGetPageSize } from './perf.ts';

/** Give it to composeKernel. */
export const mmFunctions: CoreFunctions & MmFunctions = {
  ...coreFunctions,
  changeProtection,
  doWpPage,
  collapseHugePage,
  gupFastPgdRange,
  perfGetPageSize,
  ...noLruCaches,
};
