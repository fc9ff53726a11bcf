/** Recordings that ship with the project, and hand-written excerpts, opened for tests. */
import { readFileSync } from 'node:fs';
import { bytesSource, type OpenedTrace, openTrace } from '@shootdown/trace';

/** Opens the recording `name`. */
export function example(name: string): Promise<OpenedTrace> {
  return openTrace(
    bytesSource(name, readFileSync(new URL(`../../../examples/traces/${name}`, import.meta.url))),
  );
}

/**
 * Opens ftrace text written by hand, one event a line: `comm-pid cpu microseconds event`.
 *
 * The microseconds count from second 5, so that absolute times differ from relative ones.
 */
export function excerpt(lines: readonly string[], cpus = 4): Promise<OpenedTrace> {
  const text = lines.map((line) => {
    const match = /^(\S+)-(\d+) (\d+) (\d+) (.*)$/.exec(line);
    if (match === null) throw new Error(`not a line of an excerpt: ${line}`);
    const [, comm = '', pid = '', cpu = '', us = '', event = ''] = match;
    return `${comm.padStart(16)}-${pid.padEnd(7)} [${cpu.padStart(3, '0')}] .....     5.${us.padStart(6, '0')}: ${event}`;
  });
  const header = `# tracer: nop\n# entries-in-buffer/entries-written: ${lines.length}/${lines.length}   #P:${cpus}\n`;
  return openTrace(
    bytesSource('excerpt', new TextEncoder().encode(`${header}${text.join('\n')}\n`)),
  );
}
