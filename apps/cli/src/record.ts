/**
 * What to type to get a trace that answers. Which events exist depends on the kernel: ipi_send_*
 * since 6.4, csd_* since 6.5; without them the evidence is weaker, and the text says so.
 */
import { type CpuId, formatCpuList } from '@shootdown/machine';

/**
 * System calls that flush, or load code: by pattern, because trace-cmd refuses a name that the
 * kernel does not have, and a pattern takes what there is. `m*` is mmap, munmap, madvise, mprotect,
 * mremap, mbind, move_pages, migrate_pages, membarrier.
 */
const SYSCALLS = ['m*', 'p*_m*', '*fork', 'clone*', 'exec*', 'exit*', 'brk', '*_module', 'bpf'];

/** Options of trace-cmd for these calls, and for `more`. */
export const syscallEvents = (...more: readonly string[]): readonly string[] =>
  [...SYSCALLS, ...more].map(
    (name) => `-e 'syscalls:sys_enter_${name}' -e 'syscalls:sys_exit_${name}'`,
  );

/** A CPU for the recorder: none of `isolated`. */
export function recorderCpu(isolated: readonly CpuId[]): number {
  let recorder = 0;
  while (isolated.some((cpu) => cpu === recorder)) recorder++;
  return recorder;
}

/** The commands, for a recording of `seconds` that keeps the recorder off `isolated`. */
export function recordCommands(isolated: readonly CpuId[], seconds: number): string {
  const list = formatCpuList(isolated);
  const recorder = recorderCpu(isolated);
  const lines = [
    `taskset -c ${recorder} trace-cmd record -C mono -b 20000 -o trace.dat`,
    '-e tlb:tlb_flush -e csd -e ipi',
    "-e 'irq_vectors:call_function*' -e irq_vectors:reschedule_entry -e irq_vectors:irq_work_entry",
    '-e sched:sched_switch -e exceptions:page_fault_user -e huge_memory -e migrate:mm_migrate_pages',
    ...syscallEvents(),
    `sleep ${seconds}`,
  ];
  return [
    '# Linux 6.5 or newer, x86: every call is recorded with its function and target (evidence A).',
    '# On 6.4 leave out -e csd (evidence B); before, leave out -e csd and -e ipi (evidence C).',
    `# The recorder stays off the CPUs you ask about (${list}): here it runs on CPU ${recorder}.`,
    lines.join(' \\\n  '),
    `shootdown replay trace.dat --isolated ${list}`,
    '',
  ].join('\n');
}
