/**
 * The kernel's cpu-list syntax, as in isolcpus= and /sys/devices/system/cpu/online: `6-7,9`, groups
 * `0-31:2/4` (the first 2 of every 4), `all`, and `N` for the last CPU.
 */
import { UsageError } from './errors.ts';
import { type CpuId, cpuId } from './ids.ts';

/**
 * More CPUs than any kernel is built for (CONFIG_NR_CPUS of x86-64 ends at 8192): a larger number
 * is a mistake, not a machine.
 */
export const MAX_CPUS = 8192;

const TERM = /^(\d+|N)(?:-(\d+|N)(?::(\d+)\/(\d+))?)?$/;

/**
 * A list may name a CPU past this machine's end as well as past every machine's; the second check
 * must not need a machine.
 */
function bad(text: string, why: string): UsageError {
  return new UsageError(
    'ERR_CPU_LIST',
    `cpu list '${text}': ${why}; expected for example 6-7,9 or 0-31:2/4 or all`,
  );
}

/**
 * The CPUs that `text` names, ascending, each once.
 *
 * @param cpus - how many CPUs the machine has: what `all` and `N` mean. Null if unknown: `all` and
 * `N` are then refused.
 * @throws UsageError ERR_CPU_LIST when `text` is not a cpu list; ERR_CPU_RANGE when it names a CPU
 * the machine does not have.
 */
export function parseCpuList(text: string, cpus: number | null): readonly CpuId[] {
  const list = text.trim();
  if (list === '') throw bad(text, 'it is empty');
  const known = (): number => {
    if (cpus === null)
      throw bad(text, 'all and N need to know how many CPUs there are, and nothing says so here');
    return cpus;
  };
  const found = new Set<number>();
  for (const raw of list.split(',')) {
    const term = raw.trim();
    if (term === 'all') {
      for (let cpu = 0; cpu < known(); cpu++) found.add(cpu);
      continue;
    }
    const match = TERM.exec(term);
    if (match === null) throw bad(text, `'${term}' is not a CPU, a range or a group`);
    const number = (part: string): number => (part === 'N' ? known() - 1 : Number(part));
    const first = number(match[1] as string);
    const last = match[2] === undefined ? first : number(match[2]);
    const used = match[3] === undefined ? 1 : Number(match[3]);
    const group = match[4] === undefined ? 1 : Number(match[4]);
    if (last < first) throw bad(text, `'${term}' ends before it begins`);
    if (last >= MAX_CPUS) throw bad(text, `no kernel has a CPU ${last}`);
    if (used < 1 || group < used) throw bad(text, `'${term}' takes ${used} of every ${group}`);
    for (let cpu = first; cpu <= last; cpu++) if ((cpu - first) % group < used) found.add(cpu);
  }
  const result = [...found].toSorted((a, b) => a - b);
  const highest = result.at(-1);
  if (cpus !== null && highest !== undefined && highest >= cpus) {
    throw new UsageError(
      'ERR_CPU_RANGE',
      `cpu list '${text}': there is no CPU ${highest} here, the CPUs are 0-${cpus - 1}`,
    );
  }
  return result.map(cpuId);
}

/**
 * The shortest cpu list of plain CPUs and ranges that names `cpus`: `[6, 7, 9]` is `6-7,9`; none is
 * the empty string.
 */
export function formatCpuList(cpus: Iterable<number>): string {
  const sorted = [...new Set(cpus)].toSorted((a, b) => a - b);
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; i++) {
    const first = sorted[i] as number;
    while (sorted[i + 1] === (sorted[i] as number) + 1) i++;
    const last = sorted[i] as number;
    parts.push(first === last ? `${first}` : `${first}-${last}`);
  }
  return parts.join(',');
}
