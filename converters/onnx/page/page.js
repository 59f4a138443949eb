// A page that classifies images in the browser: the model and its runtime lie beside it.
import { $, element, percent, predictionLine, showCard, takeImages } from "./shared.js";

const TOP = 5;
const card = JSON.parse($("model").textContent);
const rows = [];
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
  worker.postMessage({ type: "load", file: card.file, bytes: card.bytes, gpu: $("gpu").checked });
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
  scores({ id, scores, width, height, milliseconds }) {
    const result = waiting.get(id);
    waiting.delete(id);
    const predictions = mostProbable(probabilities(scores));
    result.status.textContent = `${width}×${height}, ${milliseconds} ms`;
    result.list.replaceChildren(...predictions.map(predictionLine));
    rows.push(...predictions.map((one, rank) => ({ file: result.name, rank: rank + 1, ...one })));
    $("after").hidden = false;
    const [best] = predictions;
    sayWhenDone(`${result.name}: ${best.label}, ${percent(best.probability)}`);
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
  say(waiting.size ? `Classifying, ${waiting.size} to go…` : text);
}

function setReady(ready) {
  $("loading").hidden = ready;
  $("choose").disabled = $("camera").disabled = !ready;
}

/** Turn the outputs of the network into probabilities, as its file says what they are. */
function probabilities(scores) {
  if (card.output_kind === "probabilities") return [...scores];
  if (card.output_kind === "log_probabilities") return [...scores].map(Math.exp);
  const largest = Math.max(...scores);
  const powers = [...scores].map((score) => Math.exp(score - largest));
  const sum = powers.reduce((one, other) => one + other, 0);
  return powers.map((power) => power / sum);
}

function mostProbable(values) {
  return values
    .map((value, index) => ({
      label: card.labels ? card.labels[index] : String(index + 1),
      index,
      probability: Number.isFinite(value) ? value : null,
    }))
    .sort((one, other) => other.probability - one.probability || one.index - other.index)
    .slice(0, TOP);
}

/** Show images and hand them to the worker, one after the other. */
function classify(files) {
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
    waiting.set(id, { name: file.name, article, list, status });
    worker.postMessage({ type: "classify", id, blob: file });
  }
  sayWhenDone("");
}

function clear() {
  for (const image of $("results").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  for (const [id, result] of waiting) waiting.set(id, { ...result, article: element("div", "") });
  $("results").replaceChildren();
  rows.length = 0;
  $("after").hidden = true;
  $("choose").focus();
}

function saveCsv() {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const columns = ["file", "rank", "label", "index", "probability"];
  const lines = rows.map((row) => columns.map((name) => quoted(String(row[name] ?? ""))));
  const text = [columns, ...lines].map((line) => `${line.join(",")}\r\n`).join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = `${card.model}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
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
takeImages(classify, say, () => !$("choose").disabled);
$("csv").addEventListener("click", saveCsv);
$("clear").addEventListener("click", clear);
$("gpu").addEventListener("change", chooseProvider);
$("gpu-row").hidden = !(card.has_webgpu && navigator.gpu);
load();
