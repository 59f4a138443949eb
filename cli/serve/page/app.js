// The page of `torchlift serve`: an image in, the most probable classes out.
import { $, percent, predictionLine, showCard, takeImages } from "./shared.js";

const TOP = 5;
let token = "";
let latest = 0;

/** Ask the server; an error is thrown with the server's own words. */
async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  const answer = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw Object.assign(new Error(answer.error), { status: response.status });
  return answer;
}

/** Show which models there are, or ask for the token. */
async function start() {
  try {
    const entries = await ask("/v2/repository/index", { method: "POST", body: '{"ready": true}' });
    const names = [...new Set(entries.map((entry) => entry.name))];
    if (!names.length) throw new Error("No model is loaded.");
    $("model").replaceChildren(...names.map((name) => new Option(name, name)));
    $("models").hidden = names.length < 2;
    $("token-form").hidden = true;
    $("app").hidden = false;
    $("trouble").textContent = "";
    await showModel();
  } catch (error) {
    const asks = error.status === 401;
    $("token-form").hidden = !asks;
    $("trouble").textContent = asks && !token ? "" : asks ? "The token is wrong." : error.message;
    if (asks) $("token").focus();
  }
}

/** Show the card of the chosen model, and the examples for it. */
async function showModel() {
  const name = $("model").value;
  const card = await ask(`/card?model=${encodeURIComponent(name)}`);
  document.title = $("title").textContent = name;
  showCard(card, [["Version", card.version], ["Runs on", card.provider]]);
  $("curl").textContent = curlExample(name);
  $("python").textContent = pythonExample(name);
  $("status").textContent = card.can_predict ? "No image yet." : "This model takes no images.";
  $("choose").disabled = $("camera").disabled = !card.can_predict;
  $("result").hidden = true;
}

function address(name) {
  return `${location.origin}/predict?top=${TOP}&model=${encodeURIComponent(name)}`;
}

function curlExample(name) {
  const authorization = token ? " -H 'Authorization: Bearer TOKEN'" : "";
  return `curl --data-binary @image.jpg${authorization} '${address(name)}'`;
}

function pythonExample(name) {
  const headers = token ? `\nrequest.add_header("Authorization", "Bearer TOKEN")` : "";
  return `import json
from pathlib import Path
from urllib.request import Request, urlopen

request = Request("${address(name)}", Path("image.jpg").read_bytes())${headers}
for prediction in json.load(urlopen(request))["results"][0]["predictions"]:
    print(prediction["label"], prediction["probability"])`;
}

/** Classify an image and show the result, unless another one was chosen meanwhile. */
async function classify(blob) {
  const turn = ++latest;
  $("status").textContent = "Classifying…";
  try {
    const path = `/predict?top=${TOP}&model=${encodeURIComponent($("model").value)}`;
    const options = {
      method: "POST", body: blob, headers: { "Content-Type": "application/octet-stream" },
    };
    const { predictions } = (await ask(path, options)).results[0];
    if (turn !== latest) return;
    URL.revokeObjectURL($("preview").src);
    $("preview").src = URL.createObjectURL(blob);
    $("predictions").replaceChildren(...predictions.map(predictionLine));
    $("result").hidden = false;
    const [best] = predictions;
    $("status").textContent = `${best.label}, ${percent(best.probability)}`;
  } catch (error) {
    if (turn !== latest) return;
    $("result").hidden = true;
    $("status").textContent = error.message;
  }
}

async function copy(id) {
  try {
    await navigator.clipboard.writeText($(id).textContent);
    $("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren($(id));
    $("copied").textContent = "Selected: copy it with the keyboard.";
  }
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  start();
});
$("model").addEventListener("change", () => {
  latest++;
  showModel().catch((error) => { $("trouble").textContent = error.message; });
});
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copy(button.dataset.copy));
}
takeImages(
  ([first]) => classify(first),
  (text) => { $("status").textContent = text; },
  () => !$("app").hidden,
);
start();
