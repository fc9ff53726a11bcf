/**
 * Medians with what their scatter leaves open, and the straight line through some of them. A median
 * of n values is uncertain by about their interquartile range over the square root of n, or by one
 * step of the clock over it where all are within a step.
 */
import type { Histogram } from './histogram.ts';

/** A number, give or take. */
export interface Estimate {
  readonly value: number;
  readonly error: number;
}

/** `a - b`. */
export const less = (a: Estimate, b: Estimate): Estimate => ({
  value: a.value - b.value,
  error: Math.hypot(a.error, b.error),
});

/** The median, in the unit of which the histogram's step has `step`. */
export function medianOf(histogram: Histogram, step: number): Estimate {
  return {
    value: (histogram.groupedMedian() ?? 0) * step,
    error: (Math.max(1, histogram.spread) * step) / Math.sqrt(histogram.count),
  };
}

/** A measured point. */
export interface Point {
  readonly x: number;
  readonly y: Estimate;
  readonly weight: number;
}

/** A line. */
export interface Line {
  readonly slope: Estimate;
  /** What it says of x = 0. */
  readonly intercept: Estimate;
}

/** Least squares, weighted; `points` has two different x at least. */
export function lineThrough(points: readonly Point[]): Line {
  const sum = (of: (point: Point) => number): number =>
    points.reduce((all, point) => all + of(point), 0);
  const weight = sum((point) => point.weight);
  const mean = sum((point) => point.weight * point.x) / weight;
  const width = sum((point) => point.weight * (point.x - mean) ** 2);
  // Both are sums of the y, each times a factor: its error counts by the same factor.
  const combine = (factor: (point: Point) => number): Estimate => ({
    value: sum((point) => factor(point) * point.y.value),
    error: Math.sqrt(sum((point) => (factor(point) * point.y.error) ** 2)),
  });
  const slope = (point: Point): number => (point.weight * (point.x - mean)) / width;
  return {
    slope: combine(slope),
    intercept: combine((point) => point.weight / weight - mean * slope(point)),
  };
}
