/**
 * The checking mode: whatever a transition really reads and writes is compared with the footprint it
 * declared. A cell outside of it is our bug, or that of whoever brought the Op: an explorer would
 * prune schedules that differ.
 */
import { ModelBugError } from './errors.ts';
import { describeId, type Footprint } from './footprint.ts';

/** Watches one transition at a time. */
export class Audit {
  private declared: Footprint | null = null;
  private what = '';
  private readonly names = new Map<number, string>();
  private readonly cpus: number;

  constructor(cpus: number) {
    this.cpus = cpus;
  }

  /** Messages call the cell, or bit, `id` by its name. */
  name(id: number, name: string): void {
    this.names.set(id, name);
  }

  /** From here on only what `declared` names may be touched. */
  begin(declared: Footprint, what: string): void {
    this.declared = declared;
    this.what = what;
  }

  end(): void {
    this.declared = null;
  }

  read(id: number): void {
    const { declared } = this;
    if (declared === null || declared.reads.includes(id) || declared.writes.includes(id)) return;
    this.fail('read', id);
  }

  write(id: number): void {
    const { declared } = this;
    if (declared === null || declared.writes.includes(id)) return;
    this.fail('wrote', id);
  }

  private fail(verb: string, id: number): never {
    const what = this.what;
    this.declared = null;
    const cell = this.names.get(id) ?? describeId(id, this.cpus);
    throw new ModelBugError(`${what} ${verb} ${cell}, which its footprint does not name`);
  }
}
