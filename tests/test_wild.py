"""Published files of other people: each converts, or is refused with the right message.

Models with inputs and outputs that Torch7 computed (`*.io.t7`) must give those outputs. The
relative tolerance of 1e-4 allows for networks of many float32 layers. We may not redistribute the
files: without them these tests are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import SHARED, relative_error, wild_files

from torchlift.converters import TorchliftError, t7
from torchlift.converters.modules import load_conversion
from torchlift.converters.modules.selfcheck import self_check

WILD = SHARED / "wild"

#: Files without a model, or with one that cannot be converted: start of the name → the message.
REFUSED = {
    "Element-Research+rnn__test__mnistsample": "no model .* it holds a torch.FloatTensor",
    "FreeeG+RNN__examples": "no model",
    "Nihal-M+resnet-viewpoint-regressor": "no model .* modelFile names the file",
    **{
        f"bshillingford+python-torchfile__testfiles_x86_64__{name}": "no model in this file"
        for name in (
            *("custom_class", "doubletensor", "floattensor", "function", "hello", "list_table"),
            *("map_table", "nngraph_node", "recursive", "tds"),
        )
    },
    "anuragranj+spynet__checkpoint": "no model in this file: it holds a dataLoader",
    "flynn-chen+Torch-RNN-Trained__Eli__vocab": "no model",
    "hwaranlee+KoreanLM-demo__exp__vocab": "no model",
    "intel-analytics+BigDL": "no model in this file: it holds a torch.FloatTensor",
    "shreka116+simple_registration": "no model .* modelFile names the file",
    "zeryx+subredditClassifier__classes": "no model",
    "jbr97+deepmask__model": "truncated",
    "jsenellart+luatorch-onnx-convert__test__data__model1": "several modules",
    # Three objects in a row, the first a tensor.
    "torch+demos__face-detector__face.net@f25a888": "no model .* it holds a torch.DoubleTensor",
    "torch+demos__road-net__preproc": "no model",
    "tuotuoxp+cpp-torch__example__basic__x": "no model",
    "tuotuoxp+cpp-torch__example__basic__y": "no model",
    # They compute by Lua functions, which are never run.
    "twitter+torch-autograd__test__data__autoCriterion": "no converter for autograd",
    "twitter+torch-autograd__test__data__autoModel": "no converter for autograd",
}


def starting(table: dict[str, str], name: str) -> str | None:
    """Return the entry of the first key that is a prefix of a name."""
    return next((entry for start, entry in table.items() if name.startswith(start)), None)


def files() -> list[Any]:
    return [pytest.param(path, id=path.name) for path in wild_files()]


def recorded() -> list[Any]:
    """Return every call that Torch7 computed, as (file, call)."""
    return [
        pytest.param(path.with_name(path.name.removesuffix(".io.t7")), call, id=f"{path.name}-{i}")
        for path in sorted(WILD.glob("*.io.t7"))
        for i, call in enumerate(t7.to_torch(t7.LuaTable.from_list(t7.load(path).to_list())))
    ]


@pytest.mark.filterwarnings("ignore::torchlift.converters.t7.T7Warning")
@pytest.mark.skipif(not WILD.is_dir(), reason="needs the shared files")
@pytest.mark.parametrize("path", files())
def test_every_file_converts_or_is_refused_with_a_reason(path: Path) -> None:
    message = starting(REFUSED, path.name)
    if message:
        with pytest.raises(TorchliftError, match=message):
            load_conversion(path)
        return
    conversion = load_conversion(path)
    assert conversion.layers


@pytest.mark.skipif(not WILD.is_dir(), reason="needs the shared files")
@pytest.mark.parametrize(("path", "call"), recorded())
def test_published_models_give_torch7s_outputs(path: Path, call: dict[str, Any]) -> None:
    # The paths in these files have a dot before every name, also before one that is no identifier.
    name = call["path"].removeprefix(".")
    at = name if name.isidentifier() or not name else f'["{name}"]'
    conversion = load_conversion(path, at=at)
    assert conversion.layers[-1].source.class_name == call["class"]
    with torch.no_grad():
        output = conversion.module.eval().to(call["input"].dtype)(call["input"])
    assert relative_error(output, call["output"]) < 1e-4


@pytest.mark.skipif(not WILD.is_dir(), reason="needs the shared files")
def test_a_face_detector_of_2011_reproduces_its_stored_activations() -> None:
    """Its classes serialized themselves, and the container was written without its class.

    The tolerance is for an ASCII file with 6 digits per number: 1e-5 of the largest value.
    """
    conversion = load_conversion(WILD / "torch+demos__face-detector__face.net@a9a316d")
    assert [note.text for note in conversion.notes if "without its class" in note.text]
    report = self_check(conversion, tolerance=1e-5)
    assert [layer.status for layer in report.layers] == ["unchecked"] + ["equal"] * 8
