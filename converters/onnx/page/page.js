// A page that runs a model in the browser: the model and its runtime lie beside it.
import { $, element, showCard, takeImages } from "./shared.js";

const card = JSON.parse($("model").textContent);
const results = await import(card.image ? "./image_results.js" : "./class_results.js");
const waiting = new Map();
let worker = null;
let nextImage = 0;

/** Start a worker with the model; the one that runs, if any, is left. */
function load() {
  worker?.terminate();
  for (const result of waiting.values()) result.status.textContent = "stopped";
  waiting.clear();
  setReady(false);
  worker = new Worker("worker.js", { type: "module" });
  worker.addEventListener("message", ({ data }) => receive[data.type](data));
  worker.addEventListener("error", (event) => {
    say(`The runtime cannot be loaded: ${event.message || "is this page served over HTTP?"}`);
  });
  worker.postMessage({ type: "load", card, gpu: $("gpu").checked });
}

const receive = {
  progress({ fraction }) {
    $("loading").value = fraction;
    say(`Loading the model, ${Math.round(100 * fraction)} %`);
  },
  ready({ provider, milliseconds }) {
    showCard(card, [
      ["File", `${card.file}, ${(card.bytes / 1e6).toFixed(1)} MB`],
      ["Runs on", `onnxruntime-web ${card.onnxruntime_web}, ${provider}`],
    ]);
    setReady(true);
    say(`Ready, after ${milliseconds} ms.`);
  },
  failed({ text }) {
    $("loading").hidden = true;
    say(text);
  },
  result({ id, width, height, milliseconds, ...answer }) {
    const result = waiting.get(id);
    waiting.delete(id);
    if (result.isCleared) return;
    result.status.textContent = `${width}×${height}, ${milliseconds} ms`;
    const made = results.show(result, answer, card);
    $("after").hidden = false;
    sayWhenDone(`${result.name}: ${made}`);
  },
  problem({ id, text }) {
    const result = waiting.get(id);
    waiting.delete(id);
    result.status.textContent = text;
    result.article.classList.add("problem");
    $("after").hidden = false;
    sayWhenDone(`${result.name}: ${text}`);
  },
};

function say(text) {
  $("status").textContent = text;
}

function sayWhenDone(text) {
  say(waiting.size ? `Computing, ${waiting.size} to go…` : text);
}

function setReady(ready) {
  $("loading").hidden = ready;
  $("choose").disabled = $("camera").disabled = !ready;
}

/** Show images and hand them to the worker, one after the other. */
function take(files) {
  for (const file of files) {
    const id = nextImage++;
    const article = document.createElement("article");
    const preview = document.createElement("img");
    preview.src = URL.createObjectURL(file);
    preview.alt = file.name;
    preview.addEventListener("error", () => { preview.hidden = true; });
    const [list, status] = [element("ol", ""), element("p", "waiting")];
    list.className = "predictions";
    const beside = element("div", "");
    beside.append(element("h3", file.name), list, status);
    article.append(preview, beside);
    $("results").append(article);
    waiting.set(id, { name: file.name, article, preview, list, status });
    worker.postMessage({ type: "run", id, blob: file });
  }
  sayWhenDone("");
}

function clear() {
  for (const image of $("results").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  for (const result of waiting.values()) result.isCleared = true;
  $("results").replaceChildren();
  results.clear();
  $("after").hidden = true;
  $("choose").focus();
}

/** Load the model anew, unless WebGPU was asked for and is not to be had. */
async function chooseProvider() {
  if ($("gpu").checked && !(await navigator.gpu.requestAdapter())) {
    $("gpu").checked = false;
    say("This browser finds no GPU for WebGPU.");
    return;
  }
  load();
}

document.title = $("title").textContent = card.model;
showCard(card, [["File", `${card.file}, ${(card.bytes / 1e6).toFixed(1)} MB`]]);
results.start(card);
$("labels-box").hidden = !card.labels && Boolean(card.image);
takeImages(take, say, () => !$("choose").disabled);
$("clear").addEventListener("click", clear);
$("gpu").addEventListener("change", chooseProvider);
$("gpu-row").hidden = !(card.has_webgpu && navigator.gpu);
load();
