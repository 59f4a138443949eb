"""What the page of the server asks, and what it shows of the answers; in node, without a server.

`test_serve_page.py` opens the page in Chromium. Skipped without node.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_scripts_support import needs_node, scripts, told

pytestmark = needs_node


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripts(tmp_path_factory.mktemp("page"))


APP = """
const asked = [];
globalThis.location = { origin: "http://here:8000" };
globalThis.Option = class {
  constructor(text, value) { Object.assign(this, { text, value }); }
};
const buttons = ["curl", "python"].map((copy) => {
  const button = document.createElement("button");
  button.dataset.copy = copy;
  return button;
});
document.querySelectorAll = (selector) => (selector === "[data-copy]" ? buttons : []);
const answers = {
  "/v2/repository/index": () => given.models.map((name) => ({ name })),
  "/card": () => ({ version: "3", provider: "CPU", can_predict: true, ...given.card }),
  "/predict": ({ body }) => body.answer,
};
globalThis.fetch = async (path, { body, ...options }) => {
  asked.push([path, { ...options, body: typeof body === "string" ? body : body && "an image" }]);
  if (given.token && options.headers.Authorization !== `Bearer ${given.token}`) {
    return Response.json({ error: "a token is needed" }, { status: 401 });
  }
  const value = await answers[path.split("?")[0]]({ body });
  if (value.status) return new Response(value.text, value);
  return Response.json(value);
};
const shown = (...ids) => Object.fromEntries(ids.map((id) => [id, $(id).text]));
const hidden = (...ids) => Object.fromEntries(ids.map((id) => [id, $(id).hidden]));
$("app").hidden = $("token-form").hidden = $("models").hidden = $("result").hidden = true;
$("model").value = given.model ?? "m";
await import("./app.js");
await settled();
const drop = async (answer) => {
  const file = { type: "image/png", answer };
  await document.fire("drop", { dataTransfer: { files: [file] } });
};
"""

CARD = "/card?model=m"


def test_the_models_and_the_card_of_the_chosen_one_are_shown(folder: Path) -> None:
    script = """
found = { asked: [...asked], models: $("model").children, hidden: hidden("models", "app", "result"),
  ...shown("status", "trouble", "curl", "python"), title: [document.title, $("title").textContent],
  card: $("card").children.map((one) => one.textContent), disabled: $("choose").disabled };
given.card = { can_predict: false };
$("model").value = "a b";
await $("model").fire("change");
await settled();
found.next = [asked.at(-1)[0], $("status").text, $("choose").disabled, $("camera").disabled];
"""
    found = told(folder, APP + script, {"models": ["m", "a b", "m"]})
    index, card = found["asked"]
    assert index[0] == "/v2/repository/index"
    assert (index[1]["method"], index[1]["body"]) == ("POST", '{"ready": true}')
    assert (index[1]["cache"], index[1]["headers"]) == ("no-store", {})
    assert card[0] == CARD
    assert found["models"] == [{"text": one, "value": one} for one in ("m", "a b")]
    assert found["hidden"] == {"models": False, "app": False, "result": True}
    assert (found["status"], found["trouble"], found["disabled"]) == ("No image yet.", "", False)
    assert (found["title"], found["card"][:4]) == (["m", "m"], ["Version", "3", "Runs on", "CPU"])
    address = "http://here:8000/predict?top=5&model=m"
    assert found["curl"] == f"curl --data-binary @image.jpg '{address}'"
    assert f'Request("{address}", Path("image.jpg").read_bytes())\n' in found["python"]
    assert "Authorization" not in found["python"]
    compile(found["python"], "example", "exec")
    assert found["next"] == ["/card?model=a%20b", "This model takes no images.", True, True]


@pytest.mark.parametrize(
    ("models", "trouble", "many"),
    [([], "No model is loaded.", True), (["m"], "", True), (["m", "n"], "", False)],
)
def test_one_model_is_no_choice_and_none_is_said(
    models: list[str], trouble: str, many: bool, folder: Path
) -> None:
    script = 'found = [$("trouble").text, $("models").hidden, $("token-form").hidden];'
    assert told(folder, APP + script, {"models": models}) == [trouble, many, True]


def test_a_token_is_asked_for_and_sent_with_everything(folder: Path) -> None:
    script = """
