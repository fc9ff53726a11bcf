/**
 * The answer in one or two sentences: how often, how much of it was TLB work, and who sent most of
 * that.
 */
import { plural, seconds, thousands } from '../words.ts';
import type { CauseView, ReplayView } from './view.ts';

type Facts = Omit<ReplayView, 'headline'>;

/** The first lines of the report. */
export function headline(view: Facts): readonly string[] {
  const { level } = view.evidence;
  const during = view.window === null ? '' : ` in ${seconds(view.window.length, view.unit)}`;
  if (level === null) return [`This trace cannot say who interrupts whom: ${view.evidence.why}.`];
  if (level === 'D') return [`${counted(view, during)}. By whom, this trace cannot say.`];
  const first =
    level === 'C' ? `${received(view, during)}.` : `${interrupted(view, during)}: ${share(view)}.`;
  const source = mostFrom(view);
  return source === null ? [first] : [first, source];
}

const subject = (view: Facts): string => {
  if (view.isolated === '') return `The ${view.cpus} CPUs of this machine`;
  return view.accounts.length === 1 ? `CPU ${view.isolated}` : `CPUs ${view.isolated}`;
};

const were = (view: Facts): string => (view.accounts.length === 1 ? 'was' : 'were');

function interrupted(view: Facts, during: string): string {
  const counts = view.accounts.map((account) => account.callInterrupts);
  if (counts.includes(null))
    return `${subject(view)} ${were(view)} sent ${plural(view.received.calls, 'call')}${during}`;
  const times = counts.reduce<number>((sum, n) => sum + (n ?? 0), 0);
  return `${subject(view)} ${were(view)} interrupted ${thousands(times)} ${times === 1 ? 'time' : 'times'} by function calls${during}`;
}

/** Evidence D: interrupts if they were recorded, else handlers that ran. */
function counted(view: Facts, during: string): string {
  if (view.accounts.every((account) => account.callInterrupts !== null))
    return interrupted(view, during);
  return `${subject(view)} ran ${plural(view.tlbRow.total ?? 0, 'TLB flush handler')} for other CPUs${during}`;
}

function share(view: Facts): string {
  const { calls, tlbCalls } = view.received;
  const them = view.accounts.length === 1 ? 'it' : 'them';
  const sent = view.evidence.level === 'A' ? 'queued' : 'seen to be sent';
  if (calls === 0) return `no call was ${sent} to ${them}`;
  const known = view.evidence.level === 'A' ? '' : 'at least ';
  return `${known}${thousands(tlbCalls)} of the ${plural(calls, 'call')} ${sent} to ${them} ${tlbCalls === 1 ? 'was' : 'were'} TLB work`;
}

function received(view: Facts, during: string): string {
  const { calls } = view.received;
  const flushes =
    calls === 0
      ? 'no TLB flush that is traced'
      : `at least ${plural(calls, 'TLB flush', 'TLB flushes')}`;
  return `${subject(view)} received ${flushes} from other CPUs${during}`;
}

/**
 * `52 of the 62 user TLB flushes came from hft-log (munmap, exit_group), which shares its address
 * space with these CPUs.`
 */
function mostFrom(view: Facts): string | null {
  const groups = new Map<string, CauseView[]>();
  for (const cause of view.causes) {
    if (!cause.tlb || cause.task === '?') continue;
    const id = `${cause.task}\0${cause.kind}`;
    groups.set(id, [...(groups.get(id) ?? []), cause]);
  }
  const total = (causes: readonly CauseView[]): number =>
    causes.reduce((sum, cause) => sum + cause.calls, 0);
  const largest = [...groups.values()].toSorted((a, b) => total(b) - total(a))[0];
  const first = largest?.[0];
  if (largest === undefined || first === undefined) return null;
  const all = view.received.byKind[first.kind] ?? 0;
  const many = first.what.endsWith('flush') ? `${first.what}es` : `${first.what}s`;
  const where = [
    ...new Set(largest.filter((cause) => cause.inKind !== 'kthread').map((cause) => cause.in)),
  ];
  const places =
    where.length === 0 ? '' : ` (${where.slice(0, 3).join(', ')}${where.length > 3 ? ', …' : ''})`;
  const count =
    total(largest) === all
      ? `All ${thousands(all)}`
      : `${thousands(total(largest))} of the ${thousands(all)}`;
  return `${count} ${all === 1 ? first.what : many} came from ${first.task}${places}${reach(first, view)}.`;
}

function reach(cause: CauseView, view: Facts): string {
  if (view.isolated === '') return '';
  if (cause.reach === 'address-space')
    return ', which shares its address space with what runs there';
  if (cause.reach === 'all-cpus') return '; such calls go to every CPU, whatever runs there';
  return '';
}
