/**
 * Writes ftrace text: the tracing file `trace` of Linux 6.12 with tracer nop, irq-info and
 * record-tgid, so that a simulated run and a recorded one are read by the same tools.
 *
 *          wl-168     (    168) [000] d....     0.000001460: tlb_flush: pages:1 reason:remote ...
 */
import {
  CONTEXT_UNKNOWN,
  MAX_CPUS,
  type TraceRecord,
  UsageError,
  type UsageCode,
} from '@shootdown/machine';
import type { RecordedEvent, RecordedTask } from '../events/shapes.ts';
import { eventText } from '../events/textEncoders.ts';
import { CONTEXT_BITS, flagText } from './layout.ts';
import { MAX_LINE } from './lines.ts';
import { byteLength, Printable } from './printable.ts';

/** How to print. */
export interface TextWriterOptions {
  /** CPUs of the machine: printed in the header line `#P:N`, and no record names another one. */
  readonly cpus: number;
}

/** A record to write; a null `task` is the idle one. */
export type WritableRecord = TraceRecord<RecordedEvent, RecordedTask | null>;

/** So much text, in UTF-16 units, is gathered before it is handed on. */
const CHUNK = 1 << 16;
/** The column of the `-` before the pid: printf's %16s. */
const COMM_WIDTH = 16;
const G = 1_000_000_000;

/** Who runs where no task does. */
const IDLE: RecordedTask = { pid: 0, comm: '<idle>', tgid: null };

/** The legend of the kernel with the TGID column, with irq-info and without. */
const LEGEND: Readonly<Record<'flags' | 'plain', string>> = {
  flags: `\
#                                          _-----=> irqs-off/BH-disabled
#                                         / _----=> need-resched
#                                        | / _---=> hardirq/softirq
#                                        || / _--=> preempt-depth
#                                        ||| / _-=> migrate-disable
#                                        |||| /     delay
#           TASK-PID       TGID    CPU#  |||||  TIMESTAMP  FUNCTION
#              | |           |       |   |||||     |         |
`,
  plain: `\
#           TASK-PID       TGID    CPU#     TIMESTAMP  FUNCTION
#              | |           |       |         |         |
`,
};

/**
 * Writes records as ftrace prints them, a line each, in the order in which they come. `openTrace`
 * reads the file back to the same records, except for what the form cannot say:
 *
 * - Times count from the whole second of the first record, which is `header.origin`.
 * - A mask is a set: targets come back ascending, each once.
 * - As in the kernel, an NMI hides the softirq that it interrupted.
 *
 * Times are seconds with nine digits, where the kernel prints six. So nanoseconds survive, and who
 * reads seconds reads them; the bare integers of a counter clock would come back as ticks.
 *
 * The number of entries in the header is 0/0, for the header comes before the entries are counted.
 * `perf ftrace` prints the same above a live trace; who knows comments passes over it, and
 * `openTrace` takes it for neither a loss nor a promise.
 *
 * What the shapes do not hold (the priorities and states of a sched_switch, the ip of a fault,
 * offsets of symbols) is left out, not invented: a tool that insists on it will miss it.
 *
 * Whether lines have flags is decided by the first record: none, if its context is
 * `CONTEXT_UNKNOWN`, and then that of every other has to be too.
 */
export class TextWriter {
  readonly #write: (text: string) => void;
  readonly #cpus: number;
  readonly #print: Printable;
  #current: WritableRecord | null = null;
  #text = '';
  #records = 0;
  #time = 0;
  /** Null until the header is printed. */
  #flags: boolean | null = null;
  #ended = false;

  /**
   * @param write - gets the text in order, in chunks of whole lines and some 64 KiB.
   * @throws UsageError ERR_OPTION when no machine has so many CPUs.
   */
  constructor(write: (text: string) => void, options: TextWriterOptions) {
    const { cpus } = options;
    if (!Number.isInteger(cpus) || cpus < 1 || cpus > MAX_CPUS)
      throw new UsageError('ERR_OPTION', `cpus is an integer from 1 to ${MAX_CPUS}, not ${cpus}`);
    this.#write = write;
    this.#cpus = cpus;
    this.#print = new Printable(cpus, (what, code) => this.#refusal(what, code));
  }

  /**
   * Writes one record. One that is refused leaves no trace in the file, and others may follow.
   *
   * @throws UsageError ERR_OPTION when it is earlier than the one before, or has a field that would
   * not be read back; ERR_CPU_RANGE when it names a CPU that the machine does not have.
   */
  record(record: WritableRecord): void {
    this.#current = record;
    if (this.#ended) throw this.#refusal('the text has ended');
    const flags = record.context !== CONTEXT_UNKNOWN;
    if (flags !== (this.#flags ?? flags))
      throw this.#refusal(
        `its context is ${flags ? '' : 'not '}known, unlike that of the records before`,
      );
    const line = `${this.#front(record)}${eventText(record.event, this.#print)}`;
    if (line.length > MAX_LINE / 3 && byteLength(line) > MAX_LINE)
      throw this.#refusal(`a line has at most ${MAX_LINE} bytes`);
    if (this.#flags === null) this.#header(flags);
    this.#text += `${line}\n`;
    this.#records++;
    this.#time = record.time;
    if (this.#text.length >= CHUNK) this.#flush();
  }

  /** Writes what is left; a file of no records is a header. Ending twice is ending once. */
  end(): void {
    if (this.#flags === null) this.#header(true);
    this.#ended = true;
    this.#flush();
  }

  #header(flags: boolean): void {
    this.#flags = flags;
    this.#text = `\
# tracer: nop
#
# entries-in-buffer/entries-written: 0/0   #P:${this.#cpus}
#
${LEGEND[flags ? 'flags' : 'plain']}`;
  }

  /** Up to the event's name. */
  #front({ time, cpu, task, context }: WritableRecord): string {
    const print = this.#print;
    const { pid, comm, tgid } = task ?? IDLE;
    const padding = ' '.repeat(COMM_WIDTH - byteLength(print.comm('comm', comm)));
    const id = `${print.count('pid', pid)}`.padEnd(7);
    const group = tgid === null ? '-------' : `${print.count('tgid', tgid)}`.padStart(7);
    const where = `${print.cpu(cpu)}`.padStart(3, '0');
    const how = context === CONTEXT_UNKNOWN ? '' : this.#context(context);
    return `${padding}${comm}-${id} (${group}) [${where}] ${how}${this.#clock(time)}: `;
  }

  #context(context: number): string {
    if (!Number.isInteger(context) || (context & ~CONTEXT_BITS) !== 0)
      throw this.#refusal(`context is made of the bits of Context, not ${context}`);
    return flagText(context);
  }

  #clock(time: number): string {
    if (this.#print.count('time', time) < this.#time)
      throw this.#refusal(`time goes back from ${this.#time} to ${time} ns`);
    const low = time % G;
    return ` ${`${(time - low) / G}`.padStart(5)}.${`${low}`.padStart(9, '0')}`;
  }

  #flush(): void {
    const text = this.#text;
    this.#text = '';
    if (text !== '') this.#write(text);
  }

  #refusal(what: string, code: UsageCode = 'ERR_OPTION'): UsageError {
    const name = this.#current?.event.name ?? '';
    return new UsageError(code, `record ${this.#records + 1} (${name}): ${what}`);
  }
}
