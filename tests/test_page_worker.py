"""The page around a model: the worker that loads and runs it, and what is said meanwhile.

In node, with stand-ins for the browser, the network and the runtime; skipped without node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_scripts_support import IMAGE_CARD, needs_node, scripts, told

pytestmark = needs_node

#: A runtime whose model gives what it was given, and refuses images of nine rows.
RUNTIME = """
export const env = { wasm: {} };
export class Tensor {
  constructor(type, data, dims) { Object.assign(this, { type, data, dims }); }
}
export const InferenceSession = {
  async create(data, options) {
    if (data[0] === 9) throw new Error("no model");
    globalThis.created = { data: [...data], ...options, threads: env.wasm.numThreads, NAME };
    return {
      inputNames: ["image"], outputNames: ["scores"],
      async run({ image: { type, data, dims } }) {
        if (dims[0] === 9) throw new Error("too high");
        globalThis.created.input = { type, dims };
        return { scores: { data: Float32Array.from(data), dims: [1, 3, dims[0], dims[1]] } };
      },
    };
  },
};
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = scripts(tmp_path_factory.mktemp("page"))
    for name in ("wasm", "webgpu"):
        text = RUNTIME.replace("NAME", f'runtime: "{name}"')
        (made / f"ort.{name}.min.mjs").write_text(text, encoding="utf-8")
    return made


WORKER = """
const messages = [], asked = [], canvases = [];
let hear = null;
globalThis.addEventListener = (_, listener) => { hear = listener; };
globalThis.postMessage = (message) => messages.push(message);
globalThis.fetch = async (url) => {
  asked.push(String(url));
  const body = new ReadableStream({
    start(control) {
      for (const chunk of given.chunks) control.enqueue(Uint8Array.from(chunk));
      control.close();
    },
  });
  return new Response(body, { status: given.status ?? 200, statusText: "Not There" });
};
globalThis.createImageBitmap = async (blob, options) => {
  if (!blob.rgba) throw new Error("what the browser says");
  await new Promise((resolve) => setTimeout(resolve, blob.wait ?? 0));
  const rgba = Uint8ClampedArray.from(blob.rgba);
  return { ...blob, rgba, options, close() { this.closed = 1; } };
};
globalThis.ImageData = class {
  constructor(data, width, height) { Object.assign(this, { data: [...data], width, height }); }
};
globalThis.OffscreenCanvas = class {
  constructor(...size) { this.size = size; canvases.push(this); }
  getContext() { return this; }
  drawImage(bitmap) { this.bitmap = bitmap; }
  getImageData() { return { data: this.bitmap.rgba }; }
  putImageData(data) { this.put = data; }
  async convertToBlob({ type }) { return { type, of: this.size }; }
};
await import("./worker.js");
for (const data of given.messages) hear({ data });
const ends = ["ready", "failed", "result", "problem"];
while (messages.filter(({ type }) => ends.includes(type)).length < given.messages.length) {
  await new Promise((resolve) => setTimeout(resolve, 1));
}
found = { messages, asked, canvases, created: globalThis.created ?? null };
"""


def worked(folder: Path, *messages: dict[str, Any], chunks: Any, **given: Any) -> dict[str, Any]:
    asked = {"messages": messages, "chunks": chunks, **given}
    found: dict[str, Any] = told(folder, WORKER, asked)
    return found


def load(**changes: Any) -> dict[str, Any]:
    card = {"file": "m #1.onnx", "bytes": 5, "image": None}
    return {"type": "load", "card": card | changes.pop("card", {}), "gpu": False, **changes}


CHUNKS = [[1, 2], [3, 4, 5]]


