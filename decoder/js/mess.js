/**
 * Reads `.mess` files in browsers and in Node: mess.h as WebAssembly. What it takes are files that say everything
 * themselves (`mess decompress net.mess -o plain.mess`).
 *
 *     import { load } from "mess-decoder";
 *     const net = await load("plain.mess");
 *     const { shape, data } = net.get("conv1.weight");
 */

const DTYPES = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"];
const ARRAYS = [
  Float32Array, Uint16Array, Uint16Array, Float64Array, BigInt64Array, Int32Array, Int16Array, Int8Array, Uint8Array,
  Uint8Array,
];
const BATCH_NORM_PARTS = 6; // 0 is the whole layer

/** A file that cannot be read; `code` is mess.h's. */
export class MessError extends Error {
  constructor(code, text) {
    super(text);
    this.name = "MessError";
    this.code = code;
  }
}

let compiled; // the module, once for all files

/** Says where mess.wasm is, if not beside this file: a URL, a Response, its bytes, or a WebAssembly.Module. */
export function useWasm(source) {
  compiled = bytesOf(source).then((bytes) => (bytes instanceof WebAssembly.Module ? bytes : WebAssembly.compile(bytes)));
  return compiled;
}

/** Reads a file from a URL, a Response, or its bytes. Fetching and decoding do not block each other. */
export async function load(source) {
  const content = bytesOf(source);
  const module = await (compiled ?? useWasm(new URL("mess.wasm", import.meta.url)));
  return new MessFile(new WebAssembly.Instance(module).exports, await content);
}

/** A file: what is in it is known at once, its tensors are decoded when they are asked for. */
export class MessFile {
  #wasm;
  #places = new Map(); // name → [item, part]

  constructor(wasm, bytes) {
    this.#wasm = wasm;
    this.bytes = bytes.byteLength;
    const at = wasm.file_room(bytes.byteLength);
    if (!at) throw new MessError(11, "there is no memory for the file");
    new Uint8Array(wasm.memory.buffer, at, bytes.byteLength).set(bytes);
    this.#check(wasm.open(bytes.byteLength));
    this.manifest = JSON.parse(this.#text(wasm.manifest_at(), wasm.manifest_size()));
    /** Layers and tensors in the order of the file: { name, kind, dtype, shape, bytes } — bytes of the file that are its own. */
    this.layers = [];
    for (let item = 0; item < wasm.count(); item++) {
      const whole = this.#facts(item, 0);
      const kind = this.manifest.tensors[item][1];
      this.layers.push({ name: this.#name(item, 0), kind, dtype: whole.dtype, shape: whole.shape, bytes: wasm.own_bytes(item) });
      this.#places.set(this.layers[item].name, [item, 0]);
      for (let part = 1; whole.isBatchNorm && part < BATCH_NORM_PARTS; part++)
        if (wasm.at(item, part)) this.#places.set(this.#name(item, part), [item, part]);
    }
  }

  /** Names of all tensors, as in a state dict. */
  get names() {
    return [...this.#places].filter(([, [item, part]]) => part || !this.#facts(item, 0).isBatchNorm).map(([name]) => name);
  }

  /**
   * Decodes a tensor, or, under a BatchNorm layer's own name, its scale and shift (shape [2, channels]: y = x * scale +
   * shift). float16 and bfloat16 come as their bits.
   */
  get(name) {
    const place = this.#places.get(name);
    if (!place) throw new MessError(12, `${name}: no such tensor`);
    const { dtype, shape, count } = this.#facts(...place);
    const at = this.#wasm.decode();
    this.#check(at < 0 ? -at : 0);
    const Numbers = ARRAYS[DTYPES.indexOf(dtype)];
    return { name, dtype, shape, data: new Numbers(this.#wasm.memory.buffer, at, count).slice() };
  }

  #facts(item, part) {
    const at = this.#wasm.at(item, part);
    const view = new DataView(this.#wasm.memory.buffer, at);
    const dims = view.getUint32(12, true);
    const shape = Array.from({ length: dims }, (_, i) => Number(view.getBigUint64(16 + 8 * i, true)));
    return { dtype: DTYPES[view.getUint32(8, true)], shape, count: view.getUint32(80, true), isBatchNorm: view.getUint32(88, true) !== 0 };
  }

  #name(item, part) {
    const size = this.#wasm.name_size(item, part);
    return this.#text(this.#wasm.name_at(), size);
  }

  #text(at, size) {
    return new TextDecoder().decode(new Uint8Array(this.#wasm.memory.buffer, at, size));
  }

  #check(error) {
    if (error) throw new MessError(error, this.#text(this.#wasm.error_at(error), this.#wasm.error_size(error)));
  }
}

/** float16 or bfloat16 bits as float32 numbers. */
export function toFloat32({ dtype, data }) {
  if (dtype === "float32") return data;
  if (dtype === "bfloat16") return new Float32Array(Uint32Array.from(data, (bits) => bits << 16).buffer);
  if (dtype !== "float16") return Float32Array.from(data, Number);
  return Float32Array.from(data, (bits) => {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 0x3ff;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  });
}

async function bytesOf(source) {
  if (source instanceof WebAssembly.Module) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (typeof source === "string" || source instanceof URL) {
    const isFile = typeof process !== "undefined" && process.versions?.node && !/^(https?|data|blob):/.test(source);
    if (isFile) return new Uint8Array(await (await import("node:fs/promises")).readFile(source));
    source = await fetch(source);
  }
  if (!source.ok) throw new MessError(1, `${source.url}: the server says ${source.status}`);
  return new Uint8Array(await source.arrayBuffer());
}
