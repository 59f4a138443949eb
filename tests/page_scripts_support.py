"""The scripts of the pages in node, with the browser of `fake_browser.mjs` around them."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")

#: A card of a network that changes nothing.
IMAGE_CARD: dict[str, Any] = {
    "takes_image": False,
    "order": [0, 1, 2],
    "levels": None,
    "border": 0,
    "multiple": 1,
    "scale": None,
    "keeps_color": False,
    "channels": 3,
    "gives_classes": False,
    "palette": [],
    "out_order": [0, 1, 2],
    "gain": [1, 1, 1],
    "offset": [0, 0, 0],
}


def scripts(folder: Path) -> Path:
    """Copy the scripts of both pages into a folder, with a runtime that is none."""
    for package in ("converters.onnx.page", "cli.serve.page"):
        where, _, name = package.rpartition(".")
        for file in (files(f"torchlift.{where}") / name).iterdir():
            if file.name.endswith(".js"):
                (folder / file.name).write_bytes(file.read_bytes())
    shutil.copy(Path(__file__).with_name("fake_browser.mjs"), folder)
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    return folder


def told(folder: Path, script: str, given: Any = None) -> Any:
    """Return the value of `found` in a script, JSON; it can use `given` and the fake browser."""
    head = """
import { readFileSync } from "node:fs";
import { clicked, revoked, settled, urls } from "./fake_browser.mjs";
const given = JSON.parse(readFileSync(0, "utf8"));
let found = null;
"""
    tail = "\nconsole.log(JSON.stringify(found));"
    result = subprocess.run(
        [str(NODE), "--input-type=module", "-e", head + script + tail],
        cwd=folder,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
