/** The forward pass of MESS's ResNet for small images, by hand: what a page needs where no library is wanted. */

/** Takes a file's tensors by name; BatchNorm as scale and shift. */
export class SmallResNet {
  constructor(net) {
    this.net = net;
    this.weights = new Map();
    this.blocks = [];
    for (let stage = 1; stage <= 3; stage++)
      for (let block = 0; net.names.includes(`layer${stage}.${block}.conv1.weight`); block++)
        this.blocks.push({ name: `layer${stage}.${block}`, stride: stage > 1 && block === 0 ? 2 : 1 });
  }

  get(name) {
    if (!this.weights.has(name)) this.weights.set(name, this.net.get(name));
    return this.weights.get(name);
  }

  /** Returns the logits of an image, { channels: 3, size, data } with normalised numbers. */
  answer(image) {
    let x = relu(this.norm(this.conv(image, "conv1", 1), "bn1"));
    for (const { name, stride } of this.blocks) {
      let y = relu(this.norm(this.conv(x, `${name}.conv1`, stride), `${name}.bn1`));
      y = this.norm(this.conv(y, `${name}.conv2`, 1), `${name}.bn2`);
      x = relu(added(y, x, stride));
    }
    const { shape: [classes, channels], data: weight } = this.get("linear.weight");
    const bias = this.get("linear.bias").data, area = x.size * x.size;
    const mean = Array.from({ length: channels }, (_, c) => {
      let sum = 0;
      for (let i = 0; i < area; i++) sum += x.data[c * area + i];
      return sum / area;
    });
    return Array.from({ length: classes }, (_, k) => mean.reduce((sum, m, c) => sum + m * weight[k * channels + c], bias[k]));
  }

  /** A 3x3 convolution with a border of zeros. */
  conv(x, name, stride) {
    const { shape: [outs, ins], data: weight } = this.get(`${name}.weight`);
    const size = x.size / stride, out = new Float32Array(outs * size * size);
    for (let o = 0; o < outs; o++)
      for (let i = 0; i < ins; i++)
        for (let ky = 0; ky < 3; ky++)
          for (let kx = 0; kx < 3; kx++) {
            const w = weight[((o * ins + i) * 3 + ky) * 3 + kx];
            for (let r = 0; r < size; r++) {
              const row = r * stride + ky - 1;
              if (row < 0 || row >= x.size) continue;
              for (let c = 0; c < size; c++) {
                const column = c * stride + kx - 1;
                if (column >= 0 && column < x.size) out[(o * size + r) * size + c] += w * x.data[(i * x.size + row) * x.size + column];
              }
            }
          }
    return { channels: outs, size, data: out };
  }

  norm(x, name) {
    const { data } = this.get(name), area = x.size * x.size;
    for (let c = 0; c < x.channels; c++)
      for (let i = c * area; i < (c + 1) * area; i++) x.data[i] = x.data[i] * data[c] + data[x.channels + c];
    return x;
  }
}

function relu(x) {
  for (let i = 0; i < x.data.length; i++) if (x.data[i] < 0) x.data[i] = 0;
  return x;
}

/** Adds the shortcut: every second pixel where the image shrinks, missing channels zero on both sides. */
function added(y, x, stride) {
  const before = (y.channels - x.channels) >> 1;
  for (let c = 0; c < x.channels; c++)
    for (let r = 0; r < y.size; r++)
      for (let k = 0; k < y.size; k++)
        y.data[((before + c) * y.size + r) * y.size + k] += x.data[(c * x.size + r * stride) * x.size + k * stride];
  return y;
}

/** Turns a drawing (grey levels 0 to 1, side x side) into what the network was trained on: `digits`, 8x8 made 32x32. */
export function prepared(drawing, side) {
  let [top, bottom, left, right] = [side, -1, side, -1];
  for (let r = 0; r < side; r++)
    for (let c = 0; c < side; c++)
      if (drawing[r * side + c] > 0.2) [top, bottom, left, right] = [Math.min(top, r), Math.max(bottom, r), Math.min(left, c), Math.max(right, c)];
  const extent = Math.max(bottom - top, right - left, 1) + 1, from = [(top + bottom + 1 - extent) / 2, (left + right + 1 - extent) / 2];
  const small = new Float32Array(64), step = extent / 8, parts = 6;
  for (let r = 0; r < 8 && bottom >= 0; r++)
    for (let c = 0; c < 8; c++) {
      let sum = 0;
      for (let i = 0; i < parts * parts; i++) {
        const y = Math.floor(from[0] + (r + (Math.floor(i / parts) + 0.5) / parts) * step);
        const x = Math.floor(from[1] + (c + ((i % parts) + 0.5) / parts) * step);
        if (y >= 0 && y < side && x >= 0 && x < side) sum += drawing[y * side + x];
      }
      small[r * 8 + c] = Math.round((16 * sum) / (parts * parts)) / 16;
    }
  const [mean, std] = [0.3053, 0.376], data = new Float32Array(3 * 1024);
  for (let r = 0; r < 32; r++)
    for (let c = 0; c < 32; c++) {
      const [y, x] = [r, c].map((p) => Math.min(Math.max((p + 0.5) / 4 - 0.5, 0), 7));
      const [y0, x0] = [Math.min(Math.floor(y), 6), Math.min(Math.floor(x), 6)], [a, b] = [y - y0, x - x0];
      const at = (i, j) => small[(y0 + i) * 8 + x0 + j];
      const grey = (at(0, 0) * (1 - a) + at(1, 0) * a) * (1 - b) + (at(0, 1) * (1 - a) + at(1, 1) * a) * b;
      for (let channel = 0; channel < 3; channel++) data[channel * 1024 + r * 32 + c] = (Math.round(grey * 255) / 255 - mean) / std;
    }
  return { channels: 3, size: 32, data, small };
}

export function softmax(logits) {
  const most = Math.max(...logits), parts = logits.map((x) => Math.exp(x - most)), sum = parts.reduce((a, b) => a + b);
  return parts.map((x) => x / sum);
}
