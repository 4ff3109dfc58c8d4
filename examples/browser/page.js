import { load } from "../../decoder/js/mess.js";
import { prepared, SmallResNet, softmax } from "./network.js";

const find = (id) => document.getElementById(id);
const canvas = find("drawing"), pen = canvas.getContext("2d", { willReadFrequently: true });
let network, last = null;

function clear() {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  find("answer").textContent = "…";
  for (const bar of document.querySelectorAll("#scores i")) bar.style.width = "0";
}

function line(x, y) {
  pen.strokeStyle = "#fff";
  pen.lineWidth = canvas.width / 9;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...(last ?? [x, y]));
  pen.lineTo(x, y);
  pen.stroke();
  last = [x, y];
}

function answer() {
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  const image = prepared(Float32Array.from({ length: data.length / 4 }, (_, i) => data[4 * i] / 255), canvas.width);
  const scores = softmax(network.answer(image));
  find("answer").textContent = scores.indexOf(Math.max(...scores));
  document.querySelectorAll("#scores i").forEach((bar, k) => (bar.style.width = `${100 * scores[k]}%`));
}

const at = (event) => [(event.offsetX * canvas.width) / canvas.clientWidth, (event.offsetY * canvas.height) / canvas.clientHeight];
canvas.addEventListener("pointerdown", (event) => {
  last = null;
  line(...at(event));
});
canvas.addEventListener("pointermove", (event) => event.buttons && line(...at(event)));
for (const end of ["pointerup", "pointerleave"]) canvas.addEventListener(end, (event) => last && ((last = null), answer()));
find("clear").addEventListener("click", clear);

/** Shows every layer with its bytes; the widest bar is the largest layer. */
function show(net) {
  const most = Math.max(...net.layers.map((layer) => layer.bytes));
  find("size").textContent = `${net.bytes.toLocaleString("en")} bytes, ${net.layers.length} layers`;
  for (const { name, kind, shape, bytes } of net.layers) {
    const row = find("layers").insertRow();
    const how = kind.startsWith("E") ? "sum of references" : /^[Bb]/.test(kind) ? "BatchNorm" : /^[MC]/.test(kind) ? "references" : "as it is";
    for (const text of [name, shape.join(" × "), how, bytes.toLocaleString("en")]) row.insertCell().textContent = text;
    const bar = row.insertCell().appendChild(document.createElement("i"));
    bar.style.width = `${(100 * bytes) / most}%`;
  }
}

for (let k = 0; k < 10; k++) find("scores").insertAdjacentHTML("beforeend", `<li>${k}<span><i></i></span></li>`);
clear();
try {
  const net = await load("digits.mess");
  network = new SmallResNet(net);
  show(net);
  // page.html#strokes=[[[x, y], …], …] draws (0 to 1)
  const strokes = decodeURIComponent(location.hash).split("strokes=")[1];
  for (const stroke of strokes ? JSON.parse(strokes) : []) {
    last = null;
    for (const [x, y] of stroke) line(x * canvas.width, y * canvas.height);
  }
  last = null;
  if (strokes) answer();
  document.body.dataset.ready = "yes";
} catch (error) {
  find("size").textContent = error.message;
}
