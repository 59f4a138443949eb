"""Rules of saved models that no file of the fixtures tells apart, each by itself."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from saved_support import tiny
from torch import nn

from torchlift.converters import convert
from torchlift.converters.errors import LabelsError
from torchlift.converters.images import Preprocessing
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.images.normalization import Normalization
from torchlift.converters.modules.layers.container import Concat
from torchlift.converters.saved import SavedModel, SavedModelError, UpToLayer, load, save, save_pt2
from torchlift.converters.saved.beside import Beside, ClassNames
from torchlift.converters.saved.config import describe_folder, read_config
from torchlift.converters.saved.folder import _fill
from torchlift.converters.saved.hub import is_of_another_library
from torchlift.converters.saved.image_projects import FAST_NEURAL_STYLE, TEXTURE_NETS
from torchlift.converters.saved.input_trial import refusal
from torchlift.converters.saved.loader import read_tensors
from torchlift.converters.saved.named_network import build_with_buffers
from torchlift.converters.saved.overrides import Overrides, override
from torchlift.converters.saved.probabilities import sum_problem
from torchlift.converters.saved.shapes import infer_input_shape, output_count, side_by_side
from torchlift.converters.saved.source_bundle import SourceBundle
from torchlift.converters.saved.structure import describe
from torchlift.converters.saved.told_inputs import _first_modules, _shape
from torchlift.converters.saved.transformers_network import stored_config
from torchlift.converters.t7 import LuaObject, LuaTable


@pytest.mark.parametrize(
    ("total", "kind", "problem"),
    [
        (1.0, "probabilities", ""),
        (1.049, "probabilities", ""),
        (0.951, "probabilities", ""),
        (1.051, "probabilities", "add up to 1.05, not to 1: these are not those of one choice"),
        (2.0, "probabilities", "these are 2 classifiers side by side"),
        (1.91, "probabilities", "these are 2 classifiers side by side"),
        (1.89, "probabilities", "not those of one choice"),
        (0.5, "log_probabilities", "add up to 0.5"),
        (5.0, "logits", ""),
        (5.0, "features", ""),
    ],
)
def test_probabilities_of_one_choice_add_up_to_one_but_for_rounding(
    total: float, kind: str, problem: str
) -> None:
    scores = np.array([[0.5, 0.5], [total / 2, total / 2]])
    scores = np.log(scores) if kind == "log_probabilities" else scores
    assert (problem in sum_problem(scores, kind)) if problem else sum_problem(scores, kind) == ""
    assert sum_problem(scores[None], kind) == "", "a map has no one choice"


def override_of(model: SavedModel, beside: Beside | None = None, **said: Any) -> SavedModel:
    override(model, "net", Overrides(**said), beside or Beside())
    return model


def test_names_that_are_given_may_not_be_those_beside_the_model_in_another_order() -> None:
    beside = Beside(labels=[ClassNames("classes", ["a", "b", "c"])])
    assert override_of(tiny(), beside, labels=["x", "y", "z"]).labels == ["x", "y", "z"]
    assert override_of(tiny(), beside).labels == ["a", "b", "c"]
    with pytest.raises(LabelsError, match="own names in another order"):
        override_of(tiny(), beside, labels=["b", "a", "c"])


def test_a_size_that_is_given_takes_the_place_of_size_and_crop() -> None:
    """The network takes images of this size, and nothing is cut off them.

    Unless they have the size already.
    """
    own = Preprocessing("gray", "^10", "image.scale-bilinear", crop=(8, 8), mean=(0.5,))
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    for said in ({"input_size": (6, 7)}, {"input": "1x6x7"}):
        model = SavedModel(network, "features", (1, 8, 8), preprocessing=own)
        override_of(model, **said)
        assert model.preprocessing is not None
        assert (model.preprocessing.size, model.preprocessing.crop) == ((6, 7), None)
        assert (model.preprocessing.resize, model.preprocessing.mean) == (own.resize, (0.5,))
        assert model.input_shape == (1, 6, 7)
    for said in ({"input_size": (8, 8)}, {"input": "1x8x8"}):
        assert override_of(tiny(preprocessing=own), **said).preprocessing is own


@pytest.mark.parametrize(
    ("project", "given", "expected"),
    [
        # test.lua of texture_nets undoes the preprocessing of VGG, whatever goes in.
        (TEXTURE_NETS, {}, TEXTURE_NETS.output),
        (TEXTURE_NETS, {"value_range": 255}, ImageToImage(255, "BGR")),
        (TEXTURE_NETS, {"color": "BGR", "value_range": 1}, ImageToImage(1, "BGR")),
        # `deprocess` undoes `preprocess`: mean and std of the input.
        (FAST_NEURAL_STYLE, {}, ImageToImage(255, None, (1.0, 2.0, 3.0))),
        (FAST_NEURAL_STYLE, {"mean": (9.0,), "value_range": 255}, ImageToImage(255, None, (9.0,))),
    ],
)
def test_outputs_are_those_of_the_project_unless_something_else_is_said(
    project: Any, given: dict[str, Any], expected: ImageToImage
) -> None:
    model = SavedModel(nn.Conv2d(3, 3, 1).eval(), "features")
    known = Normalization((1.0, 2.0, 3.0), None, "BGR", 255)
    known = known if project is FAST_NEURAL_STYLE else Normalization(color="RGB", value_range=1)
    beside = Beside(normalization=known, project=project)
    found = override_of(model, beside, normalization=Normalization(**given)).image_to_image
    assert found is not None
    assert (found.value_range, found.color, found.mean) == (
        expected.value_range,
        expected.color,
        expected.mean,
    )


def test_a_layer_of_torch7_takes_no_more_dimensions_than_it_did_there() -> None:
    """The Linear of torch takes sequences, too; Torch7's took rows."""
    fields = {"weight": np.ones((2, 4), np.float32), "bias": np.zeros(2, np.float32)}
    converted = convert(LuaObject("nn.Linear", LuaTable(fields))).eval()
    assert refusal(converted, torch.ones(2, 4)) == ""
    assert "takes at most 2 dimensions" in refusal(converted, torch.ones(2, 3, 4))
    assert refusal(nn.Linear(4, 2), torch.ones(2, 3, 4)) == ""
    assert "layer 0, Linear" in refusal(nn.Sequential(nn.Linear(4, 2)), torch.ones(2, 5))


