/**
 * The kernel's description of an event, /sys/kernel/tracing/events/SYSTEM/EVENT/format: a name, an
 * id, and a line per field with its C declaration, offset, size and signedness. Records are decoded
 * by these and by nothing else: offsets differ between kernels and architectures.
 */

/** One field of an event. */
export interface Field {
  readonly name: string;
  /** The C type, without `__data_loc` and without brackets. */
  readonly type: string;
  readonly offset: number;
  readonly size: number;
  readonly signed: boolean;
  /**
   * Where the value is: in the field; or elsewhere in the record, at an offset from its start
   * (data) or from the field's end (rel).
   */
  readonly location: 'field' | 'data' | 'rel';
  /** Several elements, even if the number is only known per record. */
  readonly array: boolean;
}

/** One event's description. */
export interface EventFormat {
  readonly system: string;
  readonly name: string;
  readonly id: number;
  /** The fields that every event has: type, flags, preempt count, pid. */
  readonly common: readonly Field[];
  readonly fields: readonly Field[];
}

const FIELD =
  /^\s*field:\s*(?<decl>[^;]+);\s*offset:\s*(?<offset>\d+);\s*size:\s*(?<size>\d+);(?:\s*signed:\s*(?<signed>\d+);)?/;
const LOCATED = /^__(?<where>data|rel)_loc\s+/;
const DECLARATION = /^(?<type>.*?)\s*(?<name>[A-Za-z_]\w*)\s*(?<brackets>\[[^\]]*\])?$/;

/** The name and the id, without reading the fields; null when the text has no id. */
export function formatId(text: string): { readonly name: string; readonly id: number } | null {
  const head = text.slice(0, 512);
  const name = /^name:\s*(\S+)/m.exec(head)?.[1];
  const id = /^ID:\s*(\d{1,9})/m.exec(head)?.[1];
  return name === undefined || id === undefined ? null : { name, id: Number(id) };
}

const isCommon = (field: Field): boolean => field.name.startsWith('common_');

/** The description in full. */
export function parseFormat(system: string, name: string, id: number, text: string): EventFormat {
  const end = text.indexOf('\nprint fmt:');
  const all = parseFields(end === -1 ? text : text.slice(0, end));
  return {
    system,
    name,
    id,
    common: all.filter(isCommon),
    fields: all.filter((field) => !isCommon(field)),
  };
}

/**
 * The field lines of a format or of header_page. A line that is none, or puts its field absurdly
 * far, is passed over.
 */
export function parseFields(text: string): Field[] {
  const fields: Field[] = [];
  for (const line of text.split('\n')) {
    if (line.length > 4096) continue;
    const found = FIELD.exec(line)?.groups;
    if (found === undefined) continue;
    const field = declared(
      found['decl'] as string,
      Number(found['offset']),
      Number(found['size']),
      found['signed'] === '1',
    );
    if (field !== null && field.offset + field.size <= 1 << 20) fields.push(field);
  }
  return fields;
}

function declared(text: string, offset: number, size: number, signed: boolean): Field | null {
  const located = LOCATED.exec(text);
  // __data_loc puts the brackets of its array behind the type: `__data_loc char[] filename`.
  const declaration = text.slice(located?.[0].length ?? 0).trim();
  const parts = DECLARATION.exec(declaration)?.groups;
  if (parts === undefined) return null;
  const type = (parts['type'] as string).replace(/\s*\[[^\]]*\]/, '').trim();
  const location =
    located === null ? 'field' : located.groups?.['where'] === 'rel' ? 'rel' : 'data';
  const array = parts['brackets'] !== undefined || location !== 'field';
  return { name: parts['name'] as string, type, offset, size, signed, location, array };
}
