/** Pages go to and fro between two NUMA nodes: migration's one flush for a batch. */
import { overPages } from './pageLists.ts';
import type { Workload } from './workload.ts';

export const migrate: Workload = overPages({
  name: 'migrate',
  title: 'mbind to one node and back again, while the other threads spin in user mode',
  // All of them, on either node.
  framesPerPage: 4,
  nodes: 2,
  once: (user, { start, length }, i) => user.mbind(start, length, (i + 1) % 2),
});
