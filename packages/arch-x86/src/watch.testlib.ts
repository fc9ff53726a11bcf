/**
 * The invariants that a TLB protocol is for, looked at while a kernel runs. I3: no CPU uses, or could
 * use, a translation of a page that was freed. I4: no CPU's walker can reach a table that was freed.
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
import { LOADED_MM_SWITCHING, tlbstate } from './x86.ts';

/** What was seen. */
export interface Watch {
  /** Breaches of I3 and I4, in words. */
  readonly breaches: string[];
  /** Accesses that ended in a page. */
  accesses: number;
  pagesFreed: number;
  tablesFreed: number;
  /** One access of user mode, which a signal may end. */
  access(user: User, addr: number, write: boolean): Kthread;
}

/**
 * Whether user code on `cpu` could go on at once with what is cached: it has an mm loaded for its own
 * use, and is neither in an interrupt nor in the middle of a switch.
 */
function isSettled(k: MmKernel, cpu: Cpu): boolean {
  const { loadedMm, isLazy } = tlbstate(k, cpu.id);
  const mm = loadedMm.value;
  if (mm === LOADED_MM_SWITCHING || mm === k.initMm || isLazy.value) return false;
  return cpu.irqsOn && cpu.task.contexts.length === 0;
}

/**
 * Whether hardware on `cpu` may walk user tables: lazily too. In the middle of a switch it may as
 * well, but then interrupts are off and no flush that waits for it ends; see tlbGen.test.ts.
 */
function mayWalk(k: MmKernel, cpu: Cpu): boolean {
  const { loadedMm } = tlbstate(k, cpu.id);
  return loadedMm.value !== LOADED_MM_SWITCHING && cpu.root !== k.initMm.pgd;
}

/** Watches `k` from now on. */
export function watch(k: MmKernel): Watch {
  const { cpus } = k.machine;
  /** Frames that were unmapped and are not freed yet. */
  const unmapped = new Set<string>();
  const key = (mm: MmStruct, addr: number, frame: number): string => `${mm.name} ${addr} ${frame}`;
  const seen: Watch = { breaches: [], accesses: 0, pagesFreed: 0, tablesFreed: 0, access };
  k.probe = (event: ProbeEvent) => {
    if (event.kind === 'unmap-page') unmapped.add(key(event.mm, event.addr, event.pfn));
    else if (event.kind === 'free-page') pageFreed(event.page.pfn);
    else if (event.kind === 'free-table') tableFreed(event.table.pfn);
  };

  function pageFreed(frame: number): void {
    seen.pagesFreed++;
    for (const entry of unmapped) if (entry.endsWith(` ${frame}`)) unmapped.delete(entry);
    for (const cpu of cpus)
      if (isSettled(k, cpu) && cpu.tlb.translatesTo(frame))
        seen.breaches.push(`CPU ${cpu.id} still translates to a page that is freed`);
  }

  function tableFreed(frame: number): void {
    seen.tablesFreed++;
    for (const cpu of cpus)
      if (mayWalk(k, cpu) && cpu.tlb.walksThrough(frame))
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
