/** KVM guests for tests: state set by hand, and vCPUs that go step by step. */
import {
  entryAt,
  Machine,
  type MachineOptions,
  makePte,
  pfn,
  type PhysAddr,
  physAddr,
  Pte,
  pteHas,
  ptePfn,
  type TraceRecord,
  type Transition,
  transition,
  transitionKind,
  TransitionKind,
} from '@shootdown/machine';
import { contextOf, kernPcid, tlbstate } from '@shootdown/arch-x86';
import { mmFunctions, type MmKernel } from '@shootdown/linux-mm';
import {
  composeKernel,
  type MmStruct,
  newMm,
  newPage,
  type Release,
  takeBulk,
  type TlbBackend,
} from '@shootdown/mmu-gather';
import { kvm, type KvmOptions } from './kvm.ts';
import { kvmGuest } from './stealTime.ts';

/** Where tests map memory: with nothing else near. */
export const BASE = 0x1000_0000_0000;

/** What is not as usual. */
export interface GuestOptions {
  readonly cpus?: number;
  readonly kernel?: Release;
  readonly kvm?: KvmOptions;
  /** Instead of the backend that `kvm` describes. */
  readonly backend?: TlbBackend;
  readonly machine?: Partial<MachineOptions>;
}

/** A guest on a machine of its own, and what it records. */
export interface Guest {
  readonly k: MmKernel;
  readonly records: TraceRecord[];
}

export function guest(options: GuestOptions = {}): Guest {
  const { cpus = 2, kernel, backend = kvm({ preemptions: 3, ...options.kvm }) } = options;
  const records: TraceRecord[] = [];
  const machine = new Machine({
    cpus,
    environment: backend.environment?.(cpus),
    checked: true,
    sink: (one: TraceRecord): unknown => records.push(one),
    ...options.machine,
  });
  return { k: composeKernel({ machine, backend, functions: mmFunctions, kernel }), records };
}

function freshFrame(k: MmKernel): number {
  const { first } = takeBulk(k, k.initMm, 0, 1);
  k.pages.bulk.pop();
  return first;
}

/** An empty address space, before anything runs. */
export function emptyMm(k: MmKernel): MmStruct {
  const name = `mm${k.ids.mm}`;
  const root = freshFrame(k);
  newPage(k, root);
  return newMm(k, name, pfn(root));
}

/** A page that is mapped by hand: where its entry is, and its frame. */
export interface MappedPage {
  readonly pte: PhysAddr;
  readonly frame: number;
}

const FLAGS = Pte.present + Pte.write + Pte.user + Pte.accessed + Pte.dirty;

/** Maps a fresh page at `addr`, without any kernel code. */
export function mapByHand(k: MmKernel, mm: MmStruct, addr: number): MappedPage {
  const { physical, levels } = k.machine;
  let table: number = mm.pgd;
  for (let level = levels as number; level > 1; level--) {
    const where = entryAt(table, addr, level);
    if (!pteHas(physical.read(where), Pte.present))
      physical.write(where, makePte(freshFrame(k), FLAGS));
    table = ptePfn(physical.read(where));
  }
  const pte = physAddr(entryAt(table, addr, 1));
  const frame = freshFrame(k);
  physical.write(pte, makePte(frame, FLAGS));
  return { pte, frame };
}

/** Puts `mm` on `cpu` as a switch would have, under ASID 1 and up to date. */
export function loadByHand(k: MmKernel, cpu: number, mm: MmStruct): void {
  const hardware = k.machine.cpu(cpu);
  const state = tlbstate(k, hardware.id);
  const { ctxId, tlbGen } = contextOf(mm);
  state.loadedMm.value = mm;
  state.loadedMmAsid = 1;
  state.nextAsid = 2;
  Object.assign(state.ctxs[1] ?? {}, { ctxId, tlbGen: tlbGen.value });
  mm.cpumask.value.set(cpu);
  hardware.root = mm.pgd;
  hardware.pcid = kernPcid(1);
}

/**
 * Has `cpu` go on, alone, until `stop` says so or it has to wait. It takes interrupts as soon as it
 * can; a store drains when something waits for it.
 */
export function advance(k: MmKernel, cpu: number, stop: () => boolean = () => false): void {
  const { machine } = k;
  const { deliver, move } = TransitionKind;
  for (;;) {
    const own: Transition[] = [];
    machine.enabledOn(machine.cpu(cpu), own);
    const next =
      own.find((one) => transitionKind(one) === deliver) ??
      own.find((one) => transitionKind(one) !== move);
    if (next === undefined || stop()) return;
    machine.execute(next);
  }
}

/** The host's only move on `cpu`, as preemptionsOf() numbers them. */
const preemption = (cpu: number): Transition => transition(TransitionKind.move, cpu, cpu);

/** Whether the host may take `cpu` away now. */
export const mayBePreempted = (k: MmKernel, cpu: number): boolean =>
  k.machine.isEnabled(preemption(cpu));

/** Whether the next Op of `cpu` is one of that name, on the cell if one is named. */
export const isAt = (k: MmKernel, cpu: number, kind: string, cell?: string): boolean => {
  const { op } = k.machine.cpu(cpu);
  return op?.kind.name === kind && (cell === undefined || op.cell?.name === cell);
};

/** The host takes `cpu` away, and everybody can see it. */
export function preempt(k: MmKernel, cpu: number): void {
  k.machine.execute(preemption(cpu));
  advance(k, cpu, () => isAt(k, cpu, 'vcpuPark'));
  k.machine.drain(k.machine.cpu(cpu));
}

/** The host gives `cpu` back, and goes as far as VM entry. */
export const reenter = (k: MmKernel, cpu: number): void =>
  advance(k, cpu, () => isAt(k, cpu, 'vmEntry'));

/** The word that `cpu` shares with the host. */
export const preemptedWord = (k: MmKernel, cpu: number): number =>
  kvmGuest(k).stealTime[cpu]?.preempted.value ?? -1;

/** Names of events with what matters of them, in order: all, or those of one CPU. */
export const eventsIn = (records: readonly TraceRecord[], cpu?: number): readonly string[] =>
  records
    .filter((record) => cpu === undefined || record.cpu === cpu)
    .map(({ event }) => {
      const { name, reason, pages } = event as unknown as Record<string, unknown>;
      return name === 'tlb_flush' ? `tlb_flush ${String(reason)}:${String(pages)}` : String(name);
    });
