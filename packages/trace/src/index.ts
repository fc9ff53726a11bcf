export { portableCodecs } from './codecs.ts';
export {
  TraceFormatError,
  type TraceErrorCode,
  type TraceFormatDetails,
  type TracePosition,
} from './errors.ts';
export type {
  ArmIpi,
  CsdFunction,
  CsdQueueCpu,
  IpiSend,
  IrqVector,
  OtherEvent,
  PageFault,
  Payload,
  RecordedEvent,
  RecordedRecord,
  RecordedTask,
  SchedSwitch,
  SysEnter,
  SysExit,
  TlbFlush,
} from './events/shapes.ts';
export { openTrace, type OpenOptions } from './open.ts';
export type {
  LostEvents,
  OpenedTrace,
  ReadOptions,
  TraceClock,
  TraceHeader,
  TraceKind,
  TraceStatus,
} from './openedTrace.ts';
export { bytesSource, type ByteSource, type Codecs } from './source.ts';
export { TextWriter, type TextWriterOptions, type WritableRecord } from './text/textWriter.ts';
