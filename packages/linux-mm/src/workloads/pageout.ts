/** MADV_PAGEOUT of pages that were written to: reclaim's batched flush, page by page. */
import { call } from '@shootdown/machine';
import { Madvise } from '../madvise.ts';
import { overPages } from './pageLists.ts';
import type { Workload } from './workload.ts';

export const pageout: Workload = overPages({
  name: 'pageout',
  title: 'touch and MADV_PAGEOUT of pages, while the other threads spin in user mode',
  framesPerPage: 2,
  *once(user, { start, pages, length }) {
    yield* call(user.touch(start, pages));
    yield* call(user.madvise(start, length, Madvise.PAGEOUT));
  },
});
