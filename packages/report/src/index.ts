export {
  type Block,
  type Column,
  harmless,
  PLAIN,
  renderMarkdown,
  renderText,
  type Style,
} from './blocks.ts';
export { replayBlocks } from './replay/document.ts';
export { replaySchema } from './replay/schema.ts';
export {
  type AccountView,
  type CauseView,
  type InputView,
  type KindView,
  type ReceivedView,
  type ReplayContext,
  type ReplayView,
  replayView,
  type WhatIfView,
} from './replay/view.ts';
