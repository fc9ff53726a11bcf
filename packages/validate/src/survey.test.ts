/** What is found out about a machine, and by what. */
import { expect, test } from 'vitest';
import { linesOf, SHIPPED, validateLines } from './recordings.testlib.ts';

const lines = linesOf(SHIPPED);

test('the release, by its rules; the CPUs, by the header; PCIDs, by CR3', async () => {
  const { kernel, cpus, pcid, depth, differenceCount } = await validateLines(lines);
  expect(kernel.value).toBe('6.12.117');
  expect(kernel.by).toContain('6.1.192');
  expect(cpus).toEqual({ value: 8, by: 'the header' });
  expect(pcid.value).toBe(true);
  expect(pcid.by).toContain('CR3 with a PCID');
  expect(depth).toBe('probes');
  expect(differenceCount).toBe(0);
});

test('the wrong release shows', async () => {
  const { differences, differenceCount } = await validateLines(lines, { kernel: '7.0' });
  expect(differenceCount).toBeGreaterThan(100);
  // From 6.14 on a CPU stays in the mask of what it has left.
  expect(differences.map(({ kind }) => kind)).toContain('cpumask');
});

test('without CR3: PCIDs by switches that keep what they find', async () => {
  const { pcid, differenceCount, scores } = await validateLines(
    lines.filter((line) => !/: cr3_[ab]:/.test(line)),
    { kernel: '6.12.117' },
  );
  expect(pcid.value).toBe(true);
  expect(pcid.by).toContain('switches that flushed nothing');
  expect(differenceCount).toBe(0);
  expect(scores.asid.equal).toBe(0);
});

test('a machine that flushes at every switch has no PCIDs', async () => {
  const flushing = lines
    .filter((line) => !/: cr3_[ab]:/.test(line))
    .map((line) =>
      line.replace('pages:0 reason:flush on task switch', 'pages:-1 reason:flush on task switch'),
    );
  const { pcid } = await validateLines(flushing, { kernel: '6.12.117' });
  expect(pcid.value).toBe(false);
  expect(pcid.by).toContain('each of which flushed');
});

test('without a header: as many CPUs as have records', async () => {
  const { cpus, differenceCount } = await validateLines(
    lines.filter((line) => !line.startsWith('#')),
    { kernel: '6.12.117' },
  );
  expect(cpus).toEqual({ value: 8, by: 'the highest CPU that has records' });
  expect(differenceCount).toBe(0);
});

test('by its events a recording is taken for what it can show', async () => {
  const stock = lines.filter(
    (line) =>
      !/: (?:flush_tlb_\w+|should_flush|smp_many|switch_mm|cr3_[ab]|enter_lazy|leave_mm|batch_flush|table_sync): \(/.test(
        line,
      ),
  );
  const csd = await validateLines(stock, { kernel: '6.12.117' });
  expect([csd.depth, csd.differenceCount]).toEqual(['csd', 0]);
  expect(csd.scores.targets_kept.equal).toBeGreaterThan(100);
  expect(csd.scores.generation.equal).toBe(0);
  const bare = await validateLines(
    stock.filter((line) => !/: (?:csd_|ipi_)/.test(line)),
    { kernel: '6.12.117' },
  );
  expect([bare.depth, bare.differenceCount]).toEqual(['tlb_flush', 0]);
  expect(bare.scores.flush.equal).toBeGreaterThan(100);
  expect(bare.scores.targets_kept.equal).toBe(0);
});

test('a kernel without csd events: what is called is seen where it runs', async () => {
  const older = lines
    .filter((line) => !/: (?:csd_|ipi_|cr3_)/.test(line))
    // And a return probe that does not see the arguments.
    .flatMap((line) => {
      const asked = /^(.*?): should_flush: \((.*?)\) (cpu=\d+) (ret=\d)$/.exec(line);
      if (asked === null) return [line];
      const [, front = '', where = '', cpu = '', ret = ''] = asked;
      return [
        `${front}: should_flush_q: (${where}) ${cpu}`,
        `${front}: should_flush_a: (${where}) ${ret}`,
      ];
    });
  const { depth, differenceCount, scores } = await validateLines(older, { kernel: '6.1.192' });
  expect([depth, differenceCount]).toEqual(['probes', 0]);
  const whole = await validateLines(lines, { kernel: '6.12.117' });
  expect(scores.should_flush.equal).toBe(whole.scores.should_flush.equal);
  expect(scores.send.equal).toBe(whole.scores.send.equal);
  expect(scores.targets_kept.equal).toBe(0);
});
