/**
 * All event types of one file: their formats by type id, a decoder for each that occurs, and where
 * the fields common to all events lie.
 */
import type { RecordedEvent } from '../events/shapes.ts';
import type { DatFile } from './datFile.ts';
import { compileDecoder, type DecodeContext, type EventDecoder } from './decoders.ts';
import { type EventFormat, type Field, formatId, parseFormat } from './eventFormat.ts';
import { DatPayload } from './payload.ts';
import type { DatContainer, FormatText } from './parts.ts';
import { SymbolTable } from './symbolTable.ts';
import { type Abi, StringPool } from './values.ts';

/** Offsets of what every record begins with. */
export interface CommonFields {
  readonly type: number;
  readonly flags: number;
  readonly preemptCount: number;
  readonly pid: number;
  /** The shortest record that holds them all. */
  readonly length: number;
}

/** Type ids are 16 bits wide in a record. */
const TYPES = 0x1_0000;

/** The event types of one file. */
export class EventTable {
  readonly common: CommonFields;
  readonly #texts = new Map<number, FormatText & { readonly name: string }>();
  readonly #decoders: (EventDecoder | undefined)[] = [];
  readonly #context: DecodeContext;
  readonly #unknown = new Map<number, { readonly id: number; count: number }>();

  constructor(container: DatContainer, abi: Abi) {
    for (const { system, text } of container.formats) {
      const found = formatId(text);
      if (found !== null && found.id < TYPES && !this.#texts.has(found.id))
        this.#texts.set(found.id, { system, text, name: found.name });
    }
    this.#context = {
      abi,
      symbols: new SymbolTable(container.kallsyms),
      strings: printkStrings(container.printk, abi),
      pool: new StringPool(),
    };
    this.common = commonFields(
      container.file,
      this.#texts.keys().map((id) => this.#format(id)),
    );
  }

  /**
   * The decoder of type `id`. A type without a format gets one too: such records are counted, and
   * said so in the notes.
   */
  decoder(id: number): EventDecoder {
    return (this.#decoders[id] ??= this.#make(id));
  }

  /** What there is to say about types without a format. */
  notes(): string[] {
    return [...this.#unknown.values()].map(
      ({ id, count }) => `${count} records of event type ${id}, which the file does not describe`,
    );
  }

  #make(id: number): EventDecoder {
    const format = this.#format(id);
    if (format !== null) return compileDecoder(format, this.#context);
    const { abi } = this.#context;
    const name = `unknown event ${id}`;
    const nothing: EventFormat = { system: '', name, id, common: [], fields: [] };
    const seen = { id, count: 0 };
    if (this.#unknown.size < 20) this.#unknown.set(id, seen);
    return {
      minLength: 0,
      decode: (block, start, end): RecordedEvent => {
        seen.count++;
        return { kind: 'other', name, payload: new DatPayload(nothing, abi, block, start, end) };
      },
    };
  }

  #format(id: number): EventFormat | null {
    const found = this.#texts.get(id);
    return found === undefined ? null : parseFormat(found.system, found.name, id, found.text);
  }
}

/** The common fields of the first format that has them; the kernel gives all events the same. */
function commonFields(file: DatFile, formats: Iterable<EventFormat | null>): CommonFields {
  for (const format of formats) {
    const byName = new Map(format?.common.map((field) => [field.name, field]));
    const type = ofSize(byName.get('common_type'), 2);
    const flags = ofSize(byName.get('common_flags'), 1);
    const preemptCount = ofSize(byName.get('common_preempt_count'), 1);
    const pid = ofSize(byName.get('common_pid'), 4);
    if (type === null || flags === null || preemptCount === null || pid === null) continue;
    return {
      type,
      flags,
      preemptCount,
      pid,
      length: Math.max(type + 2, flags + 1, preemptCount + 1, pid + 4),
    };
  }
  throw file.error(
    'ERR_TRACE_CORRUPT',
    0,
    'an event format with common_type, common_flags, common_preempt_count and common_pid',
    'none',
  );
}

function ofSize(field: Field | undefined, size: number): number | null {
  return field?.size === size ? field.offset : null;
}

const PRINTK_LINE = /^0x([0-9a-f]{1,16}) : "(.*)"$/;

/** printk_formats: `0xffffffff82a1b0c0 : "Rescheduling interrupts"`. */
function printkStrings(text: Uint8Array, abi: Abi): Map<number, string> {
  const strings = new Map<number, string>();
  for (const line of new TextDecoder().decode(text).split('\n')) {
    const found = line.length < 4096 ? PRINTK_LINE.exec(line) : null;
    if (found === null) continue;
    const address = BigInt(`0x${found[1] as string}`);
    strings.set(
      Number(abi.longSize === 8 ? BigInt.asIntN(64, address) : address),
      found[2] as string,
    );
  }
  return strings;
}
