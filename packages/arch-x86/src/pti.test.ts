/** Page-table isolation: the user half has a PCID of its own, which is flushed on the way out. */
import { describe, expect, test } from 'vitest';
import {
  call,
  type CpuId,
  entryAt,
  PAGE_FAULT,
  PAGE_SIZE,
  physAddr,
  ptePfn,
  userTouch,
  virtAddr,
  walk,
  writeWord,
} from '@shootdown/machine';
import { completion, flushTlbMm, type Kthread, type MmStruct } from '@shootdown/mmu-gather';
import type { MmKernel } from '@shootdown/linux-mm';
import {
  advance,
  cache,
  flushInfo,
  irqsOff,
  loadByHand,
  mapByHand,
  onlyRange,
} from './byHand.testlib.ts';
import { BASE, byClock, emptyMm, startProcess, stepsOn, testKernel } from './kernel.testlib.ts';
import { switchToKernelCr3, switchToUserCr3 } from './pti.ts';
import { flushTlbFunc, switchMmIrqsOff } from './tlb.ts';
import { contextOf, type CpuTlbState, tlbstate, type X86Features } from './x86.ts';

const CPU = 1 as CpuId;
const ASID = 1;
const KERNEL_PCID = 2;
const USER_PCID = 2 + 2048;
const PAGES = 2;

interface Scene {
  readonly k: MmKernel;
  readonly mm: MmStruct;
  readonly state: CpuTlbState;
  readonly toUser: () => readonly string[];
  readonly toKernel: () => readonly string[];
  readonly flush: (newTlbGen: number) => readonly string[];
  /** Which of the pages is cached under the PCID that is loaded. */
  readonly cached: () => readonly boolean[];
}

/** CPU 1 has two pages cached in both halves, and is in the kernel. */
function scene(features: Partial<X86Features> = {}): Scene {
  const { k } = testKernel({ cpus: 2, features: { pti: true, ...features } });
  const mm = emptyMm(k);
  const frames = mapByHand(k, mm, BASE, PAGES);
  const { pcid = true } = features;
  loadByHand(k, CPU, mm, { asid: pcid ? ASID : 0 });
  const toUser = (): readonly string[] => stepsOn(k, CPU, switchToUserCr3(k, CPU));
  const toKernel = (): readonly string[] => stepsOn(k, CPU, switchToKernelCr3(k, CPU));
  cache(k, CPU, BASE, PAGES);
  toUser();
  cache(k, CPU, BASE, PAGES);
  toKernel();
  return {
    k,
    mm,
    state: tlbstate(k, CPU),
    toUser,
    toKernel,
    flush: (newTlbGen) => {
      contextOf(mm).tlbGen.value = newTlbGen;
      const info = flushInfo({ mm, start: BASE, end: BASE + PAGE_SIZE, newTlbGen });
      return irqsOff(k, CPU, () => flushTlbFunc(k, info));
    },
    cached: () => frames.map((frame) => k.machine.cpu(CPU).tlb.translatesTo(frame)),
  };
}

describe('the way out and in', () => {
  test('is a write of CR3 with interrupts off, to the PCID of the half, without a flush', () => {
    const s = scene();
    const hardware = s.k.machine.cpu(CPU);
    expect(s.toUser()).toEqual(['irqFlag', 'writeCr3', 'irqFlag']);
    expect([hardware.pcid, hardware.root]).toEqual([USER_PCID, s.mm.pgd]);
    expect(s.cached()).toEqual([true, true]);
    expect(s.toKernel()).toEqual(['irqFlag', 'writeCr3', 'irqFlag']);
    expect([hardware.pcid, hardware.root]).toEqual([KERNEL_PCID, s.mm.pgd]);
    expect(s.cached()).toEqual([true, true]);
    expect(hardware.irqsOn).toBe(true);
  });

  test('without PCID it flushes every time', () => {
    const s = scene({ pcid: false });
    expect(s.cached()).toEqual([false, false]);
    cache(s.k, CPU, BASE, PAGES);
    s.toUser();
    expect(s.k.machine.cpu(CPU).pcid).toBe(0);
    expect(s.cached()).toEqual([false, false]);
    expect(s.state.userPcidFlushMask.size).toBe(0);
  });
});

describe('a partial flush', () => {
  test('with INVPCID takes the page out of both halves at once', () => {
    const s = scene();
    expect(s.flush(1).slice(-2)).toEqual(['invlpg', 'invpcid']);
    expect(s.cached()).toEqual([false, true]);
    expect(s.state.userPcidFlushMask.size).toBe(0);
    s.toUser();
    expect(s.cached()).toEqual([false, true]);
  });

  test('without INVPCID leaves a note, and the user half is flushed on the way out', () => {
    const s = scene({ invpcid: false });
    expect(s.flush(1).slice(-1)).toEqual(['invlpg']);
    expect(s.cached()).toEqual([false, true]);
    expect([...s.state.userPcidFlushMask]).toEqual([KERNEL_PCID]);
    s.toUser();
    expect(s.cached()).toEqual([false, false]);
  });

  test('without PCID there is one half, and INVPCID is not used', () => {
    const s = scene({ pcid: false });
    cache(s.k, CPU, BASE, PAGES);
    expect(s.flush(1).slice(-1)).toEqual(['invlpg']);
    expect(s.cached()).toEqual([false, true]);
    expect(s.state.userPcidFlushMask.size).toBe(0);
  });
});

