/**
 * The answer in one or two sentences: how often, how much of it was TLB work, and who sent most of
 * that. "At least" wherever the trace may have holes.
 */
import { cpusOf, plural, seconds, thousands } from '../words.ts';
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
    const { cpus } = view.cut;
    if (view.isolated === '' && cpus !== null) {
      return capital(`${flushes} ${one(calls)} received by or from ${cpusOf(cpus)}${during(view)}`);
    }
    const cut = cpus === null ? '' : ` (from or to ${cpusOf(cpus)} only)`;
    return `${subject(view)} received ${flushes} from other CPUs${during(view)}${cut}`;
  }
  const before = interrupted(view);
  const sent = view.evidence.level === 'A' ? 'queued' : 'seen to be sent';
  const them = single(view) ? 'it' : 'them';
  const were = tlbCalls === 1 ? 'was' : 'were';
  if (before === null) {
    const { cpus } = view.cut;
    const cut = cpus === null ? '' : ` (calls from or to ${cpusOf(cpus)} only)`;
    const all = `${least(view)}${plural(calls, 'call')}`;
    if (view.isolated === '' && cpus !== null) {
      const where = `from or to ${cpusOf(cpus)}${during(view)}`;
      const tlb = `${thousands(tlbCalls)} of them TLB work`;
      return capital(`${all} ${one(calls)} ${sent} ${where}, ${tlb}`);
    }
    return `${subject(view)} ${verb(view)} sent ${all}${during(view)}, ${thousands(tlbCalls)} of them TLB work${cut}`;
  }
  if (calls === 0) return `${before}; no call was ${sent} to ${them}`;
  if (tlbCalls === 0 && !view.complete) {
    const all = `of the ${plural(calls, 'call')} ${sent} to ${them}`;
    return `${before}; ${all} none is known to be TLB work`;
  }
  const share =
    tlbCalls === calls && calls > 1 && view.complete
      ? `all ${thousands(calls)} calls`
      : `${thousands(tlbCalls)} of the ${plural(calls, 'call')}`;
  return `${before}: ${least(view)}${share} ${sent} to ${them} ${were} TLB work`;
}

/** `was` of one, `were` of others. */
const one = (count: number): string => (count === 1 ? 'was' : 'were');

const capital = (text: string): string => text.slice(0, 1).toUpperCase() + text.slice(1);

const flush = (count: number): string => plural(count, 'TLB flush', 'TLB flushes');
const single = (view: Facts): boolean => view.accounts.length === 1;
const verb = (view: Facts): string => (single(view) ? 'was' : 'were');
const least = (view: Facts): string => (view.complete ? '' : 'at least ');

const during = (view: Facts): string =>
  view.window === null ? '' : ` in ${seconds(view.window.length, view.unit)}`;

function subject(view: Facts): string {
  if (view.isolated === '') return `The ${plural(view.accounts.length, 'CPU')} of this machine`;
  return cpusOf(view.isolated);
}

/** Null when call-function interrupts were not recorded, or a cut makes their number another's. */
function interrupted(view: Facts): string | null {
  let times = 0;
  for (const { callInterrupts } of view.accounts) {
    if (callInterrupts === null) return null;
    times += callInterrupts;
  }
  // Handlers that are missing ran in interrupts that are missing.
  // Each call came with an interrupt of its own or shared one: more calls than interrupts at B,
  // which counts interrupts as they are sent, means that some entries were not recorded.
  const missing = view.evidence.level === 'B' && (view.received?.calls ?? 0) > times;
  const holes = missing || (view.tlbRow.basis === 'at-least' && view.evidence.level === 'A');
  const count = `${holes ? 'at least ' : ''}${plural(times, 'time')}`;
  return `${subject(view)} ${verb(view)} interrupted ${count} by function calls${during(view)}`;
}

function handlers(view: Facts): string {
  if (view.cut.cpus !== null) {
    const why = 'an interrupt does not say whose call it runs';
    return `This trace has interrupts only, and ${why}: nothing of it is left by a cut by CPU`;
  }
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
  const top = largest?.[0];
  if (largest === undefined || top === undefined) return null;
  const all = received.byKind[top.kind] ?? 0;
  const { label, plural: many } = view.kinds[top.kind];
  const calls = largest.filter((cause) => cause.inKind !== 'kthread').map((cause) => cause.in);
  const where = [...new Set(calls)];
  const more = where.length > 3 ? ', …' : '';
  const places = where.length === 0 ? '' : ` (${where.slice(0, 3).join(', ')}${more})`;
  let count = `${thousands(total(largest))} of the ${thousands(all)} ${many}`;
  if (total(largest) === all) count = all === 1 ? `The ${label}` : `All ${thousands(all)} ${many}`;
  return `${count} came from ${top.task}${places}${reach(top, view)}.`;
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
