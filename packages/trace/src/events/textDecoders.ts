/**
 * What the text of each typed event says: one decoder per event, from a cursor over its payload.
 * Both spellings are read, the kernel's (`pages:16`) and trace-cmd's plugins' (`pages=16`), because
 * a `trace-cmd report` may run with or without them.
 *
 * A decoder returns null when the payload lacks a field that its shape needs.
 */
import { type CpuId, cpuId, MAX_CPUS } from '@shootdown/machine';
import { at, Char, isDigit } from '../text/bytes.ts';
import { type Fields, key } from '../text/fields.ts';
import { MAX_REASONS } from './kinds.ts';
import type { RecordedEvent } from './shapes.ts';

/**
 * How a cpumask is printed: hex words by the kernel, a cpu list by trace-cmd. `11` is either, so
 * the source decides, never the line.
 */
export type MaskForm = 'hex-words' | 'cpu-list';

/** Decodes one payload. */
export type PayloadDecoder = (fields: Fields) => RecordedEvent | null;

const K = {
  pages: key('pages'),
  reason: key('reason'),
  cpu: key('cpu'),
  cpumask: key('cpumask'),
  targetMask: key('target_mask'),
  callsite: key('callsite'),
  callback: key('callback'),
  func: key('func'),
  csd: key('csd'),
  vector: key('vector'),
  address: key('address'),
  errorCode: key('error_code'),
  prevComm: key('prev_comm'),
  prevPid: key('prev_pid'),
  nextComm: key('next_comm'),
  nextPid: key('next_pid'),
  ret: key('ret'),
};

/**
 * pages:16 reason:remote shootdown (1); the words changed with versions and may be empty, the
 * number did not. Raw: reason=1 pages=16.
 */
function tlbFlush(f: Fields): RecordedEvent | null {
  const start = f.pos;
  if (!f.seek(K.pages)) return null;
  const pages = f.int();
  f.pos = start;
  if (!f.seek(K.reason)) return null;
  const words = f.pos;
  if (!f.skipTo(Char.openParen)) f.pos = words;
  const reason = f.int();
  return pages === null || reason === null || reason < 0 || reason >= MAX_REASONS
    ? null
    : { kind: 'tlb_flush', name: 'tlb_flush', pages, reason };
}

function csdQueueCpu(f: Fields): RecordedEvent | null {
  if (!f.seek(K.cpu)) return null;
  const target = cpuHere(f);
  if (target === null || !f.seek(K.callsite)) return null;
  const callsite = f.symbol();
  if (!f.seek(K.func)) return null;
  const func = f.symbol();
  if (!f.seek(K.csd)) return null;
  const csd = f.address();
  return csd === null
    ? null
    : { kind: 'csd_queue_cpu', name: 'csd_queue_cpu', target, callsite, func, csd };
}

function csdFunction(name: 'csd_function_entry' | 'csd_function_exit'): PayloadDecoder {
  return (f) => {
    if (!f.seek(K.func)) return null;
    const func = f.symbol();
    if (!f.seek(K.csd)) return null;
    const csd = f.address();
    return csd === null ? null : { kind: name, name, func, csd };
  };
}

/** A CPU's number here; null when no machine has it. */
function cpuHere(f: Fields): CpuId | null {
  const cpu = f.int();
  return cpu === null || cpu < 0 || cpu >= MAX_CPUS ? null : cpuId(cpu);
}

function ipiSendCpu(f: Fields): RecordedEvent | null {
  if (!f.seek(K.cpu)) return null;
  const target = cpuHere(f);
  return target === null ? null : ipiSend(f, 'ipi_send_cpu', [target]);
}

function ipiSendCpumask(form: MaskForm): PayloadDecoder {
  return (f) => {
    if (!f.seek(K.cpumask)) return null;
    const mask = f.word();
    const targets = maskOf(mask, form);
    if (targets === null && !RAW_MASK.test(mask)) return null;
    return ipiSend(f, 'ipi_send_cpumask', targets);
  };
}

function ipiSend(
  f: Fields,
  name: 'ipi_send_cpu' | 'ipi_send_cpumask',
  targets: readonly CpuId[] | null,
): RecordedEvent | null {
  if (!f.seek(K.callsite)) return null;
  const callsite = f.symbol();
  if (!f.seek(K.callback)) return null;
  return { kind: 'ipi_send', name, targets, callsite, callback: f.symbol() };
}

