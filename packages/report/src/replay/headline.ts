/**
 * The answer in one or two sentences: how often, how much of it was TLB work, and who sent most of
 * that. "At least" wherever the trace may have holes.
 */
import { plural, seconds, thousands } from '../words.ts';
import type { CauseView, ReceivedView, ReplayView } from './view.ts';

type Facts = Omit<ReplayView, 'headline'>;

/** The first lines of the report. */
export function headline(view: Facts): readonly string[] {
  const { level } = view.evidence;
  const { received } = view;
  if (level === null) return [`This trace cannot say who interrupts whom: ${view.evidence.why}.`];
  if (level === 'D' || received === null) {
    return [`${interrupted(view) ?? handlers(view)}. By whom, this trace cannot say.`];
  }
  const source = mostFrom(view, received);
  return [`${first(view, received)}.`, ...(source === null ? [] : [source])];
}

function first(view: Facts, received: ReceivedView): string {
  const { calls, tlbCalls } = received;
  if (view.evidence.level === 'C') {
    const flushes = calls === 0 ? 'no TLB flush that is traced' : `${least(view)}${flush(calls)}`;
    return `${subject(view)} received ${flushes} from other CPUs${during(view)}`;
  }
  const before = interrupted(view);
  const sent = view.evidence.level === 'A' ? 'queued' : 'seen to be sent';
  const them = single(view) ? 'it' : 'them';
  const were = tlbCalls === 1 ? 'was' : 'were';
  if (before === null) {
    const { cpus } = view.cut;
    const cut = cpus === null ? '' : ` (calls from or to CPUs ${cpus} only)`;
    const all = `${least(view)}${plural(calls, 'call')}`;
    if (view.isolated === '' && cpus !== null) {
      const are = calls === 1 ? 'was' : 'were';
      return `${all} ${are} ${sent} from or to CPUs ${cpus}${during(view)}, ${thousands(tlbCalls)} of them TLB work`;
    }
    return `${subject(view)} ${verb(view)} sent ${all}${during(view)}, ${thousands(tlbCalls)} of them TLB work${cut}`;
  }
  if (calls === 0) return `${before}; no call was ${sent} to ${them}`;
  const share =
    tlbCalls === calls && calls > 1
      ? `all ${thousands(calls)} calls`
      : `${thousands(tlbCalls)} of the ${plural(calls, 'call')}`;
  return `${before}: ${least(view)}${share} ${sent} to ${them} ${were} TLB work`;
}

const flush = (count: number): string => plural(count, 'TLB flush', 'TLB flushes');
const single = (view: Facts): boolean => view.accounts.length === 1;
const verb = (view: Facts): string => (single(view) ? 'was' : 'were');
const least = (view: Facts): string => (view.complete ? '' : 'at least ');

const during = (view: Facts): string =>
  view.window === null ? '' : ` in ${seconds(view.window.length, view.unit)}`;

function subject(view: Facts): string {
  if (view.isolated === '') return `The ${plural(view.accounts.length, 'CPU')} of this machine`;
  return single(view) ? `CPU ${view.isolated}` : `CPUs ${view.isolated}`;
}

/** Null when call-function interrupts were not recorded, or a cut makes their number another's. */
function interrupted(view: Facts): string | null {
  let times = 0;
  for (const { callInterrupts } of view.accounts) {
    if (callInterrupts === null) return null;
    times += callInterrupts;
  }
  // Handlers that are missing ran in interrupts that are missing.
  const holes = view.tlbRow.basis === 'at-least' && view.evidence.level === 'A';
  const count = `${holes ? 'at least ' : ''}${plural(times, 'time')}`;
  return `${subject(view)} ${verb(view)} interrupted ${count} by function calls${during(view)}`;
}

function handlers(view: Facts): string {
  if (view.tlbRow.total === null) return `${subject(view)} got an unknown number of calls`;
  const ran = plural(view.tlbRow.total, 'TLB flush handler');
  return `${subject(view)} ran ${ran} for other CPUs${during(view)}`;
}

/** `52 of the 62 user TLB flushes came from hft-log (munmap, exit_group); such calls go to ...` */
function mostFrom(view: Facts, received: ReceivedView): string | null {
  const groups = new Map<string, CauseView[]>();
  for (const cause of view.causes) {
    if (!cause.tlb || cause.task === '?') continue;
    const id = `${cause.task}\0${cause.kind}`;
    groups.set(id, [...(groups.get(id) ?? []), cause]);
  }
  const total = (causes: readonly CauseView[]): number =>
    causes.reduce((sum, cause) => sum + cause.calls, 0);
  const largest = [...groups.values()].toSorted((a, b) => total(b) - total(a))[0];
  const one = largest?.[0];
  if (largest === undefined || one === undefined) return null;
  const all = received.byKind[one.kind] ?? 0;
  const { label, plural: many } = view.kinds[one.kind];
  const calls = largest.filter((cause) => cause.inKind !== 'kthread').map((cause) => cause.in);
  const where = [...new Set(calls)];
  const more = where.length > 3 ? ', …' : '';
  const places = where.length === 0 ? '' : ` (${where.slice(0, 3).join(', ')}${more})`;
  let count = `${thousands(total(largest))} of the ${thousands(all)} ${many}`;
  if (total(largest) === all) count = all === 1 ? `The ${label}` : `All ${thousands(all)} ${many}`;
  return `${count} came from ${one.task}${places}${reach(one, view)}.`;
}

function reach(cause: CauseView, view: Facts): string {
  if (view.isolated === '' || cause.inKind === 'kthread') return '';
  switch (cause.reach) {
    case 'address-space':
      return '; such calls go where its address space is loaded, idle (lazy) CPUs too';
    case 'all-cpus':
      return '; such calls go to every CPU, whatever runs there';
    case 'one-cpu':
      return '';
  }
}
