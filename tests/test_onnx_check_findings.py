"""What a check says of a file's versions, inputs, outputs, entries and labels.

Each sentence is compared with a model and a file that are put together by hand: nothing is run,
and nothing is exported.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.input_shapes import InputShape, InputShapes, parse_inputs
from torchlift.converters.onnx.checker.graph_checks import (
    _compare_entries,
    _foreign_interface,
    _interface,
    _labels,
    _metadata,
    _structure,
    _vocabularies,
    _what_it_says,
)
from torchlift.converters.onnx.checker.report import Finding
from torchlift.converters.onnx.exporter.export import baked_metadata, metadata_of
from torchlift.converters.saved import SavedModel
from torchlift.converters.saved.model import Provenance
from torchlift.converters.vocabulary import Vocabulary

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
Values = dict[str, list[Any]]


def values(shapes: Values, kind: int = FLOAT) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, kind, axes) for name, axes in shapes.items()]


@pytest.mark.parametrize(
    ("opset", "version", "passes"),
    [(13, 7, True), (18, 8, True), (12, 8, False), (19, 8, False), (18, 6, False), (18, 9, False)],
)
def test_versions_are_those_that_older_runtimes_read(
    opset: int, version: int, passes: bool, tmp_path: Path
) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    made = helper.make_graph([node], "g", values({"x": ["n", 3]}), values({"y": ["n", 3]}))
    opsets = [helper.make_opsetid("our.own", 99), helper.make_opsetid("", opset)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=version)
    onnx.save(model, tmp_path / "f.onnx")
    found = _structure(tmp_path / "f.onnx", model)
    text = f"1 nodes, opset {opset}, IR {version}"
    expected = ": opset 13 to 18 and IR 7 to 8 were expected, which older runtimes read too"
    assert found == Finding("structure", passes, text if passes else text + expected)
    # Another program may write any version.
    assert _structure(tmp_path / "f.onnx", model, any_version=True) == Finding(
        "structure", True, text
    )
    # What its nodes give is what it says.
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4
    onnx.save(model, tmp_path / "f.onnx")
    assert not _structure(tmp_path / "f.onnx", model, any_version=True).passed
    model.graph.node[0].op_type = "Reluu"
    onnx.save(model, tmp_path / "f.onnx")
    found = _structure(tmp_path / "f.onnx", model, any_version=True)
    assert not found.passed
    assert "Reluu" in found.text
    assert "\n" not in found.text


def pair_of(
    inputs: Values, outputs: Values, shapes: str | None, kind: int = FLOAT, **changes: Any
) -> Any:
    """Return what `_interface` reads of a pair: by default the names are right."""
    made = SimpleNamespace(input=values(inputs, kind), output=values(outputs))
    parsed = None if shapes is None else parse_inputs(shapes)
    said = {
        "onnx_model": SimpleNamespace(graph=made, producer_name="", producer_version=""),
        "model": SimpleNamespace(input_shapes=parsed),
        "metadata": SimpleNamespace(baked_preprocessing=None),
        "takes_image": False,
        "states": 0,
        "input_names": [*inputs],
        "output_names": [*outputs],
        "shapes": InputShapes(
            [InputShape(tuple("N" if i == 0 else a for i, a in enumerate(axes))) for axes in
             inputs.values()]
        ),
    }  # fmt: skip
    return SimpleNamespace(**{**said, **changes})


GOOD = {"x": ["batch", 3, 8, 6]}
OUT = {"logits": ["batch", 5]}
TEXT = "x batch×3×8×6 float32 → logits batch×5 float32"


@pytest.mark.parametrize(
    ("inputs", "outputs", "shapes", "changes", "problem"),
    [
        (GOOD, OUT, "3x8x6", {}, ""),
        (GOOD, OUT, None, {}, ""),
        (GOOD, {"logits": ["5*batch"]}, "3x8x6", {}, ""),
        (GOOD, OUT, "3x8x6", {"input_names": ["input"]}, "the name input was expected"),
        (GOOD, OUT, "3x8x6", {"output_names": ["a", "b"]}, "the name a, b was expected"),
        ({"x": ["n", 3, 8, 6]}, OUT, "3x8x6", {}, "every shape must hold the axis 'batch'"),
        (GOOD, {"logits": [1, 5]}, "3x8x6", {}, "every shape must hold the axis 'batch'"),
        ({**GOOD, "z": ["n", 4]}, OUT, "3x8x6,4", {}, "every shape must hold the axis 'batch'"),
        (GOOD, {"a": ["batch", 5], "b": [5]}, "3x8x6", {}, "every shape must hold the axis"),
        (GOOD, OUT, "3x8x7", {}, "an input of 3x8x7 was expected"),
        (GOOD, OUT, "3x8x6,4", {}, "inputs of 3x8x6,4 were expected"),
        # States come behind the inputs.
        ({**GOOD, "state_1": ["batch", 4]}, OUT, "3x8x6", {"states": 1}, ""),
        ({**GOOD, "state_1": ["batch", 4]}, OUT, "3x8x6", {}, "inputs of 3x8x6 were expected"),
    ],
)
def test_inputs_and_outputs_are_those_of_the_model(
    inputs: Values, outputs: Values, shapes: str | None, changes: dict[str, Any], problem: str
) -> None:
    found = _interface(pair_of(inputs, outputs, shapes, **changes))
    assert (found.name, found.passed) == ("interface", not problem), found.text
    if problem:
        assert f"; {problem}" in found.text
        assert found.text.count("expected") + found.text.count("must hold") == 1
    elif (inputs, outputs) == (GOOD, OUT):
        assert found.text == TEXT


@pytest.mark.parametrize("kind", [FLOAT, UINT8])
@pytest.mark.parametrize("is_baked", [True, False])
def test_pixels_are_taken_where_preprocessing_is_inside(kind: int, is_baked: bool) -> None:
    metadata = SimpleNamespace(baked_preprocessing=Preprocessing() if is_baked else None)
    found = _interface(pair_of(GOOD, OUT, "3x8x6", kind, metadata=metadata))
    assert found.passed is ((kind == UINT8) == is_baked)
    assert ("a graph takes pixels if, and only if" in found.text) is not found.passed


@pytest.mark.parametrize(
    ("inputs", "shapes", "passes"),
    [
        (GOOD, "3x8x6", True),
        ({"x": [4, 3, "h", "w"]}, "3x8x6", True),
        (GOOD, "3x?x?", True),
        (GOOD, None, True),
        (GOOD, "3x8x7", False),
        (GOOD, "3x8", False),
        (GOOD, "3x8x6,3x8x6", False),
        ({"x": ["n", 3], "z": ["n", 4]}, "3,5", False),
    ],
)
def test_the_inputs_of_another_programs_file_fit_the_model(
    inputs: Values, shapes: str | None, passes: bool
) -> None:
    found = _foreign_interface(pair_of(inputs, OUT, shapes))
    assert found.passed is passes
    said = "exported by another program" if passes else f"inputs of {shapes} were expected"
    assert found.text.endswith(f"; {said}")


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [("tf2onnx", "1.2", "tf2onnx 1.2"), ("tf2onnx", "", "tf2onnx"), ("", "", "another program")],
)
def test_the_program_that_exported_a_file_is_named(name: str, version: str, said: str) -> None:
    pair = pair_of(GOOD, OUT, None)
    pair.onnx_model.producer_name, pair.onnx_model.producer_version = name, version
    assert _foreign_interface(pair).text == f"{TEXT}; exported by {said}"


def test_what_another_programs_file_says_is_compared_and_what_it_does_not_is_named() -> None:
    own = Preprocessing(size=(8, 6), mean=(0.5,), std=(0.25,))
    model = SavedModel(nn.Identity(), "logits", (3, 8, 6), [*"abcde"], own)
    pair = pair_of(GOOD, OUT, "3x8x6", model=model, is_foreign=True, compared_outputs=["logits"])
    entries = {"preprocessing": own, "output_kind": "logits", "labels": [*"abcde"]}
    for said in ((), ("labels",), ("preprocessing", "output_kind"), tuple(entries)):
        metadata = {name: value if name in said else None for name, value in entries.items()}
        pair.metadata = SimpleNamespace(**metadata)
        found = _what_it_says(pair)
        unsaid = [name for name in entries if name not in said]
        assert [one.name for one in found] == [*[n for n in entries if n in said],
                                               *(["metadata"] if unsaid else [])]  # fmt: skip
        assert all(one.passed for one in found)
        if unsaid:
            text = f"the file says nothing of {', '.join(unsaid)}: torchlift annotate adds them"
            assert found[-1].text == text
    other = {**entries, "preprocessing": Preprocessing(size=(8, 6)), "output_kind": "features"}
    pair.metadata = SimpleNamespace(**other)
    assert [one.passed for one in _what_it_says(pair)] == [False, False, True]
    # What the model lacks is said too.
    pair.model = replace(model, preprocessing=None)
    found = _what_it_says(pair)
    assert [one.name for one in found] == [*entries]
    assert found[0] == Finding("preprocessing", True, "the model has none to compare with")
    pair.model = replace(model, output_kind="features")
    pair.metadata = SimpleNamespace(**{**entries, "output_kind": "logits"})
    assert [one.passed for one in _what_it_says(pair)] == [True, False, True]


@pytest.mark.parametrize(
    ("model", "file", "passes", "text"),
    [
        ({}, {}, True, "none"),
        ({}, {"size": [8, 6]}, True, "the model has none to compare with"),
        ({"size": [8, 6]}, {"size": [8, 6], "more": 1}, True, "size 8×6"),
        ({"size": [8, 6]}, {"size": [6, 8]}, False, "size is 6×8, the model has 8×6"),
        ({"value_range": 1.0}, {}, False, "value range is none, the model has 1"),
        (
            {"mean": [0.5], "std": [1.0, 0.25]},
            {"mean": [0.4], "std": []},
            False,
            "mean is 0.4, the model has 0.5; std is none, the model has 1/0.25",
        ),
        # A digest is long, and cut only where it is right.
        ({"sha256": "0123456789abcdef" * 4}, {"sha256": "0123456789abcdef" * 4}, True,
         "sha256 0123456789ab…"),
        ({"file": "x" * 32, "crop": None}, {"file": "x" * 32}, True, f"file {'x' * 32}, crop none"),
        ({"sha256": "a" * 64}, {"sha256": "b" * 64}, False,
         f"sha256 is {'b' * 64}, the model has {'a' * 64}"),
    ],
)  # fmt: skip
def test_entries_are_compared_one_by_one(
    model: dict[str, Any], file: dict[str, Any], passes: bool, text: str
) -> None:
    assert _compare_entries("source", model, file) == Finding("source", passes, text)


OWN = Preprocessing("BGR", (8, 6), value_range=255, mean=(103.9, 116.8, 123.7))


def said_of(model: SavedModel, takes_image: bool | None = None, **changes: Any) -> Any:
    """Return a pair whose file says what the model is, but for some entries.

    Args:
        model: The model.
        takes_image: Whether all of preprocessing is in the graph; None for nothing of it.
        changes: The entries that are others.
    """
    metadata = metadata_of(model)
    if takes_image is not None:
        metadata = baked_metadata(metadata, takes_image)
    metadata = replace(metadata, **changes)
    return SimpleNamespace(model=model, metadata=metadata, takes_image=bool(takes_image))


def test_every_entry_of_a_file_is_the_models() -> None:
    words = [Vocabulary("vocab", ("a", "b", None)), Vocabulary("targets", ("x", "y"))]
    model = SavedModel(nn.Identity(), "logits", preprocessing=OWN, vocabularies=words)
    model.source = Provenance("m.t7", "0" * 64)
    findings = _metadata(said_of(model))
    assert all(one.passed for one in findings)
    names = ["preprocessing", "output_kind", "source", "vocabularies"]
    assert [one.name for one in findings] == names
    other: dict[str, Any] = {
        "preprocessing": Preprocessing(size=(8, 6)),
        "output_kind": "features",
        "source": {"file": "m.t7", "sha256": "1" * 64},
        "vocabularies": words[:1],
    }
    for name, value in other.items():
        failed = [one.name for one in _metadata(said_of(model, **{name: value})) if not one.passed]
        assert failed == [name]
    for takes_image in (False, True):
        baked = said_of(model, takes_image)
        assert [one.name for one in _metadata(baked)] == [names[0], "baked", *names[1:]]
        assert all(one.passed for one in _metadata(baked))
        for name in ("preprocessing", "baked_preprocessing"):
            changed = said_of(model, takes_image, **{name: Preprocessing(size=(9, 9))})
            failed = [one.name for one in _metadata(changed) if not one.passed]
            assert failed == ["baked" if name[0] == "b" else name]
    # A model without preprocessing has none to compare with, baked or not.
    model.preprocessing = None
    assert {one.text for one in _metadata(baked)[:2]} == {"the model has none to compare with"}


def test_the_tokens_of_a_text_are_all_in_the_file() -> None:
    vocab, targets = Vocabulary("vocab", (*"abc",) * 400), Vocabulary("targets", ("x", "y"))
    assert _vocabularies([], [vocab]) == []
    (found,) = _vocabularies([vocab, targets], [targets, vocab])
    text = "1,200 tokens of vocab, 2 tokens of targets"
    assert found == Finding("vocabularies", True, text)
    (found,) = _vocabularies([vocab, targets], [Vocabulary("vocab", (*"abd",) * 400), targets])
    text = "vocab has other tokens in the file, or is not in it"
    assert found == Finding("vocabularies", False, text)
    (found,) = _vocabularies([vocab, targets], [])
    assert found.text.count("is not in it") == 2


@pytest.mark.parametrize(
    ("file", "model", "passes", "text"),
    [
        (None, None, True, "none"),
        (None, ["a"], False, "none in the file"),
        ([*"abcde"], None, True, "5 names, 'a' to 'e'"),
        ([*"abcde"], (*"abcde",), True, "5 names, 'a' to 'e'"),
        ([*"abxyz"], [*"abcde"], False, "output 2 is 'x' in the file, 'c' in the model"),
        ([*"abcd"], [*"abcde"], False, "4 in the file, 5 in the model"),
        ([*"abcd"], None, False, "4 names for 5 outputs"),
    ],
)
def test_labels_are_told(file: Any, model: Any, passes: bool, text: str) -> None:
    pair = pair_of(GOOD, OUT, None, compared_outputs=["logits"], is_foreign=False)
    pair.metadata, pair.model = SimpleNamespace(labels=file), SimpleNamespace(labels=model)
    assert _labels(pair) == Finding("labels", passes, text)