/**
 * target_mask=00000000,00000002 (Function call interrupts); the other two print (Function call
 * interrupts) alone.
 */
function armIpi(name: 'ipi_raise' | 'ipi_entry' | 'ipi_exit', form: MaskForm): PayloadDecoder {
  return (f) => {
    let targets: readonly CpuId[] | null = [];
    if (name === 'ipi_raise') targets = f.seek(K.targetMask) ? maskOf(f.word(), form) : null;
    if (targets === null || !f.skipTo(Char.openParen)) return null;
    return { kind: name, name, targets, reason: f.rest().replace(/\)\s*$/, '') };
  };
}

function irqVector(name: string): PayloadDecoder {
  const kind = name.endsWith('_entry') ? 'vector_entry' : 'vector_exit';
  const irq = name.slice(0, name.lastIndexOf('_'));
  return (f) => {
    if (!f.seek(K.vector)) return null;
    const vector = f.int();
    return vector === null ? null : { kind, name, irq, vector };
  };
}

function pageFault(name: 'page_fault_user' | 'page_fault_kernel'): PayloadDecoder {
  return (f) => {
    if (!f.seek(K.address)) return null;
    // %ps: an address that the symbol table knows prints as a symbol, and its number is then not in
    // the text.
    const address = f.address();
    if (!f.seek(K.errorCode)) return null;
    const errorCode = f.hex();
    return errorCode === null ? null : { kind: 'page_fault', name, address, errorCode };
  };
}

/**
 * prev_comm=a prev_pid=1 ... next_comm=b next_pid=2 ..., or the plugin's `a:1 [120] R ==> b:2
 * [120]`.
 */
function schedSwitch(f: Fields): RecordedEvent | null {
  const start = f.pos;
  if (f.seek(K.prevComm)) {
    const prev = f.pos;
    if (!f.seek(K.prevPid)) return null;
    const prevComm = comm(f, prev, f.pos - 'prev_pid='.length - 1);
    const prevPid = f.int();
    if (!f.seek(K.nextComm)) return null;
    const next = f.pos;
    if (!f.seek(K.nextPid)) return null;
    const nextComm = comm(f, next, f.pos - 'next_pid='.length - 1);
    const nextPid = f.int();
    if (prevPid === null || nextPid === null) return null;
    return { kind: 'sched_switch', name: 'sched_switch', prevPid, prevComm, nextPid, nextComm };
  }
  f.pos = start;
  const middle = arrow(f);
  if (middle === -1) return null;
  const prev = switchSide(f, start, middle);
  const next = switchSide(f, middle + 4, f.end);
  if (prev === null || next === null) return null;
  return {
    kind: 'sched_switch',
    name: 'sched_switch',
    prevPid: prev.pid,
    prevComm: prev.comm,
    nextPid: next.pid,
    nextComm: next.comm,
  };
}

/** A command may be empty; the space behind it has then been skipped as one before it. */
function comm(f: Fields, start: number, end: number): string {
  return f.intern(Math.min(start, end), end);
}

/** Index of `==> `; the last one, since a command may hold anything. */
function arrow(f: Fields): number {
  for (let i = f.end - 4; i >= f.pos; i--) {
    if (
      at(f.bytes, i) === Char.equals &&
      at(f.bytes, i + 1) === Char.equals &&
      at(f.bytes, i + 2) === Char.greater
    )
      return i;
  }
  return -1;
}

/**
 * `comm:pid [prio]`: the pid stands before the last ` [`, the command before the `:` before that.
 */
function switchSide(f: Fields, start: number, end: number): { comm: string; pid: number } | null {
  let i = end - 1;
  while (i > start && at(f.bytes, i) !== Char.openBracket) i--;
  i--;
  const pidEnd = i;
  while (i > start && isDigit(at(f.bytes, i - 1))) i--;
  if (i >= pidEnd || i <= start || at(f.bytes, i - 1) !== Char.colon) return null;
  let pid = 0;
  for (let j = i; j < pidEnd; j++) pid = pid * 10 + at(f.bytes, j) - Char.zero;
  return { comm: f.intern(start, i - 1), pid };
}

