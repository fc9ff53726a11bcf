export { ARM64_KCONFIG, arm64, type Arm64Options } from './arm64.ts';
export { type Arm64Features, DEFAULT_FEATURES } from './context.ts';
export { MAX_DVM_OPS, MAX_TLBI_RANGE_PAGES } from './tlbflush.ts';
