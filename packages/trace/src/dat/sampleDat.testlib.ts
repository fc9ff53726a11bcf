/**
 * A small recording of everything that the reader knows, as a specification for the writer: three
 * CPUs, and a second buffer when asked.
 */
import { type DatSpec, optionText } from './datWriter.testlib.ts';
import type { WriterAbi } from './writerBytes.testlib.ts';
import { type Page, type PageEvent, pagesOf, WriterEvent } from './writerPages.testlib.ts';

/** All four combinations of byte order and long. */
export const ABIS: readonly WriterAbi[] = [
  { littleEndian: true, longSize: 8 },
  { littleEndian: true, longSize: 4 },
  { littleEndian: false, longSize: 8 },
  { littleEndian: false, longSize: 4 },
];

/** Words for an abi, for names of tests. */
export function abiName({ littleEndian, longSize }: WriterAbi): string {
  return `${littleEndian ? 'little' : 'big'} endian, ${longSize * 8} bit`;
}

/** The first record's time. */
export const BASE = 1_234_567_890_123n;

/** Text, cut or filled to `size` bytes. */
export function chars(text: string, size: number = text.length + 1): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes.set(new TextEncoder().encode(text));
  return bytes;
}

/** The address of a symbol: high in the kernel's half. */
export function kernelAddress(abi: WriterAbi, offset: number): bigint {
  return (abi.longSize === 8 ? 0xffff_ffff_8100_0000n : 0xc010_0000n) + BigInt(offset);
}

/** A mask of CPUs as the kernel holds it: an array of longs. */
export function cpuMask(abi: WriterAbi, cpus: readonly number[], words: number): Uint8Array {
  const bytes = new Uint8Array(words * abi.longSize);
  for (const cpu of cpus) {
    const at = cpu >> 3;
    const place = abi.littleEndian
      ? at
      : Math.floor(at / abi.longSize) * abi.longSize + (abi.longSize - 1 - (at % abi.longSize));
    bytes[place] = (bytes[place] as number) | (1 << (cpu & 7));
  }
  return bytes;
}

/** Short names of the sample's event types. */
export type SampleEvent =
  | 'flush'
  | 'queue'
  | 'send'
  | 'mask'
  | 'raise'
  | 'swtch'
  | 'enter'
  | 'exit'
  | 'fault'
  | 'vector'
  | 'rel';

/** The event types of the sample. */
export function sampleEvents(abi: WriterAbi): Record<SampleEvent, WriterEvent> {
  const l = abi.longSize;
  return {
    flush: new WriterEvent(abi, 'tlb', 'tlb_flush', 684, [
      ['int reason', 4, true],
      ['unsigned long pages', l, false],
    ]),
    queue: new WriterEvent(abi, 'csd', 'csd_queue_cpu', 482, [
      ['unsigned int cpu', 4, false],
      ['void * callsite', l, false],
      ['void * func', l, false],
      ['void * csd', l, false],
    ]),
    send: new WriterEvent(abi, 'ipi', 'ipi_send_cpu', 288, [
      ['unsigned int cpu', 4, false],
      ['void * callsite', l, false],
      ['void * callback', l, false],
    ]),
    mask: new WriterEvent(abi, 'ipi', 'ipi_send_cpumask', 287, [
      ['__data_loc cpumask_t cpumask', 4, false],
      ['void * callsite', l, false],
      ['void * callback', l, false],
    ]),
    raise: new WriterEvent(abi, 'ipi', 'ipi_raise', 289, [
      ['__data_loc unsigned long[] target_cpus', 4, false],
      ['const char * reason', l, false],
    ]),
    swtch: new WriterEvent(abi, 'sched', 'sched_switch', 310, [
      ['char prev_comm[16]', 16, false],
      ['pid_t prev_pid', 4, true],
      ['char next_comm[16]', 16, false],
      ['pid_t next_pid', 4, true],
    ]),
    enter: new WriterEvent(abi, 'syscalls', 'sys_enter_munmap', 661, [
      ['int __syscall_nr', 4, true],
      ['unsigned long addr', l, false],
      ['size_t len', l, false],
    ]),
    exit: new WriterEvent(abi, 'syscalls', 'sys_exit_munmap', 660, [
      ['int __syscall_nr', 4, true],
      ['long ret', l, true],
    ]),
    fault: new WriterEvent(abi, 'exceptions', 'page_fault_user', 111, [
      ['unsigned long address', l, false],
      ['unsigned long ip', l, false],
      ['unsigned long error_code', l, false],
    ]),
    vector: new WriterEvent(abi, 'irq_vectors', 'call_function_entry', 99, [
      ['int vector', 4, true],
    ]),
    rel: new WriterEvent(abi, 'demo', 'rel_demo', 900, [
      ['u32 before', 4, false],
      ['__rel_loc char[] word', 4, false],
      ['s16 after', 2, true],
    ]),
  };
}

/**
 * Kernel symbols of the sample; the module's lies below the kernel's but comes last, as in
 * /proc/kallsyms.
 */
