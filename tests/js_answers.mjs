// Prints the logits of the page's network for images given as JSON on standard input: [[3 * 32 * 32 numbers], …].
import { readFileSync } from "node:fs";
import { load } from "../decoder/js/mess.js";
import { SmallResNet } from "../examples/browser/network.js";

const network = new SmallResNet(await load(process.argv[2]));
const images = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(images.map((data) => network.answer({ channels: 3, size: 32, data }))));
