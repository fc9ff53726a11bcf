import { describe, expect, test } from 'vitest';
import { closingLine, tallyAll, tallyProject, type ProjectRun } from './tally.ts';

type FileResult = {
  readonly status: string;
  readonly tests: readonly string[];
  readonly message?: string;
};

function run(files: readonly FileResult[], success = true): ProjectRun {
  const testResults = files.map((file, index) => ({
    name: `f${index}.test.ts`,
    status: file.status,
    message: file.message,
    assertionResults: file.tests.map((status, number) => ({ status, fullName: `t${number}` })),
  }));
  return { name: 'p', hasTestFiles: true, report: JSON.stringify({ success, testResults }) };
}

describe('the closing line', () => {
  test('adds passed and failed tests up over all packages', () => {
    const green = run([{ status: 'passed', tests: ['passed', 'passed'] }]);
    const red = run([{ status: 'failed', tests: ['passed', 'failed'] }], false);
    expect(closingLine(tallyAll([green, red]))).toBe('3 passed, 1 failed');
  });

  test('is not green when no test ran at all', () => {
    expect(closingLine(tallyAll([{ name: 'p', hasTestFiles: false, report: null }]))).toBe(
      '0 passed, 1 failed',
    );
  });
});

describe('what is not a passed test is a failure', () => {
  test.each(['skipped', 'pending', 'todo', 'disabled'])('a %s test', (status) => {
    const sum = tallyProject(run([{ status: 'passed', tests: ['passed', status] }]));
    expect(sum).toMatchObject({ passed: 1, failed: 1 });
    expect(sum.problems[0]).toContain(`${status}, and the house has no tests that do not run`);
  });

  test('a file that did not load', () => {
    const sum = tallyProject(
      run([{ status: 'failed', tests: [], message: 'Cannot find package\nstack' }], false),
    );
    expect(sum).toEqual({
      passed: 0,
      failed: 1,
      problems: ['p: did not load: f0.test.ts: Cannot find package'],
    });
  });

  test('a file without a test', () => {
    expect(tallyProject(run([{ status: 'passed', tests: [] }])).failed).toBe(1);
  });

  test('a file that failed in a hook after its tests had passed', () => {
    expect(tallyProject(run([{ status: 'failed', tests: ['passed'] }], false))).toMatchObject({
      passed: 1,
      failed: 1,
    });
  });

  test('an error outside of any test', () => {
    expect(tallyProject(run([{ status: 'passed', tests: ['passed'] }], false))).toMatchObject({
      passed: 1,
      failed: 1,
    });
  });

  test('a missing report of a package that has test files', () => {
    expect(tallyProject({ name: 'p', hasTestFiles: true, report: null }).failed).toBe(1);
  });

  test('a report without any file of a package that has test files', () => {
    expect(tallyProject(run([])).failed).toBe(1);
  });

  test.each(['', '{', 'null', '[]', '{"success":true}'])('an unreadable report: %j', (report) => {
    expect(tallyProject({ name: 'p', hasTestFiles: true, report }).failed).toBe(1);
  });

  test('but a package without test files and without a report is neither', () => {
    expect(tallyProject({ name: 'p', hasTestFiles: false, report: null })).toMatchObject({
      passed: 0,
      failed: 0,
    });
  });
});
