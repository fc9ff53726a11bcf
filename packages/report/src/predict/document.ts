/** The view of `validate --predict` as blocks: the score, what it rests on, and what differs why. */
import { type Block, left, right } from '../blocks.ts';
import { plural, thousands } from '../words.ts';
import type { PredictedKindView, PredictView } from './view.ts';

/** What a row counts. */
const KINDS: Readonly<Record<PredictedKindView['kind'], string>> = {
  flush: 'flush, with its page count',
  exact: 'the same, and who was asked',
  local: 'local (3)',
  send: 'asked of others (4)',
  batched: 'local, batched unmap (2)',
  received: 'received (1)',
  switch: 'at a switch: kept or flushed (0)',
  'wrong-cpu': 'wrong CPU (5)',
};

const MOST_ROWS = 20;

/** The view as a list of blocks. */
export function predictBlocks(view: PredictView): readonly Block[] {
  const blocks: Block[] = [
    { kind: 'lead', lines: headline(view) },
    { kind: 'lines', lines: factLines(view) },
    ...view.model.warnings.map((text): Block => ({
      kind: 'warning',
      text: `kernel WARN: ${text}`,
    })),
  ];
  const { counted, uncounted } = view.lost;
  if (counted + uncounted > 0)
    blocks.push({
      kind: 'warning',
      text: `${counted > 0 ? plural(counted, 'event') : 'Events'} lost: what they did is not predicted.`,
    });
  if (view.kinds.length === 0) return blocks;
  blocks.push({ kind: 'heading', text: 'Predicted and recorded' }, kindTable(view));
  if (view.differences.length > 0)
    blocks.push({ kind: 'heading', text: 'Differences by cause' }, ...differenceBlocks(view));
  return blocks;
}

/** `99.4 %`: cut, never rounded up to 100. */
export function percent(share: number | null): string {
  if (share === null) return '';
  return `${(Math.floor(share * 1000) / 10).toFixed(1)} %`;
}

function headline({ kinds }: PredictView): readonly string[] {
  const flush = kinds.find(({ kind }) => kind === 'flush');
  if (flush === undefined) return ['No TLB flush was recorded, and none was predicted.'];
  const { recorded, right: matched, predicted, undecidable, recall, precision } = flush;
  const lines = [
    `${thousands(matched)} of ${plural(recorded, 'flush', 'flushes')} predicted with the right page count` +
      (recall === null ? '.' : ` (${percent(recall)}).`),
  ];
  if (precision !== null)
    lines.push(`${percent(precision)} of the ${thousands(predicted)} predicted are right.`);
  if (undecidable > 0)
    lines.push(
      `${thousands(undecidable)} could not be: of processes that are older than the trace, or of the kernel.`,
    );
  return lines;
}

function factLines({ input, model, marks }: PredictView): readonly string[] {
  const { file, kind, kernel, cpus, events } = input;
  const facts = [
    kind,
    ...(kernel === null ? [] : [`Linux ${kernel}`]),
    ...(cpus === null ? [] : [plural(cpus, 'CPU')]),
    plural(events, 'event'),
  ];
  const features = model.features.length === 0 ? 'none of pcid, pti' : model.features.join(', ');
  return [
    `${file} · ${facts.join(' · ')}`,
    `Predicted by the model of kernel ${model.kernel}, ${model.backend}, CPU features: ${features}.`,
    'From system calls, page faults and context switches alone; the flushes of the trace are only ' +
      'compared with.',
    marks === null ? 'The whole trace counts.' : `Counted is from ${marks.from} to ${marks.to}.`,
  ];
}

function kindTable({ kinds }: PredictView): Block {
  const rows = kinds.map(({ kind, recorded, undecidable, predicted, right: matched, ...rest }) => [
    KINDS[kind],
    thousands(recorded),
    thousands(undecidable),
    thousands(predicted),
    thousands(matched),
    percent(rest.recall),
    percent(rest.precision),
  ]);
  const columns = [
    left('tlb_flush'),
    right('Recorded'),
    right('Undecidable'),
    right('Predicted'),
    right('Right'),
    right('Recall'),
    right('Precision'),
  ];
  return { kind: 'table', columns, rows };
}

function differenceBlocks({ differences }: PredictView): readonly Block[] {
  const rows = differences
    .slice(0, MOST_ROWS)
    .map(({ kind, cause, during, missed, extra }) => [
      KINDS[kind],
      during,
      cause,
      thousands(missed),
      thousands(extra),
    ]);
  const columns = [
    left('tlb_flush'),
    left('During'),
    left('Cause'),
    right('Missed'),
    right('Too many'),
  ];
  const more = differences.length - MOST_ROWS;
  return [
    { kind: 'table', columns, rows },
    ...(more > 0 ? [{ kind: 'lines', lines: [`${more} more: -f json`] } as const] : []),
  ];
}
