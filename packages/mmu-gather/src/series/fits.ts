/** What a series needs of the tree that it is applied to. */
import type { Kernel } from '../kernel.ts';

/** Only a tree whose gather knows of unshared tables has the functions that are changed. */
export const needsUnshareInGather = ({ rules, release }: Kernel): string | null =>
  rules.unshareInGather
    ? null
    : `it applies to trees that unshare hugetlb tables inside the gather (6.19), and ${release} does not; take another --kernel`;
