/**
 * What nobody asked for: the host takes a vCPU away, an NMI or a device interrupt arrives. Each may
 * happen at any instruction boundary of its CPU, `times` times at most: a bound, which whoever
 * reports a result has to name.
 */
import type { ContextKind } from './stack.ts';
import type { Coroutine } from './op.ts';

/** One thing the environment may do. */
export interface EnvironmentMove {
  /** In messages and schedules: `host preempts vCPU 1`. */
  readonly name: string;
  readonly cpu: number;
  readonly kind: ContextKind;
  /** How often it may happen in one run. */
  readonly times: number;
  /**
   * What runs then: an interrupt's or NMI's handler, or what the host does between taking the vCPU
   * away and giving it back (`vcpuPark` marks the time between). Without it: the handler that is
   * installed for `vector`, or for the host nothing.
   */
  readonly body?: (() => Coroutine<unknown>) | undefined;
  /** The vector of an `irq`. */
  readonly vector?: number | undefined;
}
