/** Every workload of `shootdown run`, by name. */
import { asid } from './asid.ts';
import { collapse } from './collapse.ts';
import { fork } from './fork.ts';
import { gup } from './gup.ts';
import { hugetlbUnshare } from './hugetlbUnshare.ts';
import { madvise } from './madvise.ts';
import { migrate } from './migrate.ts';
import { mixed } from './mixed.ts';
import { mprotect } from './mprotect.ts';
import { lazy, munmap } from './munmap.ts';
import { pageout } from './pageout.ts';
import { thp } from './thp.ts';
import type { Workload } from './workload.ts';

/** In the order in which they are shown. */
export const WORKLOADS: readonly Workload[] = [
  madvise,
  munmap,
  mprotect,
  lazy,
  fork,
  gup,
  thp,
  collapse,
  hugetlbUnshare,
  asid,
  pageout,
  migrate,
  mixed,
];
