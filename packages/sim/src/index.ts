export { Clock, type ClockRun, runByClock } from './clock.ts';
export type { ClockOptions, PlannedMove } from './clockOptions.ts';
export { type Cost, type CostTable, costTable, DEFAULT_COSTS } from './costs.ts';
export { type Random, random } from './random.ts';
export {
  replaySchedule,
  schedule,
  type ScheduledRun,
  type ScheduleOptions,
  type Scheduler,
} from './scheduler.ts';
export { pct, type PctOptions } from './schedulers/pct.ts';
export { randomScheduler } from './schedulers/random.ts';
export { roundRobin } from './schedulers/roundRobin.ts';
