/**
 * Address space ids: one per mm, the same on every CPU, because an invalidation that is broadcast names
 * it. There are fewer of them than an uptime has mms, so they are handed out by generations: when none
 * is left a new generation begins, every id that no CPU runs is free again, and every CPU drops all it
 * has cached before it runs anything of the new generation. An id is never given back before that, so
 * what an mm leaves behind in a TLB when it dies cannot be taken for another's.
 *
 * Follows arch/arm64/mm/context.c. Not modelled: kernel page-table isolation (two ids per mm), pinned
 * ids, and translation tables that CPUs share (CnP).
 */
import {
  assert,
  call,
  type Cell,
  cmpxchg,
  Context,
  type CpuId,
  dsb,
  invpcidAll,
  readOnce,
  writeCr3,
  writeOnce,
  xchg,
} from '@shootdown/machine';
import {
  type Kernel,
  type Kthread,
  type MmStruct,
  newSpinLock,
  spinLock,
  type SpinLock,
  spinUnlock,
} from '@shootdown/mmu-gather';

/** Features of the CPUs. */
export interface Arm64Features {
  /** ID_AA64MMFR0_EL1.ASIDBits. Default 16. */
  readonly asidBits: 8 | 16;
  /** FEAT_TLBIRANGE: one TLBI names a range. Default false. */
  readonly tlbRange: boolean;
}

/** A CPU of Armv8.0 with 16-bit ASIDs. */
export const DEFAULT_FEATURES: Arm64Features = { asidBits: 16, tlbRange: false };

/** mm->context */
export interface MmContext {
  /** Generation and ASID; 0: never ran. Written under cpu_asid_lock. */
  readonly id: Cell<number>;
}

/** What a CPU has of the ASID allocator. */
interface CpuAsid {
  /** active_asids: the id that the CPU runs under; 0 since a roll-over took it, or before the first. */
  readonly active: Cell<number>;
  /** reserved_asids: what it ran under at the last roll-over. Under cpu_asid_lock. */
  reserved: number;
  /** tlb_flush_pending: it has not dropped the last generation's translations. Under cpu_asid_lock. */
  flushPending: boolean;
}

/** Kernel.arch of an arm64 kernel. */
export interface Arm64 {
  readonly features: Arm64Features;
  readonly generation: Cell<number>;
  readonly cpuAsidLock: SpinLock;
  /** asid_map: taken in this generation. Under cpu_asid_lock, as is where the search begins. */
  readonly asidMap: Set<number>;
  curIdx: number;
  readonly cpus: readonly CpuAsid[];
}

/** The arm64 state of a kernel that this backend runs. */
export const arm64Of = (k: Kernel): Arm64 => k.arch as Arm64;

/** mm->context */
export const contextOf = (mm: MmStruct): MmContext => mm.context as MmContext;

/** ASID 0 is the reserved one: what runs under it has no user translations. */
const RESERVED_ASID = 0;

/** NUM_USER_ASIDS, the reserved one included. */
const numAsids = (k: Kernel): number => 2 ** arm64Of(k).features.asidBits;

/** init_new_context: an ASID is taken when the mm is first run. Numbers mms as they are made. */
export const initNewContext = (k: Kernel, mm: MmStruct): MmContext => {
  k.ids.mm++;
  return { id: k.machine.cell(`${mm.name}.context.id`, 0) };
};

/** asids_init: every CPU on the reserved page table. */
export function bootArm64(k: Kernel, features: Arm64Features): Arm64 {
  const { machine } = k;
  for (const cpu of machine.cpus) {
    cpu.root = k.initMm.pgd;
    cpu.pcid = RESERVED_ASID;
  }
  return {
    features,
    generation: machine.cell('asid_generation', 1),
    cpuAsidLock: newSpinLock(machine, 'cpu_asid_lock'),
    asidMap: new Set(),
    curIdx: 1,
    cpus: machine.cpus.map(({ id }) => ({
      active: machine.cell(`active_asids[${id}]`, 0),
      reserved: 0,
      flushPending: false,
    })),
  };
}

function cpuAsid(k: Kernel, cpu: CpuId): CpuAsid {
  const state = arm64Of(k).cpus[cpu];
  assert(state !== undefined, 'every CPU has its active_asids');
  return state;
}

/** ASID(): what the hardware is told of an id. */
export function* asidOf(k: Kernel, mm: MmStruct): Kthread<number> {
  return (yield* readOnce(contextOf(mm).id)) % numAsids(k);
}

/** asid_gen_match */
const genMatches = (k: Kernel, id: number, generation: number): boolean =>
  Math.floor(id / numAsids(k)) === generation;

/**
 * flush_context: of a new generation. What a CPU runs at this moment stays its own: it is not
 * interrupted, and cannot be asked to change.
 */
function* flushContext(k: Kernel): Kthread {
  const { asidMap, cpus } = arm64Of(k);
  asidMap.clear();
  for (const cpu of cpus) {
    // Zero sends the fast path of a CPU that switches at this moment to the lock.
    const id = yield* xchg(cpu.active, 0);
    // Zero: it has not switched since the last roll-over, so it still runs what was reserved then.
    if (id !== 0) cpu.reserved = id;
    if (cpu.reserved !== 0) asidMap.add(cpu.reserved % numAsids(k));
    cpu.flushPending = true;
  }
}

