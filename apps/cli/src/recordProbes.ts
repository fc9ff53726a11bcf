/**
 * What to type to get a trace that `shootdown validate` judges in full: probes on the functions that
 * decide, since the kernel's own events show only what came of it. The names of the probes and of
 * their fields are what packages/validate looks for; of a probe that cannot be had, the decisions
 * that it shows are not in the answer.
 */
import type { CpuId } from '@shootdown/machine';
import { recorderCpu, syscallEvents } from './record.ts';

/** struct flush_tlb_info, at `arg`: laid out as in all 6.x; what is printed says how to check. */
const info = (arg: string): string =>
  `mm=+0(${arg}):x64 start=+8(${arg}):x64 end=+16(${arg}):x64 gen=+24(${arg}):u64 ` +
  `init=+32(${arg}):u32 stride=+36(${arg}):u8 freed=+37(${arg}):u8`;

/** By function, as a line of kprobe_events. */
const PROBES: readonly string[] = [
  'p:shootdown/flush_tlb_mm_range flush_tlb_mm_range mm=$arg1:x64 start=$arg2:x64 end=$arg3:x64 ' +
    'stride=$arg4:u32 freed=$arg5:u8 gen_before=+TLB_GEN($arg1):u64 mask=+CPU_BITMAP($arg1):x64',
  'r16:shootdown/flush_tlb_mm_range_ret flush_tlb_mm_range',
  `p:shootdown/flush_tlb_multi native_flush_tlb_multi mask=+0($arg1):x64 ${info('$arg2')}`,
  `p:shootdown/flush_tlb_func flush_tlb_func ${info('$arg1')}`,
  'r16:shootdown/should_flush should_flush_tlb cpu=$arg1:s32 ret=$retval:u8',
  'p:shootdown/switch_mm switch_mm_irqs_off next=$arg2:x64 next_ctx=+CTX_ID($arg2):u64 ' +
    'next_gen=+TLB_GEN($arg2):u64 next_mask=+CPU_BITMAP($arg2):x64',
  'p:shootdown/enter_lazy enter_lazy_tlb',
  'p:shootdown/batch_flush arch_tlbbatch_flush mask=+0($arg1):x64',
  'p:shootdown/table_sync tlb_remove_table_sync_one',
  'p:shootdown/smp_many smp_call_function_many_cond mask=+0($arg1):x64',
  'p:shootdown/flush_all flush_tlb_all',
  'p:shootdown/flush_kernel flush_tlb_kernel_range start=$arg1:x64 end=$arg2:x64',
];

/** The commands, for a recording of `seconds` that keeps the recorder off `isolated`. */
export function probeCommands(isolated: readonly CpuId[], seconds: number): string {
  const record = [
    `taskset -c ${recorderCpu(isolated)} trace-cmd record -C mono -b 20000 -o trace.dat`,
    '-e shootdown -e tlb:tlb_flush -e csd -e ipi',
    "-e 'irq_vectors:call_function*' -e 'migrate:mm_migrate_pages*'",
    '-e sched:sched_switch -e sched:sched_process_fork -e sched:sched_process_exit',
    '-e exceptions:page_fault_user -e exceptions:page_fault_kernel',
    ...syscallEvents('set_me*'),
    `sleep ${seconds}`,
  ];
  return [
    '# Linux 6.5 or newer, x86-64, as root; masks are recorded of the first 64 CPUs.',
    '# 1. Where these members are in struct mm_struct of this kernel, in bytes: look them up, fill them in.',
    "pahole -E -C mm_struct /sys/kernel/btf/vmlinux | grep -wE 'ctx_id|tlb_gen|cpu_bitmap'",
    'CTX_ID=?  # context.ctx_id',
    'TLB_GEN=?  # context.tlb_gen',
    'CPU_BITMAP=?  # cpu_bitmap',
    '# 2. Is struct flush_tlb_info mm 0, start 8, end 16, new_tlb_gen 24, initiating_cpu 32,',
    '#    stride_shift 36, freed_tables 37 here too? If not, change the probes that read it.',
    'pahole -E -C flush_tlb_info /sys/kernel/btf/vmlinux',
    '# 3. The probes. A line that is refused is reported, and its decisions are not judged. On a kernel',
    '#    that refuses $arg1 of should_flush (before 6.9), put a pair there instead:',
    '#      p:shootdown/should_flush_q should_flush_tlb cpu=$arg1:s32',
    '#      r16:shootdown/should_flush_a should_flush_tlb ret=$retval:u8',
    '#    Without the function (it was tlb_is_not_lazy): leave it out.',
    'sed "s/CTX_ID/$CTX_ID/; s/TLB_GEN/$TLB_GEN/; s/CPU_BITMAP/$CPU_BITMAP/" <<\'END\' |',
    ...PROBES,
    'END',
    'while read -r probe; do',
    '  echo "$probe" >> /sys/kernel/tracing/kprobe_events || echo "not possible: $probe"',
    'done',
    '# 4. Optional, for which ASID a switch takes: a probe on each of the two writes of CR3 in',
    '#    switch_mm_irqs_off(), on the instruction and with the register that a disassembly shows:',
    "#      objdump -d --disassemble=switch_mm_irqs_off vmlinux | grep '%cr3'",
    '#      p:shootdown/cr3_a switch_mm_irqs_off+OFFSET cr3=%ax:x64',
    '#      p:shootdown/cr3_b switch_mm_irqs_off+OFFSET cr3=%r12:x64',
    '# 5. Record. What lies between these two lines of trace_marker is scored apart:',
    '#      echo WORKLOAD_BEGIN > /sys/kernel/tracing/trace_marker    and    WORKLOAD_END',
    record.join(' \\\n  '),
    'shootdown validate trace.dat',
    '# 6. echo > /sys/kernel/tracing/kprobe_events    removes the probes again.',
    '',
  ].join('\n');
}
