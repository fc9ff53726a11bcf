/**
 * What to type to get a trace that answers. Which events exist depends on the kernel: ipi_send_*
 * since 6.4, csd_* since 6.5; without them the evidence is weaker, and the text says so.
 */

const SYSCALLS = [
  'munmap',
  'madvise',
  'mprotect',
  'mremap',
  'mmap',
  'fork',
  'clone',
  'execve',
  'exit_group',
];

/**
 * The commands, for a recording of `seconds` that keeps the recorder off the CPUs in `isolated`.
 */
export function recordCommands(isolated: string, seconds: number): string {
  const syscalls = SYSCALLS.flatMap((name) => [
    `-e syscalls:sys_enter_${name}`,
    `-e syscalls:sys_exit_${name}`,
  ]).filter((event) => !event.endsWith('exit_exit_group'));
  const lines = [
    'taskset -c 0 trace-cmd record -C mono -b 20000 -o trace.dat',
    '-e tlb:tlb_flush -e csd -e ipi',
    "-e 'irq_vectors:call_function*' -e irq_vectors:reschedule_entry -e irq_vectors:irq_work_entry",
    '-e sched:sched_switch -e exceptions:page_fault_user',
    ...Array.from({ length: Math.ceil(syscalls.length / 2) }, (_, i) =>
      syscalls.slice(2 * i, 2 * i + 2).join(' '),
    ),
    `sleep ${seconds}`,
  ];
  return [
    '# Linux 6.5 or newer, x86: the function and the target of every call are recorded (evidence A).',
    '# On 6.4 leave out -e csd (evidence B); on 6.3 and older leave out -e csd and -e ipi (evidence C).',
    `# Keep the recorder off the CPUs you ask about (${isolated}); here it runs on CPU 0.`,
    lines.join(' \\\n  '),
    `shootdown replay trace.dat --isolated ${isolated}`,
    '',
  ].join('\n');
}