/** check_update_reserved_asid: every CPU that has it reserved, as a later roll-over asks each. */
function updateReserved({ cpus }: Arm64, id: number, renewed: number): boolean {
  const holders = cpus.filter(({ reserved }) => reserved === id);
  for (const cpu of holders) cpu.reserved = renewed;
  return holders.length > 0;
}

function findAsid(k: Kernel, from: number): number | null {
  for (let asid = from; asid < numAsids(k); asid++) if (!arm64Of(k).asidMap.has(asid)) return asid;
  return null;
}

/**
 * An id of this generation, under cpu_asid_lock: the mm's last ASID if it is still free.
 *
 * @kernel arch/arm64/mm/context.c new_context
 */
function* newContext(k: Kernel, id: number): Kthread<number> {
  const state = arm64Of(k);
  const { asidMap } = state;
  const generation = yield* readOnce(state.generation);
  if (id !== 0) {
    const asid = id % numAsids(k);
    const renewed = generation * numAsids(k) + asid;
    if (updateReserved(state, id, renewed)) return renewed;
    if (!asidMap.has(asid)) {
      asidMap.add(asid);
      return renewed;
    }
  }
  const free = findAsid(k, state.curIdx);
  const asid = free ?? (yield* call(rollOver(k, generation + 1)));
  asidMap.add(asid);
  state.curIdx = asid;
  return (yield* readOnce(state.generation)) * numAsids(k) + asid;
}

/** Begins `generation`, and gives a free ASID of it. */
function* rollOver(k: Kernel, generation: number): Kthread<number> {
  yield* writeOnce(arm64Of(k).generation, generation);
  yield* call(flushContext(k));
  const asid = findAsid(k, 1);
  assert(asid !== null, 'there are more ASIDs than CPUs');
  return asid;
}

/**
 * Loads `mm` under its ASID.
 *
 * The id is written before the page table is walked under it, and a flush stores its entry before it
 * reads the id (tlbflush.ts). So a flush that reads an id which is no longer the mm's was there before
 * any walk under the new one, and that walk sees its entry.
 *
 * @kernel arch/arm64/mm/context.c check_and_switch_context
 */
function* checkAndSwitchContext(k: Kernel, cpu: CpuId, mm: MmStruct): Kthread {
  const own = cpuAsid(k, cpu);
  const id = yield* readOnce(contextOf(mm).id);
  const was = yield* readOnce(own.active);
  const generation = yield* readOnce(arm64Of(k).generation);
  const fast =
    was !== 0 && genMatches(k, id, generation) && (yield* cmpxchg(own.active, was, id)) === was;
  const loaded = fast ? id : yield* call(switchUnderLock(k, own, mm));
  yield* writeCr3(mm.pgd, loaded % numAsids(k), false);
}

/** The rest of check_and_switch_context: where the generation is not known to be the CPU's. */
function* switchUnderLock(k: Kernel, own: CpuAsid, mm: MmStruct): Kthread<number> {
  const { cpuAsidLock, generation } = arm64Of(k);
  yield* spinLock(cpuAsidLock);
  const { id } = contextOf(mm);
  let mine = yield* readOnce(id);
  if (!genMatches(k, mine, yield* readOnce(generation))) {
    mine = yield* call(newContext(k, mine));
    yield* writeOnce(id, mine);
  }
  if (own.flushPending) {
    own.flushPending = false;
    yield* call(localFlushTlbAll());
  }
  yield* writeOnce(own.active, mine);
  yield* spinUnlock(cpuAsidLock);
  return mine;
}

/** local_flush_tlb_all: TLBI VMALLE1 and DSB NSH, by the machine's instruction for this CPU's all. */
function* localFlushTlbAll(): Kthread {
  yield* invpcidAll();
}

/**
 * switch_mm, and what __switch_to() does for TLBs. For init_mm the reserved page table is enough.
 *
 * @kernel arch/arm64/include/asm/mmu_context.h switch_mm
 */
export function* switchMm(k: Kernel, cpu: CpuId, next: MmStruct): Kthread {
  const { root, contextBits } = k.machine.cpu(cpu);
  assert((contextBits & Context.irqsOff) !== 0, 'cpu_asid_lock is taken with interrupts off');
  if (next === k.initMm) yield* writeCr3(next.pgd, RESERVED_ASID, false);
  // A root that is loaded is not freed, so it is the same mm's: nothing to switch.
  else if (root !== next.pgd) yield* call(checkAndSwitchContext(k, cpu, next));
  yield* call(switchTo());
}

/**
 * enter_lazy_tlb: nothing. The borrowed page table may stay, since a broadcast reaches this CPU like
 * any other. Not modelled: the software PAN emulation, which points at the reserved one.
 */
export const enterLazyTlb = (): Kthread => switchTo();

/**
 * __switch_to, of which there is no other hook: a task may go on elsewhere, and a DSB waits for the
 * TLBIs of its own CPU only. So those that the task has not waited for (batchAddPending) are done
 * before it can leave.
 */
function* switchTo(): Kthread {
  yield* dsb();
}
