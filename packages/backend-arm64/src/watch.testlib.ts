/**
 * What an invalidation is for, looked at while a kernel runs: when a page goes back to the allocator
 * no CPU translates to it, and when a page table does no CPU walks through it. A broadcast reaches a
 * CPU whatever it does, so no CPU is excepted: not one that is lazy, in the kernel or in the middle of
 * a switch.
 */
import {
  call,
  type Cpu,
  PAGE_FAULT,
  PAGE_SIZE,
  Pte,
  pteHas,
  ptePfn,
  UsageError,
  userTouch,
  virtAddr,
  walk,
} from '@shootdown/machine';
import { type Kthread, type MmStruct, type ProbeEvent, ZERO_PFN } from '@shootdown/mmu-gather';
import type { MmKernel, User } from '@shootdown/linux-mm';

/** What was seen. */
export interface Watch {
  /** In words. */
  readonly breaches: string[];
  /** Accesses that ended in a page. */
  accesses: number;
  pagesFreed: number;
  tablesFreed: number;
  /** Every mm that there is. */
  readonly mms: Set<MmStruct>;
  /** Reclaim has cleared the entry for `addr`, of which no probe tells. */
  reclaims(mm: MmStruct, addr: number): void;
  /** One access of user mode, which a signal may end. */
  access(user: User, addr: number, write: boolean): Kthread;
}

/** Watches `k` from now on. */
export function watch(k: MmKernel): Watch {
  const { cpus } = k.machine;
  const mms = new Set<MmStruct>();
  /** Entries that were cleared: their pages are not free yet. */
  const unmapped = new Set<string>();
  const key = (mm: MmStruct, addr: number, frame: number): string => `${mm.name} ${addr} ${frame}`;
  const seen: Watch = {
    breaches: [],
    accesses: 0,
    pagesFreed: 0,
    tablesFreed: 0,
    mms,
    reclaims,
    access,
  };
  k.probe = (event: ProbeEvent) => {
    if (event.kind === 'unmap-page') unmapped.add(key(event.mm, event.addr, event.pfn));
    else if (event.kind === 'free-page') pageFreed(event.page.pfn);
    else if (event.kind === 'free-table') tableFreed(event.table.pfn);
  };

  function reclaims(mm: MmStruct, addr: number): void {
    for (const { pfn, mappings } of k.pages.pages.values())
      if (mappings.value.some((at) => at.mm === mm && at.addr === addr))
        unmapped.add(key(mm, addr, pfn));
  }

  /** An mm without users is torn down without a flush of its pages: nothing runs in it. */
  function hasUsers({ root }: Cpu): boolean {
    for (const { pgd, users } of mms) if (pgd === root) return users.value > 0;
    return false;
  }

  function pageFreed(frame: number): void {
    seen.pagesFreed++;
    for (const entry of unmapped) if (entry.endsWith(` ${frame}`)) unmapped.delete(entry);
    for (const cpu of cpus)
      if (hasUsers(cpu) && cpu.tlb.translatesTo(frame))
        seen.breaches.push(`CPU ${cpu.id} still translates to a page that is freed`);
  }

  function tableFreed(frame: number): void {
    seen.tablesFreed++;
    for (const cpu of cpus)
      if (cpu.tlb.walksThrough(frame))
        seen.breaches.push(`CPU ${cpu.id} may still walk a table that is freed`);
  }

  /** Whether `addr` of `mm` may end in `frame`: mapped there, or not yet flushed. */
  function mayUse(mm: MmStruct, addr: number, frame: number): boolean {
    if (frame === ZERO_PFN || unmapped.has(key(mm, addr, frame))) return true;
    const last = walk(k.machine.physical, mm.pgd, k.machine.levels, addr).at(-1);
    if (last?.level === 1 && pteHas(last.pte, Pte.present) && ptePfn(last.pte) === frame)
      return true;
    const page = k.pages.pages.get(frame);
    return page?.mappings.value.some((at) => at.mm === mm && at.addr === addr) ?? false;
  }

  function* access(user: User, addr: number, write: boolean): Kthread {
    for (;;) {
      const at = yield* userTouch(virtAddr(addr), write);
      if (at === PAGE_FAULT) {
        if (!(yield* call(fault(user, addr, write)))) return;
        continue;
      }
      seen.accesses++;
      if (!mayUse(user.mm, addr, Math.floor(at / PAGE_SIZE)))
        seen.breaches.push('an access ended in a page that was freed');
      return;
    }
  }

  /** The kernel's answer; false: SIGSEGV, which the program catches. */
  function* fault(user: User, addr: number, write: boolean): Kthread<boolean> {
    try {
      yield* user.access(addr, write);
      return true;
    } catch (error) {
      if (error instanceof UsageError && error.code === 'ERR_WORKLOAD') return false;
      throw error;
    }
  }
  return seen;
}
