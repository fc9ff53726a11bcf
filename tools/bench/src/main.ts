/**
 * `npm run bench`: every number of the documentation that is a speed, as ratios of one run on this
 * machine.
 */
import { table } from './measure.ts';
import { datBench, type Size, textBench } from './traceBench.ts';

const full: Size = { textMegabytes: 200, datRepeats: 100, runs: 5 };
const quick: Size = { textMegabytes: 20, datRepeats: 10, runs: 3 };
const size = process.argv.includes('--quick') ? quick : full;

const show = (title: string, body: string): void =>
  void process.stdout.write(`${title}\n${body}\n\n`);
show(
  `ftrace text, ${size.textMegabytes} MB, best of ${size.runs}; ratios to the last row`,
  table(await textBench(size)),
);
show(
  `trace.dat v6, 6,908 events x ${size.datRepeats}, best of ${size.runs}; ratios to the last row`,
  table(await datBench(size)),
);
const megabytes = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(`most memory of this process: ${megabytes} MB\n`);