/**
 * trace-cmd -R prints where the mask is in the record (its length in the upper 16 bits) instead of
 * the mask.
 */
const RAW_MASK = /^\d{5,}$/;

/** The CPUs of a printed mask; null when it is not one. */
export function maskOf(text: string, form: MaskForm): readonly CpuId[] | null {
  const cpus = new Set<CpuId>();
  if (form === 'hex-words') {
    if (!/^[0-9a-f]{1,8}(?:,[0-9a-f]{8})*$/.test(text)) return null;
    const words = text.split(',').toReversed();
    if (words.length > MAX_CPUS / 32) return null;
    for (const [index, word] of words.entries()) {
      const bits = Number.parseInt(word, 16);
      for (let bit = 0; bit < 32; bit++) if ((bits >>> bit) & 1) cpus.add(cpuId(index * 32 + bit));
    }
    return [...cpus];
  }
  for (const part of text.split(',')) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part);
    if (match === null) return null;
    const last = Number(match[2] ?? match[1]);
    if (last >= MAX_CPUS) return null;
    for (let cpu = Number(match[1]); cpu <= last; cpu++) cpus.add(cpuId(cpu));
  }
  return [...cpus];
}

/**
 * `addr: 7f.., len: 10000` or `addr: 0x7f.., len: 0x10000`, always hexadecimal; raw:
 * `__syscall_nr=11 addr=0x7f..`.
 */
function sysEnter(name: string): PayloadDecoder {
  const syscall = name.slice('sys_enter_'.length);
  // The same names every time, so one array serves all events; it is made anew only if a line
  // differs.
  let args: readonly string[] = [];
  return (f) => {
    const values: number[] = [];
    while (f.pos < f.end) {
      const start = f.pos;
      while (
        f.pos < f.end &&
        at(f.bytes, f.pos) !== Char.colon &&
        at(f.bytes, f.pos) !== Char.equals
      )
        f.pos++;
      if (f.pos === f.end) break;
      const argument = f.intern(start, f.pos);
      f.pos++;
      if (f.pos < f.end && at(f.bytes, f.pos) === Char.space) f.pos++;
      const value = f.hex();
      // Newer kernels print some arguments in words: what follows is not for us.
      if (value === null) break;
      if (argument !== '__syscall_nr') {
        if (args[values.length] !== argument) args = [...args.slice(0, values.length), argument];
        values.push(value);
      }
      while (
        f.pos < f.end &&
        (at(f.bytes, f.pos) === Char.comma || at(f.bytes, f.pos) === Char.space)
      )
        f.pos++;
    }
    if (args.length > values.length) args = args.slice(0, values.length);
    return { kind: 'sys_enter', name, syscall, args, values };
  };
}

function sysExit(name: string): PayloadDecoder {
  const syscall = name.slice('sys_exit_'.length);
  return (f) => {
    const start = f.pos;
    if (!f.seek(K.ret)) f.pos = start;
    const ret = f.hex();
    return ret === null ? null : { kind: 'sys_exit', name, syscall, ret };
  };
}

/**
 * The decoder of the event `name` in a text that prints masks in `form`; null for an event without
 * a typed shape.
 */
export function textDecoder(
  name: string,
  kind: RecordedEvent['kind'],
  form: MaskForm,
): PayloadDecoder | null {
  switch (kind) {
    case 'tlb_flush':
      return tlbFlush;
    case 'csd_queue_cpu':
      return csdQueueCpu;
    case 'csd_function_entry':
    case 'csd_function_exit':
      return csdFunction(kind);
    case 'ipi_send':
      return name === 'ipi_send_cpu' ? ipiSendCpu : ipiSendCpumask(form);
    case 'ipi_raise':
    case 'ipi_entry':
    case 'ipi_exit':
      return armIpi(kind, form);
    case 'vector_entry':
    case 'vector_exit':
      return irqVector(name);
    case 'page_fault':
      return pageFault(name === 'page_fault_user' ? name : 'page_fault_kernel');
    case 'sched_switch':
      return schedSwitch;
    case 'sys_enter':
      return sysEnter(name);
    case 'sys_exit':
      return sysExit(name);
    case 'other':
      return null;
  }
}
