#!/usr/bin/env node
/** The process: standard streams, exit code, and the one place that catches. */
import { readFileSync } from 'node:fs';
import { styleText } from 'node:util';
import { ModelBugError, UsageError } from '@shootdown/machine';
import { harmless, PLAIN, type Style } from '@shootdown/report';
import { TraceFormatError } from '@shootdown/trace';
import { Exit } from './exitCodes.ts';
import { run } from './program.ts';

// A reader that has seen enough (`| head`) is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(Exit.ok);
  process.stderr.write(`shootdown: the answer cannot be written: ${error.message}\n`);
  process.exit(Exit.incomplete);
});

const manifest: unknown = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
);
const version =
  typeof manifest === 'object' && manifest !== null && 'version' in manifest
    ? String(manifest.version)
    : 'unknown';

const colour = process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === '';
const style: Style = colour
  ? {
      bold: (text) => styleText('bold', text),
      dim: (text) => styleText('dim', text),
      warn: (text) => styleText('yellow', text),
    }
  : PLAIN;

function fail(message: string, code: number): void {
  // File names and what was found in files are strangers' text.
  process.stderr.write(`shootdown: ${harmless(message)}\n`);
  process.exitCode = code;
}

try {
  process.exitCode = await run(process.argv.slice(2), {
    style,
    toolVersion: version,
    write: (text) => void process.stdout.write(text),
    warn: (text) => void process.stderr.write(`shootdown: ${harmless(text)}\n`),
    complain: (text) => void process.stderr.write(text.replace(/^error: /, 'shootdown: ')),
  });
} catch (error) {
  if (error instanceof UsageError) fail(`${error.message} (${error.code})`, Exit.usage);
  else if (error instanceof TraceFormatError) fail(`${error.message} (${error.code})`, Exit.input);
  else {
    const what =
      error instanceof ModelBugError
        ? error.message
        : error instanceof Error
          ? (error.stack ?? error.message)
          : String(error);
    fail(`a bug in shootdown, please report it: ${what}`, Exit.bug);
  }
}