describe('a full flush', () => {
  test('flushes the kernel half by CR3 and leaves a note for the user half', () => {
    const s = scene();
    expect(s.flush(2).slice(-1)).toEqual(['writeCr3']);
    expect(s.cached()).toEqual([false, false]);
    expect([...s.state.userPcidFlushMask]).toEqual([KERNEL_PCID]);
    expect(s.k.machine.cpu(CPU).pcid).toBe(KERNEL_PCID);
  });

  test('is done on the way out, once', () => {
    const s = scene();
    s.flush(2);
    s.toUser();
    expect(s.cached()).toEqual([false, false]);
    cache(s.k, CPU, BASE, PAGES);
    s.toKernel();
    s.toUser();
    expect(s.cached()).toEqual([true, true]);
  });

  test('leaves the user half of another ASID alone', () => {
    const s = scene();
    s.state.userPcidFlushMask.add(5);
    s.toUser();
    expect([...s.state.userPcidFlushMask]).toEqual([5]);
    expect(s.cached()).toEqual([true, true]);
  });
});

describe('a switch', () => {
  test('that flushes notes the user half too', () => {
    const s = scene();
    const other = emptyMm(s.k);
    irqsOff(s.k, CPU, () => switchMmIrqsOff(s.k, other));
    expect([...s.state.userPcidFlushMask]).toEqual([s.state.loadedMmAsid + 1]);
  });

  test('that hits does not', () => {
    const s = scene();
    const other = emptyMm(s.k);
    irqsOff(s.k, CPU, () => switchMmIrqsOff(s.k, other));
    s.toUser();
    s.toKernel();
    irqsOff(s.k, CPU, () => switchMmIrqsOff(s.k, s.mm));
    expect(s.state.userPcidFlushMask.size).toBe(0);
    s.toUser();
    expect(s.cached()).toEqual([true, true]);
  });
});

describe('a stale user translation is impossible', () => {
  const FEATURES: readonly Partial<X86Features>[] = [{}, { invpcid: false }, { pcid: false }];

  /**
   * CPU 1 goes `first` steps on its way to user mode and a user access, then CPU 0 unmaps the page.
   * Whether the access got through after the flush had returned.
   */
  function breach(first: number, features: Partial<X86Features>, whole: boolean): boolean {
    const { k, mm } = scene(features);
    loadByHand(k, 0, mm, { asid: 0 });
    const pte = walk(k.machine.physical, mm.pgd, k.machine.levels, BASE).at(-1);
    const table = Math.floor((pte?.at ?? 0) / PAGE_SIZE);
    const frame = ptePfn(pte?.pte ?? 0);
    // What an interrupt finds: a task that is on its way to user mode.
    const current = Object.assign(k.percpu[CPU]?.current ?? {}, { mm, inKernel: true });
    let flushed = false;
    let used = false;
    k.machine.run(0, unmap());
    k.machine.run(CPU, goOut());
    function* unmap(): Kthread {
      yield* writeWord(physAddr(entryAt(table, BASE, 1)), 0);
      yield* call(whole ? flushTlbMm(k, mm) : k.backend.flushTlbMmRange(k, onlyRange(mm, BASE, 1)));
      flushed = true;
    }
    function* goOut(): Kthread {
      yield* call(switchToUserCr3(k, CPU));
      current.inKernel = false;
      const at = yield* userTouch(virtAddr(BASE), true);
      used = flushed && at !== PAGE_FAULT && Math.floor(at / PAGE_SIZE) === frame;
    }
    advance(k, CPU, first);
    for (let round = 0; round < 3; round++) for (const cpu of [0, CPU]) advance(k, cpu);
    expect(flushed).toBe(true);
    return used;
  }

  test.each(FEATURES)('wherever an interrupt meets a CPU on its way out: %o', (features) => {
    for (const whole of [false, true])
      for (let first = 0; first < 12; first++)
        expect(breach(first, features, whole), `after ${first} steps`).toBe(false);
  });

  test.each(FEATURES)('a write to what mprotect has made read-only faults: %o', (features) => {
    const { k } = testKernel({ cpus: 2, features: { pti: true, ...features } });
    const results: string[] = [];
    startProcess(k, 0, function* (user) {
      const length = PAGES * PAGE_SIZE;
      yield* call(user.mmap({ addr: BASE, length }));
      yield* call(user.touch(BASE, PAGES));
      const stop = k.machine.cell('stop', false);
      const went = completion(k.machine, 'went');
      const other = yield* call(
        user.thread(1, function* (thread) {
          const write = (): Kthread<unknown> => touchOnce(BASE);
          results.push((yield* call(write())) === PAGE_FAULT ? 'fault' : 'written');
          yield* call(thread.signal(went));
          yield* call(thread.spin(stop));
          results.push((yield* call(write())) === PAGE_FAULT ? 'fault' : 'written');
        }),
      );
      yield* call(user.waitFor(went, 1));
      yield* call(user.mprotect(BASE, length, { read: true, write: false }));
      results.push((yield* call(touchOnce(BASE))) === PAGE_FAULT ? 'fault' : 'written');
      yield* call(user.set(stop));
      yield* call(user.join(other));
    });
    byClock(k);
    // The thread starts with nothing cached: its first write walks, and finds the page.
    expect(results).toEqual(['written', 'fault', 'fault']);
    expect([...k.warnings]).toEqual([]);
  });
});

/** One write, without the kernel's answer to a fault. */
function* touchOnce(addr: number): Kthread<unknown> {
  return yield* userTouch(virtAddr(addr), true);
}