const state = () => [$("trouble").text, $("token-form").hidden, $("app").hidden];
const submit = async (token) => {
  $("token").value = token;
  await $("token-form").fire("submit");
  await settled();
};
found = { states: [state()], focus: document.activeElement === $("token") };
await drop({});
await submit("wrong");
found.states.push(state());
await submit(" s3cret ");
found.states.push(state());
found = { ...found, ...shown("curl", "python"), asked };
"""
    found = told(folder, APP + script, {"models": ["m"], "token": "s3cret"})
    assert found["states"] == [
        ["", False, True],
        ["The token is wrong.", False, True],
        ["", True, False],
    ]
    assert found["focus"]
    sent = [(path, options["headers"].get("Authorization")) for path, options in found["asked"]]
    index = "/v2/repository/index"
    assert sent == [
        (index, None),
        (index, "Bearer wrong"),
        (index, "Bearer s3cret"),
        (CARD, "Bearer s3cret"),
    ]
    # The examples do not show it.
    assert " -H 'Authorization: Bearer TOKEN' 'http://here" in found["curl"]
    assert 'request.add_header("Authorization", "Bearer TOKEN")\n' in found["python"]
    assert "s3cret" not in found["curl"] + found["python"]


def predictions(*classes: tuple[str, float]) -> dict[str, Any]:
    listed = [
        {"label": label, "index": index, "probability": probability}
        for index, (label, probability) in enumerate(classes)
    ]
    return {"results": [{"predictions": listed}]}


def test_an_image_is_classified_and_an_error_is_said_in_the_server_s_words(folder: Path) -> None:
    script = """
await drop(given.answer);
await settled();
found = { asked: asked.at(-1), ...shown("status", "predictions"), ...hidden("result"),
  image: [...urls.keys()].indexOf($("preview").src) };
await drop(given.answer);
await settled();
found.revoked = revoked.filter(Boolean);
await drop({ status: 422, text: '{"error": "no image"}' });
await settled();
found.error = [$("status").text, $("result").hidden];
await drop({ status: 502, statusText: "Bad Gateway", text: "<html>" });
await settled();
found.other = $("status").text;
"""
    answer = predictions(("cat", 0.75), ("dog", 0.25))
    found = told(folder, APP + script, {"models": ["m"], "answer": answer, "model": "a&b"})
    path, options = found["asked"]
    assert path == "/predict?top=5&model=a%26b"
    assert (options["method"], options["body"]) == ("POST", "an image")
    assert options["headers"] == {"Content-Type": "application/octet-stream"}
    assert (found["status"], found["result"], found["image"]) == ("cat, 75.0 %", False, 0)
    assert found["predictions"] == "cat 75.0 % dog 25.0 %"
    # The image before is given back, and no other.
    assert found["revoked"] == ["blob:0"]
    assert found["error"] == ["no image", True]
    assert found["other"] == "Bad Gateway"


@pytest.mark.parametrize("fails", [False, True])
def test_an_answer_that_comes_late_is_not_shown(fails: bool, folder: Path) -> None:
    """Neither that of an earlier image, nor of another model."""
    script = """
let late = null;
const first = new Promise((resolve) => { late = resolve; });
await drop(first);
found = [$("status").text];
await drop(given.answer);
await settled();
late(given.late);
await settled();
found.push($("status").text);
await drop(new Promise((resolve) => { late = resolve; }));
await $("model").fire("change");
await settled();
late(given.late);
await settled();
found.push($("status").text, $("result").hidden);
"""
    late: Any = {"status": 500, "text": "{}"} if fails else predictions(("late", 1.0))
    given = {"models": ["m"], "answer": predictions(("cat", 1.0)), "late": late}
    found = told(folder, APP + script, given)
    assert found == ["Classifying…", "cat, 100.0 %", "No image yet.", True]


@pytest.mark.parametrize("allowed", [True, False])
def test_examples_are_copied_or_selected(allowed: bool, folder: Path) -> None:
    script = """
const copied = [];
const clipboard = { async writeText(text) {
  if (!given.allowed) throw new Error("not allowed");
  copied.push(text);
} };
Object.defineProperty(globalThis, "navigator", { value: { clipboard }, configurable: true });
globalThis.getSelection = () => ({ selectAllChildren: (one) => copied.push(one.text) });
await buttons[0].fire("click");
await settled();
found = [copied[0] === $("curl").text, $("copied").text];
"""
    found = told(folder, APP + script, {"models": ["m"], "allowed": allowed})
    said = "Copied." if allowed else "Selected: copy it with the keyboard."
    assert found == [True, said]