def test_buffers_have_values_and_no_random_number_is_drawn_where_weights_have_none() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    with torch.device("meta"):
        made = build_with_buffers(lambda: nn.Linear(2, 2))
    assert made.get_parameter("weight").device.type == "cpu"
    assert torch.equal(torch.random.get_rng_state(), before)
    build_with_buffers(lambda: nn.Linear(2, 2))
    assert not torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import math as m\n\ndef area(r):\n    return m.pi * r\n", "under another name: m"),
        ("from math import pi as p\n\ndef area(r):\n    return p * r\n", "under another name: p"),
        ("from math import pi\n\ndef area(r):\n    return pi * r\n", ""),
        ("def area(r):\n    return r\n\nbuild = area\n", ""),
    ],
)
def test_definitions_are_copied_with_imports_of_their_own_names(
    text: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"own_layers_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    bundle = SourceBundle()
    if problem:
        with pytest.raises(SavedModelError, match=problem):
            bundle.add(name, "area")
        return
    bundle.add(name, "area")
    assert bundle.definitions["area"].startswith("def area(r):")
    assert bundle.import_lines() == ("from math import pi" if "import" in text else "")
    with pytest.raises(SavedModelError, match="uses itself"):
        SourceBundle(reserved=("area",)).add(name, "area")


def test_features_are_kept_before_a_later_layer_writes_into_them() -> None:
    """Also in an export, where the pass does not end at the layer."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)).eval()
    cut, example = UpToLayer(network, "0"), torch.randn(5, 4)
    expected = network[0](example)
    assert (expected < 0).any()
    torch.testing.assert_close(cut(example), expected)
    program = torch.export.export(cut, (example,))
    torch.testing.assert_close(program.module()(example), expected)


def test_of_a_layer_that_is_called_twice_the_first_output_counts() -> None:
    twice = nn.Linear(3, 3)
    cut, example = UpToLayer(nn.Sequential(twice, nn.Tanh(), twice), "0"), torch.randn(5, 3)
    torch.testing.assert_close(cut(example), twice(example))
    program = torch.export.export(cut, (example,))
    torch.testing.assert_close(program.module()(example), twice(example))


def test_a_network_in_double_precision_is_written_as_pt2(tmp_path: Path) -> None:
    model = tiny()
    model.module.double()
    file = save_pt2(model, tmp_path / "net.pt2")
    example = torch.ones(3, 1, 8, 8, dtype=torch.float64)
    found = torch.export.load(file).module()(example)
    torch.testing.assert_close(found, model.module(example))


@pytest.mark.parametrize("version", [True, 2.0, "2", 3, 0, None])
def test_a_format_version_is_a_whole_number_that_is_known(version: Any, tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "format_version": version}))
    with pytest.raises(SavedModelError, match=r"format version .* reads versions 1 to 2"):
        read_config(folder)


def test_every_tensor_has_aligned_memory_of_its_own(tmp_path: Path) -> None:
    """Products of unaligned numbers round otherwise; in the file they stand behind a text."""
    for labels in (None, ["a", "b", "c"]):
        folder = save(tiny(labels=labels), tmp_path / f"model-{labels is None}")
        alone = read_tensors(folder / "model.safetensors")  # As its `model.py` does.
        for tensors in (load(folder).module.state_dict(), alone):
            assert not any(tensor.data_ptr() % 64 for tensor in tensors.values())
            storages = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
            assert len(storages) == len(tensors)


def test_parameters_keep_their_types_and_the_size_of_a_folder_is_that_of_all_its_files(
    tmp_path: Path,
) -> None:
    """Half precision and doubles as they are in the file; whole numbers have no gradient."""
    module = nn.ParameterList(
        nn.Parameter(torch.ones(3, dtype=dtype), requires_grad=dtype.is_floating_point)
        for dtype in (torch.float16, torch.float64, torch.int8, torch.bool)
    )
    state = {name: value.detach().clone() for name, value in module.state_dict().items()}
    _fill(module, state, {})
    for name, parameter in module.named_parameters():
        assert (parameter.dtype, parameter.requires_grad) == (
            state[name].dtype,
            state[name].is_floating_point(),
        )
    folder = save(tiny(labels=["a", "b", "c"]), tmp_path / "m")
    files = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 2
    (folder / "empty").mkdir()
    assert describe_folder(folder)["bytes"] == sum(files)


def test_a_tensor_of_another_shape_or_type_does_not_fill_a_layer() -> None:
    with torch.device("meta"):
        module = nn.Linear(2, 3)
    bias = torch.zeros(3)
    for weight, problem in (
        (torch.zeros(2, 3), r"weight has the shape \(2, 3\), \(3, 2\) was expected"),
        (torch.zeros(3, 2, dtype=torch.int64), r"weight is torch\.int64, torch\.float32 was"),
        (torch.zeros(3, 2, dtype=torch.float16), ""),
    ):
        if problem:
            with pytest.raises(SavedModelError, match=problem):
                _fill(module, {"weight": weight, "bias": bias}, {})
        else:
            _fill(module, {"weight": weight, "bias": bias}, {})


def test_branches_count_as_classifiers_where_nothing_follows_them() -> None:
    def branches() -> Concat:
        return Concat(*(nn.Sequential(nn.Linear(6, 4), nn.LogSoftmax(1)) for _ in "ab"), dim=1)

    assert side_by_side(nn.Sequential(branches())) == 2
    assert side_by_side(nn.Sequential(branches(), nn.Linear(8, 3), nn.LogSoftmax(1))) == 1


def test_a_network_of_any_size_has_no_size_and_others_have_the_usual_one() -> None:
    pooled = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert infer_input_shape(pooled) is None
    assert infer_input_shape(pooled, (20, 30)) == (1, 20, 30)
    fixed = nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(1152, 10))
    assert infer_input_shape(fixed) == (1, 28, 28)


LINEAR = nn.Linear(4, 3)


@pytest.mark.parametrize(
    ("module", "count"),
    [
        (LINEAR, 3),
        *(
            (nn.Sequential(nn.ReLU(), LINEAR, last), 3)
            for last in (
                *(nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid(), nn.Dropout(), nn.Identity()),
                nn.Sequential(nn.Linear(9, 3)),
            )
        ),
        (nn.Sequential(nn.Sequential(LINEAR), nn.Dropout(), nn.LogSoftmax(1)), 3),
        # What other layers make of so many numbers is not known at a glance.
        (nn.Sequential(LINEAR, nn.ReLU()), None),
        (nn.Sequential(LINEAR, nn.Conv1d(1, 2, 2)), None),
        (nn.Sequential(nn.LogSoftmax(1)), None),
        (Concat(LINEAR, LINEAR, dim=1), None),
    ],
)
def test_outputs_are_counted_where_the_last_layers_tell(
    module: nn.Module, count: int | None
) -> None:
    assert output_count(module) == count


def test_the_first_layers_of_a_file_are_those_that_get_its_input() -> None:
    def layer(name: str, *inner: LuaObject) -> LuaObject:
        fields = LuaTable({"modules": LuaTable.from_list([*inner])}) if inner else LuaTable()
        return LuaObject(name, fields)

    for passed in ("nn.Identity", "nn.Dropout", "nn.SpatialDropout", "nn.Copy"):
        network = layer("nn.Sequential", layer(passed), layer("nn.Linear"), layer("nn.Tanh"))
        found = [one.class_name for _, one in _first_modules(network)]
        assert found == ["nn.Sequential", passed, "nn.Linear"]
    branches = layer("nn.Sequential", layer("nn.Concat", layer("nn.Linear")), layer("nn.Tanh"))
    assert [path for path, _ in _first_modules(branches)] == ["", "modules[1]"]


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (np.zeros((5, 3, 8, 8)), (3, 8, 8)),
        (np.zeros((3, 8, 8)), (3, 8, 8)),
        (np.array([5, 3, 8, 8]), (3, 8, 8)),
        # An input of whole numbers, such as bytes, is no list of sizes.
        (np.zeros((5, 3, 8, 8), np.uint8), (3, 8, 8)),
        (np.zeros((5, 3, 8, 8), np.int64), (3, 8, 8)),
        (np.array([3, 8, 2**14]), (3, 8, 2**14)),
        (np.array([3, 8, 2**14 + 1]), None),
        (np.array([3, 0, 8]), None),
        (np.zeros((8, 8)), None),
        # Numbers with a point are no sizes.
        (np.array([3.0, 8.0, 8.0]), None),
        ("3x8x8", None),
    ],
)
def test_a_field_tells_a_shape_by_its_sizes_or_by_its_numbers(value: Any, shape: Any) -> None:
    assert _shape(value, 3) == shape


@pytest.mark.parametrize(
    ("config", "is_other"),
    [
        ({"architecture": "resnet18"}, True),
        ({"model_type": "vit"}, True),
        ({"format": "torchlift"}, False),
        ([], False),
        (None, False),
    ],
)
def test_a_network_of_another_library_is_known_by_its_config(
    config: Any, is_other: bool, tmp_path: Path
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert is_of_another_library(tmp_path) is is_other


@pytest.mark.parametrize(
    ("number", "is_size"),
    [(1_000_000, True), (1_000_001, False), (-1e9, False), (1e400, False), (math.nan, False)],
)
def test_a_configuration_has_numbers_that_can_be_sizes(number: float, is_size: bool) -> None:
    for value in (number, [1, number], {"a": [{"b": number}]}):
        text = json.dumps({"model_type": "vit", "sizes": value})
        if is_size:
            assert stored_config(json.loads(text)) == text
            continue
        with pytest.raises(SavedModelError, match="which is no size"):
            stored_config(json.loads(text))


@pytest.mark.parametrize("wrong", [object(), torch.float32, {"a": 1}, [0.5, object()]])
def test_an_argument_that_no_json_can_hold_is_named(wrong: Any) -> None:
    layer = nn.Dropout(0.5)
    layer.p = wrong
    with pytest.raises(SavedModelError, match=r"^0\.p is \w+, not a number, string or list"):
        describe(nn.Sequential(layer))


def test_a_file_of_code_holds_one_definition_of_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("own_first", "own_second"):
        (tmp_path / f"{module}.py").write_text("def area(r):\n    return r\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.invalidate_caches()
    bundle = SourceBundle()
    bundle.add("own_first", "area")
    bundle.add("own_first", "area")
    with pytest.raises(SavedModelError, match="own_first and own_second both define 'area'"):
        bundle.add("own_second", "area")
    with pytest.raises(SavedModelError, match="own_second does not define 'volume' at its top"):
        bundle.add("own_second", "volume")
    assert list(bundle.definitions) == ["area"]
