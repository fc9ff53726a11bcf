/**
 * One decoder per event type, made from the type's format when its first record comes by. An event
 * with a shape (events/kinds.ts) gets it if its format has the fields that the shape needs;
 * otherwise it is `other`, like every event that nobody asks about.
 */
import { type CpuId, virtAddr } from '@shootdown/machine';
import { kindOf } from '../events/kinds.ts';
import type { ArmIpi, CsdFunction, IpiSend, PageFault, RecordedEvent } from '../events/shapes.ts';
import type { EventFormat, Field } from './eventFormat.ts';
import { DatPayload } from './payload.ts';
import type { SymbolTable } from './symbolTable.ts';
import {
  type Abi,
  type Block,
  checkCpu,
  checkReason,
  cpusOfMask,
  locate,
  type NumberReader,
  numberReader,
  type Span,
  StringPool,
} from './values.ts';

/**
 * Makes the event of the record that lies in `block` from `start` to `end`. May throw RecordFault.
 */
export type Decode = (block: Block, start: number, end: number) => RecordedEvent;

/** A decoder and what it may rely on. */
export interface EventDecoder {
  /** Records must be this long: the fields at fixed offsets are then inside. */
  readonly minLength: number;
  readonly decode: Decode;
}

/** What decoders need beside the format. */
export interface DecodeContext {
  readonly abi: Abi;
  readonly symbols: SymbolTable;
  /** Strings that the kernel names by address (`tracepoint_string`), from printk_formats. */
  readonly strings: ReadonlyMap<number, string>;
  readonly pool: StringPool;
}

/** Makes the decoder for `format`. */
export function compileDecoder(format: EventFormat, context: DecodeContext): EventDecoder {
  const compiler = new Compiler(format, context);
  const decode = compiler.typed() ?? compiler.other();
  return { minLength: compiler.minLength, decode };
}

type TextReader = (block: Block, start: number, end: number) => string;
type CpusReader = (block: Block, start: number, end: number) => readonly CpuId[];

class Compiler {
  minLength = 0;
  readonly #format: EventFormat;
  readonly #context: DecodeContext;
  readonly #fields: ReadonlyMap<string, Field>;

  constructor(format: EventFormat, context: DecodeContext) {
    this.#format = format;
    this.#context = context;
    this.#fields = new Map(format.fields.map((field) => [field.name, field]));
  }

  other(): Decode {
    const format = this.#format;
    const { name } = format;
    const { abi } = this.#context;
    this.minLength = 0;
    return (block, start, end) => ({
      kind: 'other',
      name,
      payload: new DatPayload(format, abi, block, start, end),
    });
  }

  typed(): Decode | null {
    const { name } = this.#format;
    const kind = kindOf(name);
    switch (kind) {
      case 'tlb_flush':
        return this.#tlbFlush();
      case 'csd_queue_cpu':
        return this.#csdQueueCpu();
      case 'csd_function_entry':
      case 'csd_function_exit':
        return this.#csdFunction(kind);
      case 'ipi_send':
        return this.#ipiSend(name as IpiSend['name']);
      case 'ipi_raise':
      case 'ipi_entry':
      case 'ipi_exit':
        return this.#armIpi(kind);
      case 'vector_entry':
      case 'vector_exit':
        return this.#vector(kind);
      case 'sched_switch':
        return this.#schedSwitch();
      case 'sys_enter':
        return this.#sysEnter();
      case 'sys_exit':
        return this.#sysExit();
      case 'page_fault':
        return this.#pageFault(name as PageFault['name']);
      case 'other':
      default:
        return null;
    }
  }

