/**
 * No second round: where the flush itself has interrupted every CPU that could be walking, nobody is
 * interrupted or waited for again. Only native x86 without INVLPGB says so, once, at boot.
 */
import { call } from '@shootdown/machine';
import type { CoreFunctions, Edition, Kernel, Kthread } from '../kernel.ts';
import { tlbRemoveTableSyncOne, tlbRemoveTableSyncRcu } from '../tableSync.ts';
import { tlbTableFlushImpliesIpiBroadcast } from '../tlb.ts';
import { needsUnshareInGather } from './fits.ts';

/** The static key tlb_ipi_broadcast_key, set where the property was a field of pv_ops before. */
export const impliesIpiV7: Edition<CoreFunctions> = {
  name: 'implies-ipi-v7',
  source:
    'Lance Yang, [PATCH v7 0/2] skip redundant sync IPIs when TLB flush sent them, 9 Mar 2026',
  notModelled: 'the static key as code: the claim is asked each time, at no cost',
  replaces: {
    *tlbRemoveTableSyncOne(k: Kernel): Kthread {
      if (!tlbTableFlushImpliesIpiBroadcast(k)) yield* call(tlbRemoveTableSyncOne(k));
    },
    *tlbRemoveTableSyncRcu(k: Kernel): Kthread {
      if (!tlbTableFlushImpliesIpiBroadcast(k)) yield* call(tlbRemoveTableSyncRcu(k));
    },
  },
  refuses: needsUnshareInGather,
};
