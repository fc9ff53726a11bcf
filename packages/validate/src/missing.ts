/** Why something cannot be decided. */

/** What is missing where something cannot be decided. */
export const MISSING = {
  mm: 'mm from before the recording',
  cpu: 'what the CPU had loaded before the recording',
  asids: 'what the ASIDs held before the recording',
  batches: 'raised by batched unmaps, which no event shows',
  order: 'the order of steps that no event shows',
  polls: 'whether an idle CPU polls',
  process: 'who runs in which mm, of tasks from before the recording',
  asked: 'whether a full flush was asked for',
  stride: 'the size of the entries that are flushed',
  freed: 'whether tables were freed',
  sender: 'whose flush it was',
  lost: 'events that are missing',
} as const;