  #tlbFlush(): Decode | null {
    // `unsigned long pages` holds TLB_FLUSH_ALL, -1.
    const pages = this.#number('pages', true);
    const reason = this.#number('reason');
    if (pages === null || reason === null) return null;
    return ({ view }, start) => ({
      kind: 'tlb_flush',
      name: 'tlb_flush',
      pages: pages(view, start),
      reason: checkReason(reason(view, start)),
    });
  }

  #csdQueueCpu(): Decode | null {
    const cpu = this.#number('cpu');
    const callsite = this.#symbol('callsite');
    const func = this.#symbol('func');
    const csd = this.#number('csd');
    if (cpu === null || callsite === null || func === null || csd === null) return null;
    return (block, start, end) => ({
      kind: 'csd_queue_cpu',
      name: 'csd_queue_cpu',
      target: checkCpu(cpu(block.view, start)),
      callsite: callsite(block, start, end),
      func: func(block, start, end),
      csd: virtAddr(csd(block.view, start)),
    });
  }

  #csdFunction(kind: CsdFunction['kind']): Decode | null {
    const func = this.#symbol('func');
    const csd = this.#number('csd');
    if (func === null || csd === null) return null;
    return (block, start, end) => ({
      kind,
      name: kind,
      func: func(block, start, end),
      csd: virtAddr(csd(block.view, start)),
    });
  }

  #ipiSend(name: IpiSend['name']): Decode | null {
    const targets = name === 'ipi_send_cpu' ? this.#oneCpu('cpu') : this.#cpuMask('cpumask');
    const callsite = this.#symbol('callsite');
    const callback = this.#symbol('callback');
    if (targets === null || callsite === null || callback === null) return null;
    return (block, start, end) => ({
      kind: 'ipi_send',
      name,
      targets: targets(block, start, end),
      callsite: callsite(block, start, end),
      callback: callback(block, start, end),
    });
  }

  #armIpi(kind: ArmIpi['kind']): Decode | null {
    const none: readonly CpuId[] = [];
    const targets: CpusReader | null =
      kind === 'ipi_raise' ? this.#cpuMask('target_cpus') : () => none;
    const reason = this.#string('reason');
    if (targets === null || reason === null) return null;
    return (block, start, end) => ({
      kind,
      name: kind,
      targets: targets(block, start, end),
      reason: reason(block, start, end),
    });
  }

  #vector(kind: 'vector_entry' | 'vector_exit'): Decode | null {
    const { name } = this.#format;
    const irq = name.slice(0, name.lastIndexOf('_'));
    const vector = this.#number('vector');
    if (vector === null) return null;
    // Each of these events says one of two or three things: one object per thing.
    const made = new Map<number, RecordedEvent>();
    return ({ view }, start) => {
      const value = vector(view, start);
      let event = made.get(value);
      if (event === undefined) {
        event = { kind, name, irq, vector: value };
        if (made.size < 256) made.set(value, event);
      }
      return event;
    };
  }

  #schedSwitch(): Decode | null {
    const prevPid = this.#number('prev_pid');
    const nextPid = this.#number('next_pid');
    const prevComm = this.#string('prev_comm');
    const nextComm = this.#string('next_comm');
    if (prevPid === null || nextPid === null || prevComm === null || nextComm === null) return null;
    return (block, start, end) => ({
      kind: 'sched_switch',
      name: 'sched_switch',
      prevPid: prevPid(block.view, start),
      prevComm: prevComm(block, start, end),
      nextPid: nextPid(block.view, start),
      nextComm: nextComm(block, start, end),
    });
  }

  #sysEnter(): Decode | null {
    const { name, fields } = this.#format;
    const syscall = name.slice('sys_enter_'.length);
    const first = fields[0]?.name;
    if (first !== '__syscall_nr' && first !== 'nr') return null;
    const args: string[] = [];
    const readers: NumberReader[] = [];
    // Strings that newer kernels copy from user space follow the arguments; they are not arguments.
    for (const field of fields.slice(1)) {
      const reader = field.location === 'field' ? this.#number(field.name) : null;
      if (reader === null) continue;
      args.push(field.name);
      readers.push(reader);
    }
    return ({ view }, start) => {
      const values: number[] = [];
      for (const reader of readers) values.push(reader(view, start));
      return { kind: 'sys_enter', name, syscall, args, values };
    };
  }

  #sysExit(): Decode | null {
    const { name } = this.#format;
    const syscall = name.slice('sys_exit_'.length);
    const ret = this.#number('ret', true);
    if (ret === null) return null;
    return ({ view }, start) => ({ kind: 'sys_exit', name, syscall, ret: ret(view, start) });
  }

  #pageFault(name: PageFault['name']): Decode | null {
    const address = this.#number('address');
    const errorCode = this.#number('error_code');
    if (address === null || errorCode === null) return null;
    return ({ view }, start) => ({
      kind: 'page_fault',
      name,
      address: virtAddr(address(view, start)),
      errorCode: errorCode(view, start),
    });
  }

  /** A field at a fixed offset; from here on the record must be long enough to hold it. */
  #field(name: string): Field | null {
    const field = this.#fields.get(name);
    if (field === undefined) return null;
    this.minLength = Math.max(this.minLength, field.offset + field.size);
    return field;
  }

  #number(name: string, signed?: boolean): NumberReader | null {
    const field = this.#field(name);
    return field === null ? null : numberReader(field, this.#context.abi, signed ?? field.signed);
  }

  /**
   * A code address, as the name of its function; as hex digits when the recording has no name for
   * it.
   */
  #symbol(name: string): TextReader | null {
    const value = this.#number(name);
    if (value === null) return null;
    const { symbols } = this.#context;
    const hex = this.#hex(name);
    return (block, start) => symbols.symbolAt(value(block.view, start)) ?? hex(block, start);
  }

  #hex(name: string): (block: Block, start: number) => string {
    const { offset = 0, size = 0 } = this.#fields.get(name) ?? {};
    const le = this.#context.abi.littleEndian;
    return ({ view }, start) => {
      const value =
        size === 8 ? view.getBigUint64(start + offset, le) : view.getUint32(start + offset, le);
      return `0x${value.toString(16)}`;
    };
  }

  #oneCpu(name: string): CpusReader | null {
    const cpu = this.#number(name);
    if (cpu === null) return null;
    const made: (readonly CpuId[])[] = [];
    return ({ view }, start) => {
      const value = checkCpu(cpu(view, start));
      return (made[value] ??= [value]);
    };
  }

  #cpuMask(name: string): CpusReader | null {
    const field = this.#field(name);
    if (field === null || !field.array) return null;
    const { abi } = this.#context;
    const span: Span = { start: 0, end: 0 };
    return (block, start, end) => {
      locate(field, abi, block.view, start, end, span);
      return cpusOfMask(block.bytes, span.start, span.end, abi);
    };
  }

  /**
   * An array of characters, in the record or by __data_loc; or the address of a string that
   * printk_formats lists.
   */
  #string(name: string): TextReader | null {
    const field = this.#field(name);
    if (field === null) return null;
    const { abi, pool, strings } = this.#context;
    if (field.array) {
      const span: Span = { start: 0, end: 0 };
      return (block, start, end) => {
        locate(field, abi, block.view, start, end, span);
        return pool.get(block.bytes, span.start, span.end);
      };
    }
    const address = numberReader(field, abi);
    if (address === null || (field.size !== 4 && field.size !== 8)) return null;
    const hex = this.#hex(name);
    return (block, start) => strings.get(address(block.view, start)) ?? hex(block, start);
  }
}
