// The page of `torchlift serve`: an image in, the most probable classes out.
"use strict";

const $ = (id) => document.getElementById(id);
const TOP = 5;
let token = "";
let stream = null;
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
  const facts = [
    ["Version", card.version],
    ["SHA-256", card.sha256],
    ["Runs on", card.provider],
    ["Gives", card.output_kind],
    ["Arithmetic", card.arithmetic],
    ["Classes", card.labels && String(card.labels.length)],
    ["Preprocessing", card.preprocessing && describe(card.preprocessing)],
    ["Source", card.source && Object.values(card.source).join(", SHA-256 ")],
    ["Written by", card.torchlift_version && `torchlift ${card.torchlift_version}`],
    ["Check report", card.check ? verdict(card.check) : "none beside the file"],
  ];
  $("card").replaceChildren(
    ...facts.filter(([, value]) => value).flatMap(([term, value]) => [
      element("dt", term), element("dd", value),
    ]),
  );
  $("labels").textContent = card.labels ? card.labels.join(", ") : "The file has no labels.";
  $("curl").textContent = curlExample(name);
  $("python").textContent = pythonExample(name);
  $("status").textContent = card.can_predict ? "No image yet." : "This model takes no images.";
  $("choose").disabled = $("camera").disabled = !card.can_predict;
  $("result").hidden = true;
}

function describe(preprocessing) {
  const shown = Object.entries(preprocessing).filter(
    ([, value]) => value !== null && value !== false && String(value) !== "",
  );
  return shown.map(([name, value]) => `${name} ${[].concat(value).join(", ")}`).join("; ");
}

function verdict(check) {
  const agreeing = check.count ? `, ${check.agreeing} of ${check.count} predictions agree` : "";
  return `${check.passed ? "passed" : "FAILED"}, profile ${check.profile}${agreeing}`;
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

function element(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
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
    $("predictions").replaceChildren(...predictions.map(row));
    $("result").hidden = false;
    const [best] = predictions;
    $("status").textContent = `${best.label}, ${percent(best.probability)}`;
  } catch (error) {
    if (turn !== latest) return;
    $("result").hidden = true;
    $("status").textContent = error.message;
  }
}

function row(prediction) {
  const line = document.createElement("li");
  const name = element("div", "");
  name.className = "name";
  name.append(element("span", prediction.label), element("span", percent(prediction.probability)));
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = prediction.probability ?? 0;
  bar.setAttribute("aria-label", `Probability of ${prediction.label}`);
  line.dataset.probability = prediction.probability;
  line.dataset.index = prediction.index;
  line.append(name, bar);
  return line;
}

function percent(probability) {
  return probability === null ? "not a number" : `${(100 * probability).toFixed(1)} %`;
}

function firstImage(list) {
  return [...(list ?? [])].find((file) => file.type.startsWith("image/"));
}

async function openCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    $("video").srcObject = stream;
    await $("video").play();
    $("camera-box").hidden = false;
    $("shoot").focus();
  } catch {
    $("status").textContent = "The camera cannot be used here: it needs HTTPS or this machine.";
  }
}

function closeCamera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  $("camera-box").hidden = true;
  $("camera").focus();
}

function shoot() {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [$("video").videoWidth, $("video").videoHeight];
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  canvas.toBlob((blob) => blob && classify(blob), "image/png");
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
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  if ($("file").files.length) classify($("file").files[0]);
  $("file").value = "";
});
$("camera").addEventListener("click", openCamera);
$("stop").addEventListener("click", closeCamera);
$("shoot").addEventListener("click", shoot);
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copy(button.dataset.copy));
}
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const file = firstImage(event.dataTransfer.files);
  if (file && !$("app").hidden) classify(file);
});
document.addEventListener("paste", (event) => {
  const file = firstImage(event.clipboardData.files);
  if (file && !$("app").hidden) classify(file);
});
start();
