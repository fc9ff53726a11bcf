/** Which events have a typed shape, and which shape: one table for every reader. */
import type { RecordedEvent } from './shapes.ts';

const TYPED: ReadonlyMap<string, RecordedEvent['kind']> = new Map<string, RecordedEvent['kind']>([
  ['tlb_flush', 'tlb_flush'],
  ['csd_queue_cpu', 'csd_queue_cpu'],
  ['csd_function_entry', 'csd_function_entry'],
  ['csd_function_exit', 'csd_function_exit'],
  ['ipi_send_cpu', 'ipi_send'],
  ['ipi_send_cpumask', 'ipi_send'],
  ['ipi_raise', 'ipi_raise'],
  ['ipi_entry', 'ipi_entry'],
  ['ipi_exit', 'ipi_exit'],
  ['sched_switch', 'sched_switch'],
  ['page_fault_user', 'page_fault'],
  ['page_fault_kernel', 'page_fault'],
]);

/** The interrupts of x86's irq_vectors group; each has an _entry and an _exit event. */
export const IRQ_VECTORS: ReadonlySet<string> = new Set([
  'call_function',
  'call_function_single',
  'deferred_error_apic',
  'error_apic',
  'irq_work',
  'local_timer',
  'reschedule',
  'spurious_apic',
  'thermal_apic',
  'threshold_apic',
  'x86_platform_ipi',
]);

/** The kind of the event called `name`. */
export function kindOf(name: string): RecordedEvent['kind'] {
  const typed = TYPED.get(name);
  if (typed !== undefined) return typed;
  if (name.startsWith('sys_enter_')) return 'sys_enter';
  if (name.startsWith('sys_exit_')) return 'sys_exit';
  const edge = name.endsWith('_entry') ? 'entry' : 'exit';
  const irq = name.slice(0, -(edge.length + 1));
  return name.endsWith(`_${edge}`) && IRQ_VECTORS.has(irq) ? `vector_${edge}` : 'other';
}

/** Kernels have 6 reasons of tlb_flush; a number far beyond is damage. */
export const MAX_REASONS = 64;
