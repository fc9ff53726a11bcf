/**
 * What `npm test` runs: builds everything, tests everything, goes on after a failure, and says the
 * sum over the whole workspace on its last line. The sum is read from the reports and not from exit
 * codes alone, and exit codes are not ignored either: a task that failed without a failed test
 * counts as one.
 */
import { spawnSync } from 'node:child_process';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { forgetReport, projectFolders, readRun } from './projects.ts';
import { addTallies, closingLine, tallyAll, trouble, type Tally } from './tally.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const bin = join(root, 'node_modules/.bin');

/** Runs one target over all packages and says whether all of them succeeded. */
function runMany(target: string): boolean {
  const nx = join(bin, 'nx');
  const args = [nx, 'run-many', '-t', target, '--output-style=static', '--nxBail=false'];
  const env = { ...process.env, PATH: [bin, process.env['PATH'] ?? ''].join(delimiter) };
  const done = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit', env });
  return done.status === 0;
}

const folders = projectFolders(root);
for (const folder of folders) forgetReport(folder);

const built: Tally = runMany('build') ? addTallies([]) : trouble('the build failed: see above');
const testsGreen = runMany('test');
const reports = tallyAll(folders.map(readRun));
const silent =
  !testsGreen && reports.failed === 0
    ? trouble('a test task failed though every report is green: see above')
    : addTallies([]);
const sum = addTallies([built, reports, silent]);

for (const problem of sum.problems) console.log(problem);
if (spawnSync('trace-cmd', ['--version']).error !== undefined) {
  console.log('trace-cmd is not installed: the tests that ask it (*.peer.test.ts) were not run');
}
console.log(closingLine(sum));
process.exitCode = sum.failed === 0 ? 0 : 1;
