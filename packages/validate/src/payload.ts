/** Fields of a probe's payload, `(switch_mm_irqs_off+0x4/0x500) prev=0x0 next=0xff11.. next_gen=5`. */

/** The field's text; null if the payload has no such field. */
export function field(payload: string, name: string): string | null {
  const key = `${name}=`;
  let at = payload.indexOf(key);
  // `gen=` is also the end of `next_gen=`.
  while (at > 0 && payload.charCodeAt(at - 1) !== SPACE) at = payload.indexOf(key, at + 1);
  if (at === -1) return null;
  const from = at + key.length;
  const to = payload.indexOf(' ', from);
  return to === -1 ? payload.slice(from) : payload.slice(from, to);
}

const SPACE = 32;

/** ULONG_MAX and its neighbours, which a double cannot tell apart: the end of a flush of everything. */
const ALL = 2 ** 64;

/** A number; an address of the last page of all is Infinity. */
export function number(payload: string, name: string): number | null {
  const text = field(payload, name);
  if (text === null) return null;
  const value = Number(text);
  if (Number.isNaN(value)) return null;
  return value >= ALL ? Infinity : value;
}

/** A cpumask of up to 64 CPUs. */
export function mask(payload: string, name: string): bigint | null {
  const text = field(payload, name);
  return text === null || !/^(?:0x[\da-f]+|\d+)$/i.test(text) ? null : BigInt(text);
}
