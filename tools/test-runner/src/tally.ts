/**
 * Adds up the reports of all packages into one pair of numbers. Nothing may be lost on the way:
 * whatever is not a passed test counts as a failure, also a file that did not load (its tests are
 * unknown, so it counts as one), a skipped or todo test (the house has none), a report that is
 * missing or unreadable, and a run that failed although each of its tests passed (an unhandled
 * error).
 */

/** A package and what its test run left behind. */
export interface ProjectRun {
  readonly name: string;
  readonly hasTestFiles: boolean;
  /** The text of test-results/vitest.json, or null if there is none. */
  readonly report: string | null;
}

/** The sum, and a sentence for each failure. */
export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly problems: readonly string[];
}

/** What we read of vitest's JSON report. */
interface VitestReport {
  readonly success: boolean;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
  }[];
}

/** The last line of `npm test`. */
export function closingLine(tally: Tally): string {
  return `${tally.passed} passed, ${tally.failed} failed`;
}

/** The sum over one package. */
export function tallyProject(run: ProjectRun): Tally {
  if (run.report === null) {
    return run.hasTestFiles
      ? trouble(`${run.name}: has test files but left no report`)
      : { passed: 0, failed: 0, problems: [] };
  }
  const report = parseReport(run.report);
  if (report === undefined) return trouble(`${run.name}: its report is not one that vitest writes`);
  let passed = 0;
  const problems: string[] = [];
  for (const file of report.testResults) {
    for (const one of file.assertionResults) {
      if (one.status === 'passed') passed += 1;
      else problems.push(`${run.name}: ${describeStatus(one.status)}: ${one.fullName}`);
    }
    const explained = file.assertionResults.some((one) => one.status !== 'passed');
    if (file.status === 'failed' && !explained)
      problems.push(`${run.name}: did not load: ${file.name}: ${firstLine(file.message)}`);
    else if (file.assertionResults.length === 0)
      problems.push(`${run.name}: ${file.name} has no test`);
  }
  if (!report.success && problems.length === 0)
    problems.push(`${run.name}: an error outside of any test`);
  if (run.hasTestFiles && report.testResults.length === 0)
    problems.push(`${run.name}: has test files but none ran`);
  return { passed, failed: problems.length, problems };
}

/**
 * The sum over all packages. No test at all is a failure: it means that the run looked in the wrong
 * place.
 */
export function tallyAll(runs: readonly ProjectRun[]): Tally {
  const sum = addTallies(runs.map(tallyProject));
  return sum.passed + sum.failed === 0 ? trouble('no test ran') : sum;
}

/** Adds sums up. */
export function addTallies(tallies: readonly Tally[]): Tally {
  return {
    passed: tallies.reduce((sum, one) => sum + one.passed, 0),
    failed: tallies.reduce((sum, one) => sum + one.failed, 0),
    problems: tallies.flatMap((one) => one.problems),
  };
}

/** One failure that is not a test. */
export function trouble(sentence: string): Tally {
  return { passed: 0, failed: 1, problems: [sentence] };
}

function describeStatus(status: string): string {
  return status === 'failed' ? 'failed' : `${status}, and the house has no tests that do not run`;
}

function firstLine(text: string | undefined): string {
  return (text ?? '').split('\n')[0] ?? '';
}

function parseReport(text: string): VitestReport | undefined {
  try {
    const value = JSON.parse(text) as Partial<VitestReport> | null;
    return typeof value?.success === 'boolean' && Array.isArray(value.testResults)
      ? (value as VitestReport)
      : undefined;
  } catch {
    return undefined;
  }
}
