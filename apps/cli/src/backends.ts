/** The bundled backends, by the name that `--backend` takes. The one list of them. */
import type { X86Features } from '@shootdown/arch-x86';
import { arm64 } from '@shootdown/backend-arm64';
import { kvm } from '@shootdown/backend-kvm';
import { native } from '@shootdown/backend-native';
import { UsageError } from '@shootdown/machine';
import type { TlbBackend } from '@shootdown/mmu-gather';

interface Options {
  readonly features?: Partial<X86Features> | undefined;
}

type Bundled = Readonly<Record<string, (options?: Options) => TlbBackend>>;

const X86: Bundled = { native, kvm };

const ALL: Bundled = { ...X86, arm64: () => arm64() };

/** Their names. */
export const BACKEND_NAMES: readonly string[] = Object.keys(ALL);
/** Those of x86, which recordings are compared with. */
export const X86_BACKEND_NAMES: readonly string[] = Object.keys(X86);

/** All of them, as they come. */
export const bundledBackends = (): readonly TlbBackend[] =>
  Object.values(ALL).map((make) => make());

/**
 * The backend of that name, for CPUs as they come: of the last ten years.
 *
 * @throws UsageError ERR_OPTION for a name that no bundled backend has.
 */
export const backendNamed = (name: string): TlbBackend => found(ALL, name, '')();

/**
 * The x86 backend of that name, for CPUs with these features.
 *
 * @throws UsageError ERR_OPTION for a name that no bundled backend for x86 has.
 */
export const x86BackendNamed = (name: string, features?: Partial<X86Features>): TlbBackend =>
  found(X86, name, ' (what recordings are compared with is x86)')({ features });

function found(among: Bundled, name: string, why: string): Bundled[string] {
  const make = Object.hasOwn(among, name) ? among[name] : undefined;
  if (make !== undefined) return make;
  const names = Object.keys(among).join(', ');
  throw new UsageError('ERR_OPTION', `--backend ${name}: expected one of ${names}${why}`);
}
