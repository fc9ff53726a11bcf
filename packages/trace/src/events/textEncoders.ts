/**
 * What the kernel prints of each event, from its name on: textDecoders.ts the other way round, in
 * the spelling of Linux 6.12. Fields that a shape does not hold are left out: inventing them would
 * make a simulated trace claim what nobody computed.
 */
import { type Printable, quote } from '../text/printable.ts';
import { kindOf, MAX_REASONS } from './kinds.ts';
import type {
  ArmIpi,
  CsdQueueCpu,
  IpiSend,
  OtherEvent,
  PageFault,
  RecordedEvent,
  SchedSwitch,
  SysEnter,
  TlbFlush,
} from './shapes.ts';

/** TLB_FLUSH_REASON of include/trace/events/tlb.h. */
const REASONS: readonly string[] = [
  'flush on task switch',
  'remote shootdown',
  'local shootdown',
  'local mm shootdown',
  'remote ipi send',
  'remote wrong CPU',
];

/** %ps prints a symbol there, and which one the record does not say: %p of a withheld pointer. */
const WITHHELD = '(____ptrval____)';
/** A name ends at the first space, colon or parenthesis; the reader gives up at 128 bytes. */
const EVENT_NAME = /^[!-')-9;-~]{1,128}$/;
/** Commands may hold anything; the field behind one is found by its name. */
const LIKE_PID: Readonly<Record<'prev' | 'next', RegExp>> = {
  prev: /(?:^|[ ,(])prev_pid[=:]/,
  next: /(?:^|[ ,(])next_pid[=:]/,
};

/** `event` as the kernel prints it. @throws what `print.refuse` makes */
export function eventText(event: RecordedEvent, print: Printable): string {
  const { kind, name } = event;
  if (kindOf(name) !== kind)
    throw print.refuse(`an event called ${quote(name)} is not of kind ${kind}`);
  switch (kind) {
    case 'tlb_flush':
      return `${name}: ${tlbFlush(event, print)}`;
    case 'csd_queue_cpu':
      return `${name}: ${csdQueueCpu(event, print)}`;
    case 'csd_function_entry':
    case 'csd_function_exit':
      return `${name}: func=${print.symbol('func', event.func)}, csd=${pointer(event.csd, print)}`;
    case 'ipi_send':
      return `${name}: ${ipiSend(event, print)}`;
    case 'ipi_raise':
    case 'ipi_entry':
    case 'ipi_exit':
      return `${name}: ${armIpi(event, print)}`;
    case 'vector_entry':
    case 'vector_exit':
      if (name !== `${event.irq}_${kind.slice('vector_'.length)}`)
        throw print.refuse(`irq is the name without its end, not ${quote(event.irq)}`);
      return `${name}: vector=${print.integer('vector', event.vector)}`;
    case 'sched_switch':
      return `${name}: ${schedSwitch(event, print)}`;
    case 'sys_enter':
      return `${call(event, print)}(${args(event, print)})`;
    case 'sys_exit':
      return `${call(event, print)} -> 0x${print.hex('ret', event.ret)}`;
    case 'page_fault':
      return `${name}: ${pageFault(event, print)}`;
    case 'other':
      return `${eventName(name, print)}: ${payload(event, print)}`;
  }
}

function tlbFlush({ pages, reason }: TlbFlush, print: Printable): string {
  if (print.count('reason', reason) >= MAX_REASONS)
    throw print.refuse(`reason is below ${MAX_REASONS}, not ${reason}`);
  // __print_symbolic: a number without a word is printed itself.
  const words = REASONS[reason] ?? `0x${reason.toString(16)}`;
  return `pages:${print.integer('pages', pages)} reason:${words} (${reason})`;
}

function csdQueueCpu({ target, callsite, func, csd }: CsdQueueCpu, print: Printable): string {
  const from = `cpu=${print.cpu(target)} callsite=${print.symbol('callsite', callsite)}`;
  return `${from} func=${print.symbol('func', func)} csd=${pointer(csd, print)}`;
}

/** %p, as a kernel prints it that hashes no pointers. */
function pointer(csd: number, print: Printable): string {
  return print.hex('csd', csd).padStart(16, '0');
}

function ipiSend({ name, targets, callsite, callback }: IpiSend, print: Printable): string {
  if (targets === null) throw print.refuse('targets that are not known cannot be printed');
  const [first] = targets;
  const one = name === 'ipi_send_cpu';
  if (one && (first === undefined || targets.length > 1))
    throw print.refuse(`ipi_send_cpu has one target, not ${targets.length}`);
  const to = one ? `cpu=${print.cpu(first ?? 0)}` : `cpumask=${print.mask(targets)}`;
  const from = print.symbol('callsite', callsite);
  return `${to} callsite=${from} callback=${print.symbol('callback', callback)}`;
}

function armIpi({ kind, targets, reason }: ArmIpi, print: Printable): string {
  const words = `(${print.line('reason', reason)})`;
  if (kind === 'ipi_raise') return `target_mask=${print.mask(targets)} ${words}`;
  if (targets.length > 0) throw print.refuse(`${kind} has no targets, not ${targets.length}`);
  return words;
}

function schedSwitch(event: SchedSwitch, print: Printable): string {
  const side = (which: 'prev' | 'next', comm: string, pid: number): string => {
    const name = `${which}Comm`;
    if (LIKE_PID[which].test(print.comm(name, comm)))
      throw print.refuse(`${name} reads like the field behind it: ${quote(comm)}`);
    return `${which}_comm=${comm} ${which}_pid=${print.integer(`${which}Pid`, pid)}`;
  };
  const prev = side('prev', event.prevComm, event.prevPid);
  return `${prev} ==> ${side('next', event.nextComm, event.nextPid)}`;
}

/** A system call by the kernel's name for its metadata. */
function call(
  { kind, name, syscall }: RecordedEvent & { syscall: string },
  print: Printable,
): string {
  if (name !== `${kind}_${syscall}`)
    throw print.refuse(`syscall is the name behind ${kind}_, not ${quote(syscall)}`);
  return `sys_${print.identifier('syscall', syscall)}`;
}

function args({ args: names, values }: SysEnter, print: Printable): string {
  if (names.length !== values.length)
    throw print.refuse(`each of ${names.length} args has a value, not ${values.length} of them`);
  return names
    .map((name, index) => {
      if (print.identifier('a name in args', name) === '__syscall_nr')
        throw print.refuse('__syscall_nr is the number of the call, not one of its args');
      return `${name}: ${print.hex(name, values[index] ?? Number.NaN)}`;
    })
    .join(', ');
}

function pageFault({ address, errorCode }: PageFault, print: Printable): string {
  const where = address === null ? WITHHELD : `0x${print.hex('address', address)}`;
  return `address=${where} error_code=0x${print.hex('errorCode', errorCode)}`;
}

function eventName(name: string, print: Printable): string {
  if (EVENT_NAME.test(name)) return name;
  throw print.refuse(`${quote(name)} cannot be the name of an event`);
}

function payload(event: OtherEvent, print: Printable): string {
  const text = print.line('payload', event.payload.text());
  if (text.startsWith(' '))
    throw print.refuse(`a payload does not begin with a space, as ${quote(text)} does`);
  return text;
}
