/**
 * A cursor over one event's payload, `pages:16 reason:remote shootdown (1)` or `cpu=1
 * callsite=f+0x2/0x4 func=g csd=0x0`. The kernel prints fields in a fixed order, so each search
 * starts where the last one ended and a payload is passed over once.
 */
import type { VirtAddr } from '@shootdown/machine';
import { at, Char, HEX, isDigit, textOf } from './bytes.ts';
import { Interner } from './interner.ts';

/** A key in bytes, made once per key. */
export type Key = Uint8Array;

/** The bytes of the field name `name`. */
export const key = (name: string): Key => new TextEncoder().encode(name);

/** The cursor: one object per reader, pointed at one payload after another. */
export class Fields {
  bytes: Uint8Array = new Uint8Array(0);
  pos = 0;
  end = 0;
  readonly #symbols = new Interner((text) => text);

  /** Points the cursor at a payload. */
  set(bytes: Uint8Array, start: number, end: number): void {
    this.bytes = bytes;
    this.pos = start;
    this.end = end;
  }

  /**
   * Moves behind `name=`, `name:` or `name: `; false, and nothing moves, when the field is not
   * there.
   */
  seek(name: Key): boolean {
    const { bytes, end } = this;
    const first = at(name, 0);
    const length = name.length;
    const last = end - length;
    search: for (let i = this.pos; i < last; i++) {
      if (at(bytes, i) !== first) continue;
      for (let j = 1; j < length; j++) if (at(bytes, i + j) !== at(name, j)) continue search;
      const after = at(bytes, i + length);
      if (after !== Char.equals && after !== Char.colon) continue;
      if (i > this.pos && !isBreak(at(bytes, i - 1))) continue;
      this.pos = i + length + 1;
      if (this.pos < end && at(bytes, this.pos) === Char.space) this.pos++;
      return true;
    }
    return false;
  }

  /** Moves behind the next `byte`; false, and nothing moves, when there is none. */
  skipTo(byte: number): boolean {
    for (let i = this.pos; i < this.end; i++) {
      if (at(this.bytes, i) === byte) {
        this.pos = i + 1;
        return true;
      }
    }
    return false;
  }

  /** A decimal integer here; null when there is none. */
  int(): number | null {
    const { bytes, end } = this;
    let i = this.pos;
    const negative = i < end && at(bytes, i) === Char.minus;
    if (negative) i++;
    const start = i;
    let value = 0;
    while (i < end && isDigit(at(bytes, i))) value = value * 10 + (at(bytes, i++) - Char.zero);
    if (i === start) return null;
    this.pos = i;
    return negative ? -value : value;
  }

  /**
   * A hexadecimal number of up to 64 bits here, with or without 0x, as a signed number; `(nil)` is
   * 0; null when there is none.
   */
  hex(): number | null {
    const { bytes, end } = this;
    let i = this.pos;
    if (i + 5 <= end && at(bytes, i) === Char.openParen) {
      if (textOf(bytes, i, i + 5) !== '(nil)') return null;
      this.pos = i + 5;
      return 0;
    }
    if (i + 2 < end && at(bytes, i) === Char.zero && at(bytes, i + 1) === Char.lowerX) i += 2;
    const start = i;
    let low = 0;
    let high = 0;
    for (let digit: number; i < end && (digit = HEX[at(bytes, i)] as number) >= 0; i++) {
      high = (high << 4) | (low >>> 28);
      low = (low << 4) | digit;
    }
    if (i === start || i - start > 16) return null;
    this.pos = i;
    return high * 0x1_0000_0000 + (low >>> 0);
  }

  /** The same as an address. */
  address(): VirtAddr | null {
    return this.hex() as VirtAddr | null;
  }

  /**
   * A symbol without its `+0x2/0x4`, up to a space or comma; a number stays as it is written. Empty
   * when nothing is there.
   */
  symbol(): string {
    const { bytes, end } = this;
    let i = this.pos;
    while (i < end && !isSymbolEnd(at(bytes, i))) i++;
    const symbol = this.#symbols.get(bytes, this.pos, i);
    while (i < end && at(bytes, i) !== Char.space && at(bytes, i) !== Char.comma) i++;
    this.pos = i;
    return symbol;
  }

  /** The word here, up to a space. */
  word(): string {
    const start = this.pos;
    while (this.pos < this.end && at(this.bytes, this.pos) !== Char.space) this.pos++;
    return this.#symbols.get(this.bytes, start, this.pos);
  }

  /** `bytes[start..end)`, made once per distinct text. */
  intern(start: number, end: number): string {
    return this.#symbols.get(this.bytes, start, end);
  }

  /** The rest of the payload. */
  rest(): string {
    return textOf(this.bytes, this.pos, this.end);
  }
}

function isBreak(byte: number): boolean {
  return byte === Char.space || byte === Char.comma || byte === Char.openParen;
}

function isSymbolEnd(byte: number): boolean {
  return byte === Char.space || byte === Char.comma || byte === Char.plus;
}
