/** Records that cannot be printed are refused, and the message says which field is why. */
import { CONTEXT_UNKNOWN, cpuId, UsageError, virtAddr } from '@shootdown/machine';
import { expect, test } from 'vitest';
import type { RecordedEvent } from '../events/shapes.ts';
import { TextWriter, type WritableRecord } from './textWriter.ts';
import { FLUSH, record } from './textWriter.testlib.ts';

const callsite = 'on_each_cpu_cond_mask';
const func = 'flush_tlb_func';

/** The code and the message that refuse `one` as the second record. */
function refusal(one: WritableRecord): readonly [string, string] {
  const writer = new TextWriter(() => undefined, { cpus: 8 });
  writer.record(record(100, 0, FLUSH));
  try {
    writer.record(one);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return [error.code, error.message.replace(`record 2 (${one.event.name}): `, '')];
  }
  return ['', 'nothing'];
}

test('the message says which record', () => {
  const writer = new TextWriter(() => undefined, { cpus: 8 });
  expect(() => writer.record(record(-1, 0, FLUSH))).toThrow(
    'record 1 (tlb_flush): time is an integer from 0, not -1',
  );
});

const at = (event: RecordedEvent, rest?: Parameters<typeof record>[3]): WritableRecord =>
  record(200, 0, event, rest);
const comm = (name: string): WritableRecord =>
  at(FLUSH, { task: { pid: 1, comm: name, tgid: null } });
const other = (name: string, text = ''): WritableRecord =>
  at({ kind: 'other', name, payload: { text: () => text } });
const switched = (prevComm: string): WritableRecord =>
  at({
    kind: 'sched_switch',
    name: 'sched_switch',
    prevComm,
    prevPid: 1,
    nextComm: 'b',
    nextPid: 2,
  });
const queued = (over: object): WritableRecord =>
  at({
    kind: 'csd_queue_cpu',
    name: 'csd_queue_cpu',
    target: cpuId(1),
    callsite,
    func,
    csd: virtAddr(0),
    ...over,
  });
const sent = (
  name: 'ipi_send_cpu' | 'ipi_send_cpumask',
  targets: readonly number[] | null,
): WritableRecord =>
  at({ kind: 'ipi_send', name, targets: targets?.map(cpuId) ?? null, callsite, callback: '0x0' });
const entered = (args: readonly string[], values: readonly number[]): WritableRecord =>
  at({ kind: 'sys_enter', name: 'sys_enter_brk', syscall: 'brk', args, values });

test.each<[WritableRecord, string]>([
  [record(99, 0, FLUSH), 'time goes back from 100 to 99 ns'],
  [record(150.5, 0, FLUSH), 'time is an integer from 0, not 150.5'],
  [comm('a\nb'), 'comm is one line of text, not "a\\nb"'],
  [comm('sixteen bytes ..'), 'comm has at most 15 bytes, and "sixteen bytes .." has 16'],
  [comm('日本日本日本'), 'comm has at most 15 bytes, and "日本日本日本" has 18'],
  [comm(' a'), 'comm does not begin with a space, as " a" does'],
  [comm('\ud800'), 'comm is one line of text, not "\\ud800"'],
  [at(FLUSH, { task: { pid: -1, comm: '', tgid: null } }), 'pid is an integer from 0, not -1'],
  [at(FLUSH, { task: { pid: 1, comm: '', tgid: 0.5 } }), 'tgid is an integer from 0, not 0.5'],
  [
    at(FLUSH, { context: CONTEXT_UNKNOWN }),
    'its context is not known, unlike that of the records before',
  ],
  [at(FLUSH, { context: 0x40 }), 'context is made of the bits of Context, not 64'],
  [at({ ...FLUSH, pages: Number.NaN }), 'pages is an integer, not NaN'],
  [at({ ...FLUSH, reason: 64 }), 'reason is below 64, not 64'],
  [queued({ func: '' }), 'func is a symbol without its offset, not ""'],
  [queued({ callsite: 'f+0x1/0x2' }), 'callsite is a symbol without its offset, not "f+0x1/0x2"'],
  [queued({ csd: 2 ** 63 }), 'csd is a signed integer of 64 bits, not 9223372036854776000'],
  [sent('ipi_send_cpumask', null), 'targets that are not known cannot be printed'],
  [sent('ipi_send_cpu', [1, 2]), 'ipi_send_cpu has one target, not 2'],
  [sent('ipi_send_cpu', []), 'ipi_send_cpu has one target, not 0'],
  [
    at({ kind: 'ipi_entry', name: 'ipi_entry', targets: [cpuId(1)], reason: '' }),
    'ipi_entry has no targets, not 1',
  ],
  [
    at({ kind: 'ipi_entry', name: 'ipi_exit', targets: [], reason: '' }),
    'an event called "ipi_exit" is not of kind ipi_entry',
  ],
  [
    at({ kind: 'vector_exit', name: 'irq_work_exit', irq: 'reschedule', vector: 1 }),
    'irq is the name without its end, not "reschedule"',
  ],
  [
    at({ kind: 'vector_exit', name: 'no_such_exit', irq: 'no_such', vector: 1 }),
    'an event called "no_such_exit" is not of kind vector_exit',
  ],
  [switched('x prev_pid=3'), 'prevComm reads like the field behind it: "x prev_pid=3"'],
  [entered(['brk'], []), 'each of 1 args has a value, not 0 of them'],
  [entered(['a b'], [1]), 'a name in args is a name in C, not "a b"'],
  [entered(['__syscall_nr'], [12]), '__syscall_nr is the number of the call, not one of its args'],
  [
    at({ kind: 'sys_exit', name: 'sys_exit_brk', syscall: 'mmap', ret: 0 }),
    'syscall is the name behind sys_exit_, not "mmap"',
  ],
  [other('tlb_flush'), 'an event called "tlb_flush" is not of kind other'],
  [other('a b'), '"a b" cannot be the name of an event'],
  [other(''), '"" cannot be the name of an event'],
  [other('mark', 'two\nlines'), 'payload is one line of text, not "two\\nlines"'],
  [other('mark', ' x'), 'a payload does not begin with a space, as " x" does'],
  [other('mark', 'é'.repeat(32_768)), 'a line has at most 65536 bytes'],
])('refused %#: %o', (one, message) => {
  expect(refusal(one)).toEqual(['ERR_OPTION', message]);
});

test.each<[WritableRecord]>([
  [record(200, 8, FLUSH)],
  [queued({ target: 8 })],
  [sent('ipi_send_cpumask', [0, 8])],
])('a CPU that the machine does not have %#', (one) => {
  expect(refusal(one)).toEqual(['ERR_CPU_RANGE', 'there is no CPU 8, the machine has 8']);
});
