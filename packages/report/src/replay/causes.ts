/** The causes of calls as a table. */
import { BAR, type Block, left, right } from '../blocks.ts';
import { thousands } from '../words.ts';
import type { CauseView, ReplayView } from './view.ts';

/** Causes shown before the rest is summed up; `-f json` has all. */
const CAUSES = 14;

/** Who sent what, from where, most calls first. */
export function causeTable(view: ReplayView): Block {
  const shown = view.causes.slice(0, CAUSES);
  const most = Math.max(1, ...shown.map((cause) => cause.calls));
  const rows = shown.map((cause) => [
    taskName(cause),
    cause.inKind === 'untraced' && cause.task !== '?' ? '(not traced)' : cause.in,
    cause.function,
    cause.kind,
    thousands(cause.requests),
    thousands(cause.calls),
    '█'.repeat(Math.max(1, Math.round((cause.calls * BAR) / most))),
  ]);
  const rest = view.causes.slice(CAUSES);
  if (rest.length > 0) {
    const calls = rest.reduce((sum, cause) => sum + cause.calls, 0);
    rows.push([`${rest.length} more`, '', '', '', '', thousands(calls), '']);
  }
  const columns = [
    left('task'),
    left('in'),
    left(view.evidence.level === 'A' ? 'function' : 'seen as'),
    left('kind'),
    right('requests'),
    right('calls'),
    { title: '', align: 'bar' as const },
  ];
  return { kind: 'table', columns, rows };
}

/** `rmmod x2` when two tasks of that name sent; `trace-cmd (recorder)` for one that records. */
function taskName({ task, tasks, recorder }: CauseView): string {
  return `${task}${tasks > 1 ? ` x${tasks}` : ''}${recorder ? ' (recorder)' : ''}`;
}
