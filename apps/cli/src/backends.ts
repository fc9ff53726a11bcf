/** The bundled backends, by the name that `--backend` takes. The one list of them. */
import { native, type NativeOptions } from '@shootdown/backend-native';
import { UsageError } from '@shootdown/machine';
import type { TlbBackend } from '@shootdown/mmu-gather';

type X86Options = Pick<NativeOptions, 'features'>;

const BACKENDS: Readonly<Record<string, (options?: X86Options) => TlbBackend>> = { native };

/** Their names. */
export const BACKEND_NAMES: readonly string[] = Object.keys(BACKENDS);

/** All of them, as they come. */
export const bundledBackends = (): readonly TlbBackend[] =>
  Object.values(BACKENDS).map((make) => make());

/**
 * The backend of that name, for CPUs with these features; default: those of any CPU of the last ten
 * years. Features are of x86: other architectures have none to choose.
 *
 * @throws UsageError ERR_OPTION for a name that no bundled backend has.
 */
export function backendNamed(name: string, features?: X86Options['features']): TlbBackend {
  const make = Object.hasOwn(BACKENDS, name) ? BACKENDS[name] : undefined;
  if (make === undefined)
    throw new UsageError(
      'ERR_OPTION',
      `--backend ${name}: expected one of ${BACKEND_NAMES.join(', ')}`,
    );
  return make({ features });
}
