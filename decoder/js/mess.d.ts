/** Types of what mess.js exports. */

export type Dtype =
  | "float32" | "float16" | "bfloat16" | "float64" | "int64" | "int32" | "int16" | "int8" | "uint8" | "bool";

export type Numbers =
  | Float32Array | Uint16Array | Float64Array | BigInt64Array | Int32Array | Int16Array | Int8Array | Uint8Array;

export interface Layer {
  name: string;
  /** As in docs/FORMAT.md, clause 5.2: "P", "M0", "C0", "E0", "B0", "b0" or "T". */
  kind: string;
  dtype: Dtype;
  /** Of a BatchNorm layer [2, channels]: its scale, then its shift. */
  shape: number[];
  /** Bytes of the file that are its own. */
  bytes: number;
}

export interface Tensor {
  name: string;
  dtype: Dtype;
  shape: number[];
  /** In row-major order; float16 and bfloat16 as their bits (see toFloat32), bool as bytes. */
  data: Numbers;
}

export type Source = string | URL | Response | ArrayBuffer | ArrayBufferView;

/** A file that cannot be read. */
export class MessError extends Error {
  /** mess.h's error code. */
  code: number;
}

export class MessFile {
  private constructor();
  /** Size of the file. */
  bytes: number;
  manifest: { scheme: Record<string, unknown>; network?: Record<string, unknown> | null; [key: string]: unknown };
  layers: Layer[];
  /** Names of all tensors, as in a state dict. */
  readonly names: string[];
  get(name: string): Tensor;
}

export function load(source: Source): Promise<MessFile>;
export function useWasm(source: Source | WebAssembly.Module): Promise<WebAssembly.Module>;
export function toFloat32(tensor: Pick<Tensor, "dtype" | "data">): Float32Array;