@pytest.mark.parametrize("gpu", [False, True])
def test_a_model_is_loaded_whole_and_tells_how_far_it_is(gpu: bool, folder: Path) -> None:
    found = worked(folder, load(gpu=gpu), chunks=CHUNKS)
    assert found["asked"] == [f"{folder.as_uri()}/m%20%231.onnx"]
    first, second, ready = found["messages"]
    assert [first["fraction"], second["fraction"]] == [0.4, 1]
    name = "webgpu" if gpu else "wasm"
    assert (ready["type"], ready["provider"]) == ("ready", name)
    assert found["created"] == {
        "data": [1, 2, 3, 4, 5],
        "executionProviders": ["webgpu", "wasm"] if gpu else ["wasm"],
        "threads": 1,
        "runtime": name,
    }


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"chunks": [[1, 2], [3, 4]]}, "m #1.onnx ends after 4 of 5 bytes"),
        ({"chunks": [[1, 2], [3, 4, 5, 6]]}, "m #1.onnx is another file than the page's"),
        ({"chunks": CHUNKS, "status": 404}, "m #1.onnx: 404 Not There"),
        ({"chunks": [[9, 2, 3, 4, 5]]}, "no model"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_said(
    given: dict[str, Any], problem: str, folder: Path
) -> None:
    last = worked(folder, load(), **given)["messages"][-1]
    assert last == {"type": "failed", "text": f"The model cannot be loaded: {problem}"}


def image(number: int, rows: int = 1, **others: Any) -> dict[str, Any]:
    """Return the message for an image of two columns, which the browser can read."""
    rgba = [value + number for _ in range(2 * rows) for value in (1, 2, 3, 255 - number)]
    blob = {"width": 2, "height": rows, "rgba": rgba, **others}
    return {"type": "run", "id": number, "blob": blob}


def test_images_run_one_after_the_other_and_one_that_fails_stops_no_other(folder: Path) -> None:
    found = worked(
        folder,
        load(),
        image(1, wait=20),
        image(2, rgba=None),
        image(3, rows=9),
        image(4, rows=2),
        chunks=CHUNKS,
    )
    *_, first, second, third, fourth = found["messages"]
    assert [one["id"] for one in (first, second, third, fourth)] == [1, 2, 3, 4]
    assert (first["type"], first["width"], first["height"]) == ("result", 2, 1)
    assert [*first["scores"].values()] == [2, 3, 4] * 2
    assert second["text"] == "no image that this browser can read"
    assert third["text"] == "the model fails: too high"
    assert found["created"]["input"] == {"type": "uint8", "dims": [2, 2, 3]}
    assert [*fourth["scores"].values()] == [5, 6, 7] * 4
    # The pixels are as they are in the file, but turned as EXIF says.
    bitmap = found["canvases"][0]["bitmap"]
    assert bitmap["options"] == {
        "colorSpaceConversion": "none",
        "premultiplyAlpha": "none",
        "imageOrientation": "from-image",
    }
    assert (found["canvases"][0]["size"], bitmap["closed"]) == ([2, 1], 1)


def test_a_network_of_images_gives_a_png(folder: Path) -> None:
    steps = IMAGE_CARD | {"takes_image": True}
    found = worked(folder, load(card={"image": steps}), image(0, rows=3), chunks=CHUNKS)
    result = found["messages"][-1]
    assert (result["png"], result["made"]) == (
        {"type": "image/png", "of": [2, 3]},
        {"width": 2, "height": 3},
    )
    assert result["counts"] is None
    put = found["canvases"][-1]["put"]
    assert (put["width"], put["height"], len(put["data"])) == (2, 3, 24)


PAGE = """
const workers = [];
globalThis.Worker = class {
  constructor(...words) {
    Object.assign(this, { words, sent: [], listeners: {} });
    workers.push(this);
  }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  postMessage(message) { this.sent.push(message); }
  terminate() { this.ended = true; }
  tell(data) { this.listeners.message({ data }); }
};
let adapter = null;
const gpu = given.gpu ? { requestAdapter: async () => adapter } : undefined;
Object.defineProperty(globalThis, "navigator", { value: { gpu }, configurable: true });
$("model").textContent = JSON.stringify(given.card);
$("gpu").checked = false;
await import("./page.js");
const [worker] = workers;
const status = () => $("status").textContent;
const choose = async (...names) => {
  $("file").files = names.map((name) => ({ name }));
  await $("file").fire("change");
};
"""

CARD = {
    "model": "m",
    "file": "m.onnx",
    "bytes": 1_500_000,
    "labels": ["cat", "dog"],
    "output_kind": "probabilities",
    "onnxruntime_web": "9.9",
    "has_webgpu": True,
    "image": None,
}


def test_a_page_says_what_it_does_and_shows_results_as_they_come(folder: Path) -> None:
    script = """
found = { sent: worker.sent, words: worker.words, said: [], disabled: [$("choose").disabled] };
worker.tell({ type: "progress", fraction: 0.404 });
found.said.push(status(), $("loading").value);
worker.tell({ type: "ready", provider: "wasm", milliseconds: 12 });
found.said.push(status());
found.disabled.push($("choose").disabled, $("camera").disabled, !$("loading").hidden);
found.card = $("card").children.map((one) => one.textContent);
await choose("a.png", "b.png");
found.said.push(status());
const [first, second] = $("results").children;
worker.tell({ type: "result", id: 0, width: 4, height: 5, milliseconds: 7, scores: [0.25, 0.75] });
found.said.push(status());
worker.tell({ type: "problem", id: 1, text: "too high" });
found.said.push(status());
found.articles = [first.text, second.text];
found.classes = [...second.classList.names];
found.title = [document.title, $("title").textContent, $("after").hidden];
worker.listeners.error({ message: "blocked" });
found.said.push(status());
worker.listeners.error({});
found.said.push(status());
worker.tell({ type: "failed", text: "no model" });
found.said.push(status());
"""
    found = told(folder, PAGE + script, {"card": CARD, "gpu": True})
    assert found["words"] == ["worker.js", {"type": "module"}]
    load_message, *runs = found["sent"]
    assert load_message == {"type": "load", "card": CARD, "gpu": False}
    assert [(one["type"], one["id"], one["blob"]["name"]) for one in runs] == [
        ("run", 0, "a.png"),
        ("run", 1, "b.png"),
    ]
    cannot = "The runtime cannot be loaded: "
    assert found["said"] == [
        *("Loading the model, 40 %", 0.404, "Ready, after 12 ms."),
        "Computing, 2 to go…",
        "Computing, 1 to go…",
        "b.png: too high",
        f"{cannot}blocked",
        f"{cannot}is this page served over HTTP?",
        "no model",
    ]
    assert found["disabled"] == [True, False, False, False]
    assert found["card"][:4] == ["File", "m.onnx, 1.5 MB", "Runs on", "onnxruntime-web 9.9, wasm"]
    assert found["articles"] == ["a.png dog 75.0 % cat 25.0 % 4×5, 7 ms", "b.png too high"]
    assert (found["classes"], found["title"]) == (["problem"], ["m", "m", False])


def test_what_was_cleared_is_not_shown_and_a_model_that_is_loaded_anew_stops_what_waits(
    folder: Path,
) -> None:
    script = """
worker.tell({ type: "ready", provider: "wasm", milliseconds: 1 });
await choose("a.png");
await $("clear").fire("click");
worker.tell({ type: "result", id: 0, width: 4, height: 5, milliseconds: 7, scores: [0.25, 0.75] });
found = { left: $("results").children.length, hidden: $("after").hidden, revoked,
  focus: document.activeElement === $("choose"), said: [status()] };
await choose("b.png");
const [article] = $("results").children;
$("gpu").checked = true;
await $("gpu").fire("change");
found.said.push(status(), $("gpu").checked, workers.length);
adapter = {};
$("gpu").checked = true;
await $("gpu").fire("change");
found.again = [workers.length, worker.ended, workers[1].sent[0].gpu, article.text];
found.disabled = $("choose").disabled;
await choose("c.png");
found.taken = $("results").children.length;
workers[1].tell({ type: "ready", provider: "webgpu", milliseconds: 1 });
await choose("d.png");
workers[1].tell({ type: "result", id: 2, width: 1, height: 1, milliseconds: 1, scores: [1, 0] });
found.said.push(status());
"""
    found = told(folder, PAGE + script, {"card": CARD, "gpu": True})
    assert (found["left"], found["hidden"], found["focus"]) == (0, True, True)
    assert found["revoked"] == ["blob:0"]
    finds_none = "This browser finds no GPU for WebGPU."
    assert found["said"][1:] == [finds_none, False, 1, "d.png: cat, 100.0 %"]
    assert found["again"] == [2, True, True, "b.png stopped"]
    # Until the model is there no image is taken.
    assert (found["disabled"], found["taken"]) == (True, 1)


def test_a_network_of_images_shows_what_it_made(folder: Path) -> None:
    script = """
worker.tell({ type: "ready", provider: "wasm", milliseconds: 1 });
await choose("a.png");
const made = { width: 8, height: 10 };
const sizes = { width: 4, height: 5, milliseconds: 7 };
worker.tell({ type: "result", id: 0, ...sizes, png: {}, made, counts: [] });
found = [status(), $("results").children[0].text];
"""
    found = told(folder, PAGE + script, {"card": CARD | {"image": {"palette": []}}, "gpu": False})
    assert found[0] == "a.png: 8×10"
    assert found[1].startswith("before after ")


@pytest.mark.parametrize(
    ("changes", "gpu", "hidden"),
    [
        ({}, True, [False, False]),
        ({}, False, [True, False]),
        ({"has_webgpu": False}, True, [True, False]),
        ({"labels": None}, True, [False, False]),
        ({"labels": None, "image": {}}, True, [False, True]),
        ({"image": {}}, True, [False, False]),
    ],
)
def test_what_a_page_has_no_use_for_is_hidden(
    changes: dict[str, Any], gpu: bool, hidden: list[bool], folder: Path
) -> None:
    script = 'found = [$("gpu-row").hidden, $("labels-box").hidden];'
    assert told(folder, PAGE + script, {"card": CARD | changes, "gpu": gpu}) == hidden
