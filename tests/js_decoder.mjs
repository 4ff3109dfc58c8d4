// Decodes the files named on the command line and prints, as JSON, the SHA-256 of each tensor, or the error.
import { createHash } from "node:crypto";
import { load, MessError, toFloat32 } from "../decoder/js/mess.js";

const told = [];
for (const path of process.argv.slice(2)) {
  try {
    const net = await load(path);
    const tensors = {};
    for (const name of net.names) {
      const { dtype, shape, data } = net.get(name);
      const hash = createHash("sha256").update(Buffer.from(data.buffer)).digest("hex");
      const floats = dtype.endsWith("float16") ? [...toFloat32({ dtype, data })].map((x) => (isFinite(x) ? x : String(x))) : [];  // JSON has no NaN
      tensors[name] = { dtype, shape, hash, floats };
    }
    told.push({ tensors, layers: net.layers, bytes: net.bytes });
  } catch (error) {
    if (!(error instanceof MessError)) throw error;
    told.push({ error: error.code, text: error.message });
  }
}
console.log(JSON.stringify(told));
