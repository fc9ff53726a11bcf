/** What the JSON Schemas of all views are made of. */

/** A JSON Schema, 2020-12. */
export type Schema = Readonly<Record<string, unknown>>;

/** An object with exactly these properties; `required` are all unless said otherwise. */
export const record = (
  properties: Readonly<Record<string, Schema>>,
  required: readonly string[] = Object.keys(properties),
): Schema => ({ type: 'object', properties, required, additionalProperties: false });

/** An array of these. */
export const list = (items: Schema): Schema => ({ type: 'array', items });
/** This, or no data. */
export const orNull = (schema: Schema): Schema => ({ anyOf: [schema, { type: 'null' }] });

export const count: Schema = { type: 'integer', minimum: 0 };
export const text: Schema = { type: 'string' };
export const textOrNull: Schema = { type: ['string', 'null'] };
export const flag: Schema = { type: 'boolean' };
