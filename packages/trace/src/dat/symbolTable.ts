/**
 * Names of kernel addresses, from the /proc/kallsyms that trace-cmd copies into its file: 7 MB and
 * 150,000 symbols of which a trace asks for some dozens. So nothing is decoded until the first
 * question, and then only addresses are; names stay bytes until they are an answer.
 */

/** As many answers are remembered; a trace has a few hundred distinct code addresses. */
const REMEMBERED = 65_536;

const decoder = new TextDecoder();

/** The symbols of one recording. */
export class SymbolTable {
  readonly #text: Uint8Array;
  #addresses: Float64Array | null = null;
  /** Where each symbol's name begins in the text. */
  #names: Uint32Array = new Uint32Array(0);
  readonly #answers = new Map<number, string | null>();

  constructor(kallsyms: Uint8Array) {
    this.#text = kallsyms;
  }

  /**
   * The symbol whose code `address` lies in, without offset and module; null when no symbol is
   * below it, none above, or all addresses are hidden.
   *
   * @param address - as in the records: signed when 64 bits wide.
   */
  symbolAt(address: number): string | null {
    const known = this.#answers.get(address);
    if (known !== undefined) return known;
    if (this.#answers.size >= REMEMBERED) this.#answers.clear();
    const answer = this.#find(address);
    this.#answers.set(address, answer);
    return answer;
  }

  #find(address: number): string | null {
    const addresses = (this.#addresses ??= this.#load());
    let low = 0;
    let high = addresses.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((addresses[middle] as number) <= address) low = middle + 1;
      else high = middle;
    }
    // The last symbol has no end, and a symbol at 0 is one whose address the kernel would not tell.
    if (low === 0 || low === addresses.length) return null;
    const found = addresses[low - 1] as number;
    if (found === 0) return null;
    // Aliases share an address; the kernel, too, takes the first of them.
    let first = low - 1;
    while (first > 0 && addresses[first - 1] === found) first--;
    return this.#nameAt(this.#names[first] as number);
  }

  #nameAt(start: number): string {
    let end = start;
    while (end < this.#text.length && (this.#text[end] as number) > 0x20) end++;
    return decoder.decode(this.#text.subarray(start, end));
  }

  #load(): Float64Array {
    const text = this.#text;
    let lines = 1;
    for (let i = 0; i < text.length; i++) if (text[i] === 0x0a) lines++;
    const addresses = new Float64Array(lines);
    const names = new Uint32Array(lines);
    let count = 0;
    let sorted = 0;
    for (let at = 0; at < text.length;) {
      let digits = 0;
      let high = 0;
      let low = 0;
      for (
        let digit = hexDigit(text[at]);
        digit >= 0 && digits < 16;
        digit = hexDigit(text[++at])
      ) {
        high = (high << 4) | (low >>> 28);
        low = (low << 4) | digit;
        digits++;
      }
      const isLine = digits > 0 && text[at] === 0x20 && text[at + 2] === 0x20;
      // Absolute symbols are offsets into per-CPU areas: numbers, not addresses.
      const isAbsolute = text[at + 1] === 0x41 || text[at + 1] === 0x61;
      if (isLine && !isAbsolute) {
        const address = high * 0x1_0000_0000 + (low >>> 0);
        addresses[count] = address;
        names[count++] = at + 3;
        const inOrder = count === 1 || (addresses[count - 2] as number) <= address;
        if (inOrder && sorted === count - 1) sorted = count;
      }
      const end = text.indexOf(0x0a, at);
      at = end === -1 ? text.length : end + 1;
    }
    this.#names = names.subarray(0, count);
    return this.#sort(addresses.subarray(0, count), sorted);
  }

  /**
   * The kernel's own symbols come first and in order; those of modules and BPF programs follow, not
   * in order and some below. So only what follows is sorted, and then merged: a tenth of the work.
   */
  #sort(addresses: Float64Array, sorted: number): Float64Array {
    const { length } = addresses;
    if (sorted === length) return addresses;
    const names = this.#names;
    const rest = Uint32Array.from({ length: length - sorted }, (_, i) => sorted + i);
    rest.sort((a, b) => (addresses[a] as number) - (addresses[b] as number) || a - b);
    const allAddresses = new Float64Array(length);
    const allNames = new Uint32Array(length);
    for (let i = 0, front = 0, back = 0; i < length; i++) {
      const late = rest[back];
      const useFront =
        late === undefined ||
        (front < sorted && (addresses[front] as number) <= (addresses[late] as number));
      const from = useFront ? front++ : late;
      if (!useFront) back++;
      allAddresses[i] = addresses[from] as number;
      allNames[i] = names[from] as number;
    }
    this.#names = allNames;
    return allAddresses;
  }
}

function hexDigit(byte: number | undefined): number {
  if (byte === undefined) return -1;
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
