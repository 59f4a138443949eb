// What a page shows of a classifier's scores: the most probable classes, and all of them as CSV.
import { $, element, percent, predictionLine } from "./shared.js";

const TOP = 5;
const rows = [];

/** Show the classes of an image, and return what to say of it. */
export function show(result, { scores }, card) {
  const predictions = mostProbable(probabilities(scores, card), card);
  result.list.replaceChildren(...predictions.map(predictionLine));
  rows.push(...predictions.map((one, rank) => ({ file: result.name, rank: rank + 1, ...one })));
  const [best] = predictions;
  return `${best.label}, ${percent(best.probability)}`;
}

export function clear() {
  rows.length = 0;
}

/** Turn the outputs of the network into probabilities, as its file says what they are. */
function probabilities(scores, { output_kind }) {
  if (output_kind === "probabilities") return [...scores];
  if (output_kind === "log_probabilities") return [...scores].map(Math.exp);
  const largest = Math.max(...scores);
  const powers = [...scores].map((score) => Math.exp(score - largest));
  const sum = powers.reduce((one, other) => one + other, 0);
  return powers.map((power) => power / sum);
}

function mostProbable(values, { labels }) {
  return values
    .map((value, index) => ({
      label: labels ? labels[index] : String(index + 1),
      index,
      probability: Number.isFinite(value) ? value : null,
    }))
    .sort((one, other) => other.probability - one.probability || one.index - other.index)
    .slice(0, TOP);
}

function csv() {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const columns = ["file", "rank", "label", "index", "probability"];
  const lines = rows.map((row) => columns.map((name) => quoted(String(row[name] ?? ""))));
  return [columns, ...lines].map((line) => `${line.join(",")}\r\n`).join("");
}

/** Prepare the page. */
export function start(card) {
  $("csv").hidden = false;
  $("csv").addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    const link = element("a", "");
    [link.href, link.download] = [url, `${card.model}.csv`];
    link.click();
    URL.revokeObjectURL(url);
  });
}
