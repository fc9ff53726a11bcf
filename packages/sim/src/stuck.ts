/** A machine in which nothing can happen although somebody waits. */
import { type Cpu, explain, type Machine, UsageError, waitsFor } from '@shootdown/machine';

/** A CPU that waits for an interrupt has not failed to end: an idle loop may. */
const rests = ({ op }: Cpu): boolean => op === null || op.kind.name === 'halt';

function reason(cpu: Cpu): string {
  const cells = cpu.op === null ? [] : waitsFor(cpu.op);
  const what = cells.map((cell) => `${cell.name} = ${String(cell.value)}`).join(', ');
  const irqs = cpu.irqsOn ? '' : ' with interrupts off';
  const pending = cpu.pending.length === 0 ? '' : `, vectors ${cpu.pending.join(', ')} pending`;
  return `waits${irqs} and nothing can end it${what === '' ? '' : ` (${what})`}${pending}`;
}

/** What to throw when `machine` can go no further; null if every CPU has ended or rests. */
export function stuckError(machine: Machine): Error | null {
  const stuck = machine.cpus.filter((cpu) => !rests(cpu));
  const [first] = stuck;
  if (first === undefined) return null;
  const others = stuck.slice(1, 9).map((cpu) => `; CPU ${cpu.id} ${reason(cpu)}`);
  const more = stuck.length > 9 ? `; and ${stuck.length - 9} more` : '';
  const error = new UsageError('ERR_STUCK', `${reason(first)}${others.join('')}${more}`);
  return explain(first, error, first.op);
}
