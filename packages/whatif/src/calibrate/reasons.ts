/** Why a recording cannot give an entry of the cost table, whatever is recorded. */

const INSTRUCTION = 'no cycle-level time: instructions are not traced';

/** Reasons, each with the entries that it holds for. */
const REASONS: readonly (readonly [string, readonly string[]])[] = [
  [
    'it lies between ipi_send and the first function, where no event tells it apart',
    ['csdTake', 'irqEntry'],
  ],
  ['the last event of an interrupt comes before its return', ['iret']],
  [
    'it lies within one call, where no event tells it apart',
    ['csdLock', 'csdFill', 'csdEnqueue', 'csdUnlock', 'csdWait'],
  ],
  ['transfers of cache lines are not traced', ['line', 'lineFar']],
  ['the trace does not say which CPUs share a socket', ['ipiFlightFar']],
  ['no event comes behind a switch of stacks', ['switchTo']],
  ['the events of a system call lie inside its entry and exit', ['syscall']],
  [
    'no event ends a page fault, so its work is not told apart',
    [
      'pageFault',
      'copyPage',
      'clearUserPage',
      'copyHugePage',
      'clearHugePage',
      'swapOut',
      'swapIn',
    ],
  ],
  ['the exits of a guest are in a trace of its host', ['vmExit', 'vmEntry']],
  ['a flush by broadcast makes no event', ['invlpgb', 'tlbsync', 'tlbi', 'dsb']],
  ['grace periods are not read from a trace', ['rcuGracePeriod']],
  [
    'it takes no time: no instruction stands behind it',
    ['mayFail', 'choose', 'maskCall', 'frameUsers', 'rcuSeeQuiet', 'rcuAwaitQuiet'],
  ],
  ['the model says how long each takes', ['compute', 'vcpuPark']],
];

const BY_NAME: ReadonlyMap<string, string> = new Map(
  REASONS.flatMap(([reason, names]) => names.map((name) => [name, reason] as const)),
);

/** Why no trace gives the entry `name`. */
export function reasonWhyNot(name: string): string {
  return BY_NAME.get(name) ?? INSTRUCTION;
}
