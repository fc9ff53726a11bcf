/**
 * Fields in print, each checked first: what the text reader would read back as something else is
 * refused, because a file that says another thing than its writer meant is worse than none.
 */
import { CpuMask, UsageError, type UsageCode } from '@shootdown/machine';

/** Makes the error that says what cannot be printed; ERR_OPTION unless `code` says otherwise. */
export type Refuse = (what: string, code?: UsageCode) => UsageError;

/** A task's command has 16 bytes in the kernel, the last of them 0. */
const MAX_COMM = 15;
/**
 * What ends a line, for some reader; NUL, which makes a file a binary one; and the byte order mark,
 * which decoders take off.
 */
const NO_TEXT = /[\n\r\u2028\u2029\0\ufeff]/;
/** Where a symbol in a trace ends. */
const ENDS_SYMBOL = /[\s,+]/;
const TWO_63 = 2 ** 63;

const encoder = new TextEncoder();

/** How many bytes `text` has in UTF-8. */
export function byteLength(text: string): number {
  return isAscii(text) ? text.length : encoder.encode(text).length;
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7e) return false;
  return true;
}

/** Prints the fields of one machine's records. */
export class Printable {
  readonly refuse: Refuse;
  readonly #cpus: number;

  constructor(cpus: number, refuse: Refuse) {
    this.#cpus = cpus;
    this.refuse = refuse;
  }

  /** A CPU of the machine. */
  cpu(cpu: number): number {
    if (Number.isInteger(cpu) && cpu >= 0 && cpu < this.#cpus) return cpu;
    throw this.refuse(`there is no CPU ${cpu}, the machine has ${this.#cpus}`, 'ERR_CPU_RANGE');
  }

  /**
   * %*pb of a mask: words of 32 bits, the highest first, as many as whole longs of 64 bits for all
   * CPUs have.
   */
  mask(targets: readonly number[]): string {
    const mask = new CpuMask(this.#cpus);
    for (const cpu of targets) mask.set(this.cpu(cpu));
    const words = new Uint32Array(2 * Math.ceil(this.#cpus / 64));
    for (const cpu of mask) words[cpu >>> 5] = (words[cpu >>> 5] ?? 0) | (1 << (cpu & 31));
    return Array.from(words.toReversed(), (word) => word.toString(16).padStart(8, '0')).join(',');
  }

  /** An integer that a number holds exactly. */
  integer(name: string, value: number): number {
    if (Number.isSafeInteger(value)) return value;
    throw this.refuse(`${name} is an integer, not ${value}`);
  }

  /** The same, and not negative. */
  count(name: string, value: number): number {
    if (Number.isSafeInteger(value) && value >= 0) return value;
    throw this.refuse(`${name} is an integer from 0, not ${value}`);
  }

  /** %lx: 64 bits, of which the record holds the signed number. */
  hex(name: string, value: number): string {
    if (!Number.isInteger(value) || value < -TWO_63 || value >= TWO_63)
      throw this.refuse(`${name} is a signed integer of 64 bits, not ${value}`);
    return value >= 0 && value <= Number.MAX_SAFE_INTEGER
      ? value.toString(16)
      : BigInt.asUintN(64, BigInt(value)).toString(16);
  }

  /** A command. Spaces in front would be taken for the padding of its column. */
  comm(name: string, comm: string): string {
    const bytes = byteLength(this.line(name, comm));
    if (bytes > MAX_COMM)
      throw this.refuse(`${name} has at most ${MAX_COMM} bytes, and ${quote(comm)} has ${bytes}`);
    if (comm !== comm.trimStart())
      throw this.refuse(`${name} does not begin with a space, as ${quote(comm)} does`);
    return comm;
  }

  /** The name of a function. */
  symbol(name: string, symbol: string): string {
    if (symbol !== '' && !ENDS_SYMBOL.test(this.line(name, symbol))) return symbol;
    throw this.refuse(`${name} is a symbol without its offset, not ${quote(symbol)}`);
  }

  /** A name in C. */
  identifier(name: string, identifier: string): string {
    if (/^\w{1,64}$/.test(identifier)) return identifier;
    throw this.refuse(`${name} is a name in C, not ${quote(identifier)}`);
  }

  /** Text on one line. */
  line(name: string, text: string): string {
    if (!NO_TEXT.test(text) && text.isWellFormed()) return text;
    throw this.refuse(`${name} is one line of text, not ${quote(text)}`);
  }
}

/** As one line, and not endless. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
