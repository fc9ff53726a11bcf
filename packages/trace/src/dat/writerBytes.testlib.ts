/** Bytes in the byte order and long size of a recorded machine, for test files. */

/** Byte order and the size of a long. */
export interface WriterAbi {
  readonly littleEndian: boolean;
  readonly longSize: 4 | 8;
}

/** Bytes, appended. */
export class Out {
  readonly #abi: WriterAbi;
  #bytes = new Uint8Array(4096);
  length = 0;

  constructor(abi: WriterAbi) {
    this.#abi = abi;
  }

  /** What was written; a copy. */
  get bytes(): Uint8Array {
    return this.#bytes.slice(0, this.length);
  }

  raw(bytes: ArrayLike<number>): this {
    const at = this.#room(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  u8(value: number): this {
    return this.raw([value & 255]);
  }

  u16(value: number): this {
    const at = this.#room(2);
    this.#view().setUint16(at, value, this.#abi.littleEndian);
    return this;
  }

  u32(value: number): this {
    const at = this.#room(4);
    this.#view().setUint32(at, value >>> 0, this.#abi.littleEndian);
    return this;
  }

  u64(value: bigint | number): this {
    const at = this.#room(8);
    this.#view().setBigUint64(at, BigInt.asUintN(64, BigInt(value)), this.#abi.littleEndian);
    return this;
  }

  long(value: bigint | number): this {
    return this.#abi.longSize === 8
      ? this.u64(value)
      : this.u32(Number(BigInt.asUintN(32, BigInt(value))));
  }

  text(text: string): this {
    return this.raw(new TextEncoder().encode(text));
  }

  /** A string and its NUL. */
  string(text: string): this {
    return this.text(text).u8(0);
  }

  /** Overwrites what is at `at`. */
  patch64(at: number, value: number): void {
    this.#view().setBigUint64(at, BigInt(value), this.#abi.littleEndian);
  }

  align(to: number): this {
    return this.raw(new Uint8Array((to - (this.length % to)) % to));
  }

  #room(length: number): number {
    const at = this.length;
    this.length += length;
    if (this.length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.length, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    return at;
  }

  #view(): DataView {
    return new DataView(this.#bytes.buffer);
  }
}
