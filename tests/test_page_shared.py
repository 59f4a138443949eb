"""What both pages share, in node: the card of a model, and how images are taken.

With the browser of `fake_browser.mjs`; skipped without node.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from page_scripts_support import needs_node, scripts, told

pytestmark = needs_node


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripts(tmp_path_factory.mktemp("page"))


SHARED = """
const shared = await import("./shared.js");
found = {};
for (const [name, card] of Object.entries(given.cards)) {
  shared.showCard(card, [["Runs on", "a CPU"]]);
  const texts = $("card").children.map((one) => one.textContent);
  found[name] = [Object.fromEntries(texts.flatMap((one, i) => i % 2 ? [] : [[one, texts[i + 1]]])),
    $("labels").textContent];
}
const taken = [];
let ready = false;
shared.takeImages((list) => taken.push(list.map((file) => file.name)), () => {}, () => ready);
const [png, text] = [{ name: "a.png", type: "image/png" }, { name: "b.txt", type: "text/plain" }];
$("file").files = [png, text];
await $("file").fire("change");
ready = true;
$("file").value = "a.png";
await $("file").fire("change");
await document.fire("dragover");
found.over = [...$("drop").classList.names];
await document.fire("drop", { dataTransfer: { files: [text, png] } });
found.left = [...$("drop").classList.names];
await document.fire("paste", { clipboardData: { files: [text] } });
await document.fire("paste", { clipboardData: { files: [png] } });
found = { ...found, taken, value: $("file").value };
"""


def test_a_card_shows_what_a_file_says_and_images_are_taken_when_they_can_be(folder: Path) -> None:
    preprocessing = {"color": "BGR", "size": [32, 48], "mean": [1.5], "crop": None, "std": []}
    full = {
        "sha256": "abc",
        "output_kind": "logits",
        "arithmetic": "int8",
        "labels": ["cat", "dog"],
        "preprocessing": preprocessing | {"round_pixels": False},
        "image_to_image": None,
        "source": {"file": "m.t7", "sha256": "123"},
        "torchlift_version": "0.2.0",
        "check": {"passed": True, "profile": "int8", "count": 9, "agreeing": 8},
    }
    bare = dict.fromkeys(full) | {"check": {"passed": False, "profile": "fp16", "count": None}}
    cards = {"full": full, "bare": bare, "unchecked": dict.fromkeys(full)}
    found = told(folder, SHARED, {"cards": cards})
    assert found["full"] == [
        {
            "Runs on": "a CPU",
            "SHA-256": "abc",
            "Gives": "logits",
            "Arithmetic": "int8",
            "Classes": "2",
            "Preprocessing": "color BGR; size 32, 48; mean 1.5",
            "Source": "m.t7, SHA-256 123",
            "Written by": "torchlift 0.2.0",
            "Check report": "passed, profile int8, 8 of 9 predictions agree",
        },
        "cat, dog",
    ]
    unlabeled = "The file has no labels."
    failed = {"Runs on": "a CPU", "Check report": "FAILED, profile fp16"}
    assert found["bare"] == [failed, unlabeled]
    assert found["unchecked"][0]["Check report"] == "none beside the file"
    # Chosen files are tried whatever they are; of what is dropped or pasted, images.
    assert found["taken"] == [["a.png", "b.txt"], ["a.png"], ["a.png"]]
    assert (found["over"], found["left"], found["value"]) == (["over"], [], "")


CAMERA = """
const shared = await import("./shared.js");
const [taken, said, asked, tracks] = [[], [], [], []];
shared.takeImages((list) => taken.push(...list), (text) => said.push(text), () => true);
const getUserMedia = async (wanted) => {
  asked.push(wanted);
  if (!given.allowed) throw new Error("not allowed");
  return { getTracks: () => [{ stop: () => tracks.push("stopped") }] };
};
const value = { mediaDevices: { getUserMedia } };
Object.defineProperty(globalThis, "navigator", { value, configurable: true });
Object.assign($("video"), { play: async () => {}, videoWidth: 6, videoHeight: 4 });
$("camera-box").hidden = true;
await $("camera").fire("click");
found = { asked, said, open: !$("camera-box").hidden };
const drawn = [];
for (const blob of [null, "pixels"]) {
  const canvas = { getContext: () => ({ drawImage: (...what) => drawn.push(what.slice(1)) }) };
  canvas.toBlob = (use, type) => use(blob && new Blob([blob], { type }));
  document.createElement = () => canvas;
  await $("shoot").fire("click");
  drawn.push([canvas.width, canvas.height]);
}
await $("stop").fire("click");
found = { ...found, drawn, tracks, shut: $("camera-box").hidden,
  taken: taken.map((file) => [file.name, file.size]) };
"""


@pytest.mark.parametrize("allowed", [True, False])
def test_the_camera_gives_images_until_it_is_closed(allowed: bool, folder: Path) -> None:
    found = told(folder, CAMERA, {"allowed": allowed})
    assert found["asked"] == [{"video": {"facingMode": "environment"}}]
    assert (found["open"], found["shut"]) == (allowed, True)
    assert found["tracks"] == ["stopped"] * allowed
    refused = "The camera cannot be used here: it needs HTTPS or this machine."
    assert found["said"] == ([] if allowed else [refused])
    # Where the browser gives no image none is taken.
    assert found["taken"] == [["camera.png", 6]]
    assert found["drawn"] == [[0, 0], [6, 4]] * 2
