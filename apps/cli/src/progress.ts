/** A bar on standard error for inputs that take over a second; nothing when nobody watches. */
import { Presets, SingleBar } from 'cli-progress';

/** Shows how far reading has come. */
export interface Progress {
  advance(bytes: number): void;
  stop(): void;
}

const PATIENCE_MS = 1000;

/** @param total - bytes of the input; null shows none, since a bar without an end says nothing. */
export function progress(total: number | null): Progress {
  const shown = total !== null && total > 0 && process.stderr.isTTY;
  let bar: SingleBar | null = null;
  let read = 0;
  const started = performance.now();
  return {
    advance(bytes) {
      read += bytes;
      if (!shown) return;
      if (bar === null && performance.now() - started > PATIENCE_MS) {
        bar = new SingleBar(
          {
            format: 'reading {bar} {percentage}% | {eta_formatted}',
            clearOnComplete: true,
            hideCursor: true,
          },
          Presets.shades_classic,
        );
        bar.start(total, Math.min(read, total));
      }
      // The front of a trace.dat is read twice.
      bar?.update(Math.min(read, total));
    },
    stop() {
      bar?.stop();
      bar = null;
    },
  };
}
