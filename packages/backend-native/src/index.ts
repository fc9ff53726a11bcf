export { native, type NativeOptions } from './native.ts';
