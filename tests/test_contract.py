"""The contract of every class that has a converter, old and new alike.

An object of the class converts and runs; where Torch7's output or a formula is known, it computes
that. The network is saved and opened again, and written back to `.t7` and read again, with equal
bits; it is exported, and `check` finds nothing. A criterion converts and gives a loss. What a class
cannot do is in `CANNOT`, with the reason: an entry that is no longer needed fails, and so does a
class without an example (see `contract_support`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from contract_projects_support import PROJECTS
from contract_support import Example, example
from support import relative_error
from torch import nn
from torch.utils import _pytree as pytree

from torchlift.converters import convert, t7
from torchlift.converters.modules import convert_recorded, registered_classes
from torchlift.converters.onnx import check, export
from torchlift.converters.saved import SavedModel, load, save, save_t7

CLASSES = registered_classes()

NO_FORWARD = 'is missing the required "forward" function'
NO_BATCH = "every input needs a batch axis in front, of the same size in all of them"
TIME_FIRST = "it works only for a batch of 2, because its code fixes the batch size"

#: (class, what it cannot do) → why, as the error says it; it cannot do what follows either.
CANNOT: dict[tuple[str, str], str] = {
    # Base classes, which Torch7 cannot run either.
    ("nn.Container", "run"): NO_FORWARD,
    ("nn.Module", "run"): NO_FORWARD,
    # An exported network has a batch in front, in every input and output.
    ("nn.CriterionTable", "export"): "output has the shape , which does not hold batch",
    ("nn.Index", "export"): NO_BATCH,
    ("nn.IndexLinear", "export"): NO_BATCH,
    ("nn.MaskedSelect", "export"): "output has the shape u0, which does not hold batch",
    ("nn.ModuleFromCriterion", "export"): "output has the shape 1, which does not hold batch",
    ("nn.SparseLinear", "export"): NO_BATCH,
    # One image: its channels come first.
    ("nn.Scale", "export"): "index 2 is out of bounds for dimension 0",
    ("nn.SpatialColorTransform", "export"): "a and b must have same reduction dim",
    ("nn.SpatialFovea", "export"): TIME_FIRST,
    ("nn.SpatialMatching", "export"): "which does not hold batch",
    ("nn.SpatialNormalization", "export"): TIME_FIRST,
    ("nn.SpatialPyramid", "export"): TIME_FIRST,
    ("nn.ZipTableOneToMany", "export"): NO_BATCH,
    ("nn.MaskTime", "export"): NO_BATCH,
    # The left and the right image stand where a batch does.
    ("nn.StereoJoin", "export"): TIME_FIRST,
    ("nn.StereoJoin1", "export"): TIME_FIRST,
    # It has a number for each example of a batch.
    ("nn.MulConstantSlices", "export"): TIME_FIRST,
    # Regions are drawn, or belong to the examples of one batch.
    ("nn.SpatialFractionalMaxPooling", "export"): "No ONNX function found for",
    ("nn.VolumetricFractionalMaxPooling", "export"): TIME_FIRST,
    # It gives the same whatever it is given.
    ("nn.Constant", "check"): "FAILED: input",
}


def attempt(class_name: str, what: str, action: Callable[[], Any]) -> Any:
    """Return the result of an action; where `CANNOT` says why it fails, end the test.

    Raises:
        AssertionError: It fails for another reason, or not at all.
    """
    if (class_name, what) not in CANNOT:
        return action()
    with pytest.raises(Exception, match=re.escape(CANNOT[class_name, what])):
        action()
    pytest.skip(f"cannot {what}: {CANNOT[class_name, what]}")


def run(module: nn.Module, found: Example) -> Any:
    torch.manual_seed(0)  # Some layers draw random numbers in evaluation mode too.
    # In-place layers write into their input.
    input = pytree.tree_map_only(torch.Tensor, torch.clone, found.input)
    with torch.no_grad():
        return module(input, found.target) if found.is_criterion else module(input)


def assert_same_bits(actual: Any, expected: Any) -> None:
    actual, expected = pytree.tree_flatten(actual), pytree.tree_flatten(expected)
    assert actual[1] == expected[1]
    for ours, theirs in zip(actual[0], expected[0], strict=True):
        assert ours.shape == theirs.shape
        assert torch.equal(ours.nan_to_num(), theirs.nan_to_num())


@pytest.mark.parametrize("class_name", CLASSES)
def test_it_converts_runs_is_saved_and_written_back(
    class_name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = example(class_name)
    assert found is not None, f"{class_name} needs an example in contract_builders_support.BUILDERS"
    conversion = convert_recorded(found.source)
    assert class_name in {layer.source.class_name for layer in conversion.layers}
    module = conversion.module.eval()
    output = attempt(class_name, "run", lambda: run(module, found))
    if found.output is not None:
        # As in `test_layers`: float32 in another order of summation.
        assert relative_error(output, found.output) < 1e-5
        if class_name in PROJECTS:
            by_hand = {"class": class_name, "kind": "by hand", "reason": "outputs"}
            record_property("proved", by_hand)
    if found.is_criterion:
        assert output.numel() == 1
        assert output.isfinite().all()
        return
    model = SavedModel(module, "features")
    attempt(class_name, "save", lambda: save(model, tmp_path / "model"))
    reopened = load(tmp_path / "model")
    assert_same_bits(run(reopened.module, found), output)
    for origin in (model, reopened):
        file = save_t7(origin, tmp_path / "model.t7", overwrite=True)
        assert_same_bits(run(convert(t7.load(file)).eval(), found), output)


MODULES = [name for name in CLASSES if not (found := example(name)) or not found.is_criterion]


def fixes_the_batch(_: torch.Tensor) -> int:
    """Python's `len` is a number, which a graph would be made for; `shape[0]` may stay open."""
    raise TypeError(
        "len(tensor) in a forward pass: an exported file would take one batch size only"
    )


@pytest.mark.parametrize("class_name", MODULES)
def test_what_is_written_for_an_export_computes_the_same(
    class_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some forward passes have another way for graphs, which the slow tests export."""
    if (class_name, "run") in CANNOT:
        pytest.skip("the test above says why it cannot")
    found = example(class_name)
    assert found is not None
    module = convert(found.source).eval()
    torch.manual_seed(0)
    expected = run(module, found)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.setattr(torch.Tensor, "__len__", fixes_the_batch)
    torch.manual_seed(0)
    assert relative_error(run(module, found), expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("class_name", MODULES)
def test_it_is_exported_and_passes_check(class_name: str, tmp_path: Path) -> None:
    if {(class_name, "run"), (class_name, "save")} & CANNOT.keys():
        pytest.skip("the fast test says why it cannot")
    found = example(class_name)
    assert found is not None
    model, file = SavedModel(convert(found.source).eval(), "features"), tmp_path / "model.onnx"
    attempt(class_name, "export", lambda: export(model, file, inputs=found.input))

    def passes() -> None:
        report = check(model, file, inputs=found.input)
        assert report.passed, "\n".join(report.lines())

    attempt(class_name, "check", passes)


def test_every_exception_is_of_a_class() -> None:
    assert {name for name, _ in CANNOT} <= set(CLASSES)
    assert {what for _, what in CANNOT} <= {"run", "save", "export", "check"}