export function sampleSymbols(abi: WriterAbi): string {
  const hex = (value: bigint): string => value.toString(16).padStart(abi.longSize * 2, '0');
  const at = (offset: number): string => hex(kernelAddress(abi, offset));
  return [
    `${hex(0n)} A fixed_percpu_data`,
    `${at(0)} T _text`,
    `${at(0)} T alias_of_text`,
    `${at(0x1000)} T flush_tlb_func`,
    `${at(0x2000)} t on_each_cpu_cond_mask`,
    `${at(0x3000)} T generic_smp_call_function_single_interrupt`,
    `${at(0x4000)} T _etext`,
    `${at(-0x10000)} t helper_in_module\t[kvm]`,
    `${at(-0x8000)} t last_in_module\t[kvm]`,
    '',
  ].join('\n');
}

const record = (bytes: Uint8Array, delta: number, long = false): PageEvent => ({
  record: bytes,
  delta,
  long,
});

const stat = (cpu: number, overrun: number): readonly [number, Uint8Array] => [
  2,
  optionText(
    `CPU: ${cpu}\nentries: 4\noverrun: ${overrun}\ncommit overrun: 1\nbytes: 4\ndropped events: 2\nread events: 3\n`,
  ),
];

/**
 * The sample. Records in order of time have deltas 0, 1, 2, ... so that a test can say where each
 * must come.
 */
export function sampleSpec(
  abi: WriterAbi,
  version: 6 | 7,
  compression: 'none' | 'zlib' | 'zstd' = 'none',
  pageSize = 4096,
): DatSpec {
  const e = sampleEvents(abi);
  const at = (offset: number): bigint => kernelAddress(abi, offset);
  const csd = abi.longSize === 8 ? 0xff11_0000_7d6b_6080n : 0xdead_bee0n;
  const cpu0: Page[] = [
    {
      time: BASE,
      events: [
        record(e.flush.record(42, [4, -1], 0x01, 0x12), 0),
        record(e.queue.record(42, [2, at(0x2033), at(0x1000), csd], 0x81, 0x01), 10),
        record(e.mask.record(42, [cpuMask(abi, [1, 2, 33, 70], 3), at(0x2024), at(0x3000)]), 10),
        { extend: 5 * 2 ** 27 + 3 },
        record(e.send.record(43, [1, at(-0x10000 + 8), 0n]), 7, true),
        { pad: true },
      ],
    },
    {
      time: BASE + 4_000_000_000n,
      missed: 17,
      events: [record(e.swtch.record(0, [chars('swapper/0', 16), 0, chars('mutator', 16), 42]), 0)],
    },
  ];
  const cpu1: Page[] = [
    {
      time: BASE + 5n,
      events: [
        record(e.enter.record(77, [11, 0x7f00_1000, 0x2e000]), 0),
        record(e.exit.record(77, [11, -22]), 1),
        record(e.fault.record(77, [0x7f00_2000, 0x40_1000, 7], 0x0c), 1),
        record(e.vector.record(77, [251], 0x18), 1),
        { stamp: BASE + 1_000_000n },
        record(e.rel.record(77, [5, chars('hello'), -3]), 2),
        record(e.raise.record(77, [cpuMask(abi, [0, 9], 1), at(0x5000)]), 2),
      ],
    },
    {
      time: BASE + 2_000_000n,
      missed: 'uncounted',
      events: [record(e.vector.record(0, [251], 0x40), 0)],
    },
  ];
  return {
    abi,
    version,
    compression,
    pageSize,
    formats: Object.values(e),
    kallsyms: sampleSymbols(abi),
    printk: `0x${at(0x5000).toString(16)} : "Function call interrupts"\n`,
    cmdlines: '42 mutator\n43 two words\n',
    options: [
      [4, optionText('local [global] counter x86-tsc\n')],
      [5, optionText('Linux host 6.12.111+deb12-amd64 x86_64')],
      stat(0, 20),
      stat(1, 0),
    ],
    buffers: [
      {
        name: '',
        clock: 'global',
        cpus: [pagesOf(abi, pageSize, cpu0), pagesOf(abi, pageSize, cpu1), new Uint8Array(0)],
      },
    ],
  };
}

/** A form of the sample. */
export interface SampleCase {
  readonly version: 6 | 7;
  readonly compression: 'none' | 'zlib' | 'zstd';
  readonly abi: WriterAbi;
  readonly name: string;
}

const FORMS = [
  { version: 6, compression: 'none' },
  { version: 7, compression: 'none' },
  { version: 7, compression: 'zlib' },
  { version: 7, compression: 'zstd' },
] as const;

/** Every form of the sample. */
export const CASES: readonly SampleCase[] = ABIS.flatMap((abi) =>
  FORMS.map((form) => ({
    ...form,
    abi,
    name: `v${form.version}, ${form.compression}, ${abiName(abi)}`,
  })),
);

/**
 * The sample with a second buffer: CPU 0 holds what CPU 1 holds in the main one, CPU 2 what CPU 0
 * does, so that all times tie.
 */
export function withExtraBuffer(spec: DatSpec): DatSpec {
  const main = spec.buffers[0] as DatSpec['buffers'][number];
  const [first, second, third] = main.cpus as readonly [Uint8Array, Uint8Array, Uint8Array];
  return {
    ...spec,
    buffers: [main, { name: 'extra', clock: 'global', cpus: [second, third, first] }],
  };
}
