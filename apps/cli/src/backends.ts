/** The bundled backends, by the name that `--backend` takes. The one list of them. */
import { native, type NativeOptions } from '@shootdown/backend-native';
import { UsageError } from '@shootdown/machine';
import type { TlbBackend } from '@shootdown/mmu-gather';

const BACKENDS: Readonly<Record<string, (options?: NativeOptions) => TlbBackend>> = { native };

/** Their names. */
export const BACKEND_NAMES: readonly string[] = Object.keys(BACKENDS);

/**
 * The backend of that name, for CPUs with these features; default: those of any CPU of the last ten
 * years.
 *
 * @throws UsageError ERR_OPTION for a name that no bundled backend has.
 */
export function backendNamed(name: string, features?: NativeOptions['features']): TlbBackend {
  const make = Object.hasOwn(BACKENDS, name) ? BACKENDS[name] : undefined;
  if (make === undefined)
    throw new UsageError(
      'ERR_OPTION',
      `--backend ${name}: expected one of ${BACKEND_NAMES.join(', ')}`,
    );
  return make({ features });
}
