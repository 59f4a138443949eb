"""What is read from a graph that does not say it, and which options fit it.

On graphs and shapes that are put together by hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from torchlift.converters.errors import LabelsError
from torchlift.converters.images import Preprocessing
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.onnx import OnnxError, describe_file, onnx_file
from torchlift.converters.onnx.exporter.bake_resize import _kept
from torchlift.converters.onnx.exporter.example import _any_size, require_any_size
from torchlift.converters.onnx.exporter.kept_outputs import Kept, _number
from torchlift.converters.onnx.onnx_file import (
    _arithmetic,
    _load_weights,
    _sizes,
    read_network,
    takes_image,
    weight_files,
)
from torchlift.converters.onnx.quantizer.plain_graph import plain_graph
from torchlift.converters.saved import SavedModel
from torchlift.converters.vocabulary import Vocabulary

FLOAT, HALF, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
value = helper.make_tensor_value_info


def graph(
    operator: str = "Relu",
    kinds: tuple[int, int] = (FLOAT, FLOAT),
    shapes: tuple[list[int | str | None], ...] = (["batch", 3, 8, 8], ["batch", 10]),
    weight: np.ndarray | None = None,
) -> onnx.GraphProto:
    """Return a graph of one node, which no runtime has to run."""
    constants = [] if weight is None else [numpy_helper.from_array(weight, "w")]
    outputs = [value(f"y{n or ''}", kinds[1], shape) for n, shape in enumerate(shapes[1:])]
    node = helper.make_node(operator, ["x"], ["y"], "node")
    return helper.make_graph([node], "g", [value("x", kinds[0], shapes[0])], outputs, constants)


@pytest.mark.parametrize(
    ("made", "arithmetic"),
    [
        (graph(), "fp32"),
        (graph("QuantizeLinear"), "int8"),
        (graph("DynamicQuantizeLinear"), "int8"),
        (graph("MatMulInteger"), "int8"),
        (graph("ConvInteger"), "int8"),
        (graph(kinds=(HALF, FLOAT)), "fp16"),
        (graph(kinds=(FLOAT, HALF)), "fp16"),
        (graph(weight=np.ones(2, np.float16)), "fp16"),
        (graph(weight=np.ones(2, np.float32)), "fp32"),
    ],
)
def test_the_arithmetic_of_a_graph_that_does_not_say_it(
    made: onnx.GraphProto, arithmetic: str
) -> None:
    assert _arithmetic(made) == arithmetic


@pytest.mark.parametrize(
    ("shapes", "is_foreign", "sizes"),
    [
        ((["batch", 3, 8, 6], ["batch", 10]), False, ([3, 8, 6], 10)),
        ((["batch", 3, "h", "w"], ["batch", 10]), False, (None, 10)),
        (([None, 8, 6, 3], ["batch", 10]), True, ([3, 8, 6], 10)),
        (([None, 8, 6, 3], ["batch", 10]), False, ([8, 6, 3], 10)),
        ((["batch", 20], ["batch", "classes"]), False, (None, None)),
        # Of several outputs, nobody can say which one has the labels.
        ((["batch", 3, 8, 6], ["batch", 10], ["batch", 4]), False, ([3, 8, 6], None)),
        ((["batch", 3, 8, 6], ["batch"]), False, ([3, 8, 6], None)),
    ],
)
def test_image_and_columns_are_those_that_a_graph_fixes(
    shapes: tuple[list[int | str | None], ...],
    is_foreign: bool,
    sizes: tuple[list[int] | None, int | None],
) -> None:
    assert _sizes(graph(shapes=shapes), is_foreign) == sizes


@pytest.mark.parametrize(
    ("kind", "shape", "is_image"),
    [
        (UINT8, ["height", "width", 3], True),
        (UINT8, [None, None, None], True),
        (UINT8, [8, "width", 3], False),
        (UINT8, ["height", 8, 3], False),
        (UINT8, ["batch", "height", "width", 3], False),
        (FLOAT, ["height", "width", 3], False),
    ],
)
def test_a_graph_takes_one_image_of_any_size(
    kind: int, shape: list[int | str | None], is_image: bool
) -> None:
    assert takes_image(value("x", kind, shape)) is is_image


def test_weights_that_are_inputs_too_are_weights(tmp_path: Path) -> None:
    """As all were before IR 4, which then has to be said."""
    made = graph(weight=np.ones((3, 2), np.float32))
    made.input.append(value("w", FLOAT, [3, 2]))
    for version, read in ((3, 4), (8, 8)):
        model = helper.make_model(made, ir_version=version)
        onnx.save(model, tmp_path / "f.onnx")
        found, _ = read_network(tmp_path / "f.onnx")
        assert ([each.name for each in found.graph.input], found.ir_version) == (["x"], read)
        described = describe_file(tmp_path / "f.onnx")
        assert [each["name"] for each in described["inputs"]] == ["x"]
        assert described["parameters"] == 6


def test_a_file_of_weights_is_as_long_as_the_last_of_them() -> None:
    """They may stand in any order, and one may begin at 0 without saying so."""
    made = graph()
    for name, place in (
        ("a", {"location": "w.data", "offset": "100", "length": "20"}),
        ("b", {"location": "w.data", "length": "100"}),
        ("c", {"location": "other.data", "offset": "8", "length": "4"}),
    ):
        tensor = made.initializer.add()
        tensor.name, tensor.data_location = name, TensorProto.EXTERNAL
        for key, text in place.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, text
    found = weight_files(helper.make_model(made))
    assert [*found.items()] == [("other.data", 12), ("w.data", 120)]


@pytest.mark.parametrize("name", ["a", "b"])
def test_each_file_of_weights_is_looked_for(name: str, tmp_path: Path) -> None:
    made = graph()
    made.initializer.extend(numpy_helper.from_array(np.ones((3, 2), np.float32), n) for n in "ab")
    model = helper.make_model(made, ir_version=8)
    place = {"save_as_external_data": True, "all_tensors_to_one_file": False, "size_threshold": 0}
    onnx.save(model, tmp_path / "f.onnx", **place)
    stored = onnx.load(tmp_path / "f.onnx", load_external_data=False)
    assert [*weight_files(stored)] == ["a", "b"]
    (tmp_path / name).write_bytes(bytes(8))
    with pytest.raises(OnnxError, match=rf"its weights in {name}: 8 bytes of 24 are there"):
        _load_weights(stored, tmp_path / "f.onnx")
    (tmp_path / name).unlink()
    with pytest.raises(OnnxError, match=rf"its weights are in {name}, which is missing beside it"):
        _load_weights(stored, tmp_path / "f.onnx")


@pytest.mark.parametrize(("size", "is_whole"), [(24, True), (25, True), (23, False), (0, False)])
def test_a_file_of_weights_that_is_cut_is_named_with_what_is_there(
    size: int, is_whole: bool, tmp_path: Path
) -> None:
    model = helper.make_model(graph(weight=np.ones((3, 2), np.float32)), ir_version=8)
    place = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0}
    onnx.save(model, tmp_path / "f.onnx", **place)
    (tmp_path / "w.data").write_bytes(np.ones(8, np.float32).tobytes()[:size])
    stored = onnx.load(tmp_path / "f.onnx", load_external_data=False)
    if is_whole:
        _load_weights(stored, tmp_path / "f.onnx")
        assert numpy_helper.to_array(stored.graph.initializer[0]).tolist() == [[1, 1]] * 3
        return
    with pytest.raises(OnnxError, match=rf"its weights in w\.data: {size} bytes of 24 are there"):
        _load_weights(stored, tmp_path / "f.onnx")


def test_nodes_without_names_get_some_that_are_free() -> None:
    made = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["a"], "Exp_1"),
            helper.make_node("Exp", ["a"], ["b"]),
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(1))),
            helper.make_node("Exp", ["b"], ["y"], "own"),
        ],
        *("g", [value("x", FLOAT, ["batch"])], [value("y", FLOAT, ["batch"])]),
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=6)
    before = model.SerializeToString()
    plain = plain_graph(model, "f.onnx")
    assert [node.name for node in plain.graph.node] == ["Exp_1", "Exp_1_", "own"]
    assert [tensor.name for tensor in plain.graph.initializer] == ["c"]
    assert plain.ir_version == 7
    assert model.SerializeToString() == before


def test_an_old_opset_is_brought_to_the_first_that_quantizes_by_channel() -> None:
    for given, made in ((11, 13), (13, 13), (17, 17)):
        opsets = [helper.make_opsetid("", given)]
        model = helper.make_model(graph(), opset_imports=opsets, ir_version=8)
        helper.set_model_props(model, Metadata(labels=["a"]).to_props())
        plain = plain_graph(model, "f.onnx")
        assert plain.opset_import[0].version == made
        assert {prop.key for prop in plain.metadata_props} >= {"labels", "torchlift_version"}


@pytest.mark.parametrize(
    ("columns", "labels", "kept"),
    [
        ((2, 3), "abcde", "bc"),
        # As many as columns are theirs already.
        ((2, 3), "xy", "xy"),
        ((4, 5), "abcd", None),
        (None, "abcde", "abcde"),
    ],
)
def test_labels_are_cut_with_the_columns(
    columns: tuple[int, int] | None, labels: str, kept: str | None
) -> None:
    model = SavedModel(nn.Identity(), "logits", labels=[*labels])
    if kept is None:
        with pytest.raises(LabelsError, match="1 class names for 2 outputs"):
            Kept(columns=columns).of(model)
        return
    assert Kept(columns=columns).of(model).labels == [*kept]
    assert model.labels == [*labels]


@pytest.mark.parametrize("method", ["pil-bilinear", "image.scale-bilinear"])
def test_a_graph_crops_a_known_size_where_preprocessing_does(method: str) -> None:
    """Odd margins are cut by a pixel more on one side: by Pillow's rule, or by Torch7's."""
    preprocessing = Preprocessing(size=(20, 20), crop=(20, 20), resize=method)
    for margin in range(12):
        kept = _kept(None, 20 + margin, 20, method.startswith("image.scale"))  # type: ignore[arg-type]
        first = preprocessing._margin(margin)
        assert kept.tolist() == [*range(first, first + 20)]  # type: ignore[union-attr]


def test_height_and_width_are_free_of_one_image_whose_batch_is_in_front() -> None:
    assert str(_any_size(parse_inputs("3x8x8"))) == "3x?x?"
    for other in ("3xNx8x8", "3x8", "3x8x8,3x8x8"):
        with pytest.raises(OnnxError, match="any_size=True is for one image"):
            _any_size(parse_inputs(other))


def test_a_network_of_any_size_keeps_its_batch() -> None:
    """A view of fixed sizes takes a larger image, too, for more examples."""
    example = torch.ones(2, 3, 4, 4)
    keeps = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    require_any_size(keeps, example, [keeps(example)])
    for network in (View(), nn.Linear(4, 2)):
        with pytest.raises(OnnxError, match="a fixed input size: leave out any_size=True"):
            require_any_size(network, example, [network(example)])


class View(nn.Module):
    """Rows of 48 numbers, whatever an image has."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input.reshape(-1, 48)


@pytest.mark.parametrize(
    ("output", "number"),
    [("output_2", 2), ("1", 1), (3, 3), ("0", None), (4, None), ("-1", None), ("other", None)],
)
def test_an_output_is_named_or_counted_from_1(output: str | int, number: int | None) -> None:
    names = ["output_1", "output_2", "output_3"]
    if number is not None:
        assert _number(output, names) == number
        return
    with pytest.raises(OnnxError, match=f"no output {output}: its outputs are .* or 1 to 3"):
        _number(output, names)


@pytest.mark.parametrize(
    ("inputs", "shape"),
    [
        ([[None, 3, 8, 8]], [3, 8, 8]),
        ([[None, 3, 8, 8]] * 2, None),
        ([[None, 9]], None),
        ([], None),
    ],
)
def test_only_a_single_input_of_images_is_one(
    inputs: list[list[int | None]], shape: list[int] | None
) -> None:
    values = [
        onnx.helper.make_tensor_value_info(f"x{number}", onnx.TensorProto.FLOAT, axes)
        for number, axes in enumerate(inputs)
    ]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 7])
    graph = onnx.helper.make_graph([], "g", values, [output])
    assert onnx_file._sizes(graph, is_foreign=False) == (shape, 7)


def test_an_operator_that_no_newer_opset_has_is_named() -> None:
    model = helper.make_model(
        graph("Upsample"), opset_imports=[helper.make_opsetid("", 9)], ir_version=8
    )
    with pytest.raises(OnnxError, match=r"f\.onnx: is of opset 9, int8 by channel needs 13: "):
        plain_graph(model, "f.onnx")


def test_a_folder_is_no_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(OnnxError, match=r"m\.onnx: a folder, not an \.onnx file"):
        read_network(tmp_path / "m.onnx")


def test_all_that_a_file_says_of_itself_is_described(tmp_path: Path) -> None:
    """Of two inputs, two outputs and two weights: numbers, versions and what an export wrote."""
    values = [value(name, FLOAT, ["batch", 3, "h", "w"]) for name in ("a", "b")]
    outputs = [value("y", HALF, ["batch", None]), value("z", UINT8, [1])]
    weights = [numpy_helper.from_array(np.ones(shape, np.float32), f"w{shape}") for shape in (2, 5)]
    weights.append(numpy_helper.from_array(np.ones((2, 3, 4), np.float32), "w3"))
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])] * 3
    opsets = [helper.make_opsetid("our.own", 99), helper.make_opsetid("", 17)]
    made = helper.make_graph(nodes, "g", values, outputs, weights)
    model = helper.make_model(made, opset_imports=opsets, ir_version=8)
    outside = Preprocessing(resize="none", value_range=255)
    inside = Preprocessing(mean=(0.5,), std=(2.0,))
    metadata = Metadata(
        labels=["a", "b"],
        vocabularies=[Vocabulary("vocab", ("x", "y"))],
        preprocessing=outside,
        baked_preprocessing=inside,
        image_to_image=ImageToImage(255, "BGR"),
        precision="int8",
        output_kind="logits",
        depends_on_batch=True,
        source={"file": "m.t7", "sha256": "0"},
        torchlift_version="0.2.0",
    )
    helper.set_model_props(model, metadata.to_props())
    onnx.save(model, tmp_path / "f.onnx")
    shape = ["batch", 3, "h", "w"]
    described = describe_file(tmp_path / "f.onnx")
    assert described == {
        "bytes": (tmp_path / "f.onnx").stat().st_size,
        "inputs": [{"name": name, "shape": shape, "dtype": "float32"} for name in ("a", "b")],
        "outputs": [
            {"name": "y", "shape": ["batch", None], "dtype": "float16"},
            {"name": "z", "shape": [1], "dtype": "uint8"},
        ],
        "nodes": 3,
        "parameters": 2 + 5 + 24,
        "opset": 17,
        "ir_version": 8,
        "labels": ["a", "b"],
        "vocabularies": [Vocabulary("vocab", ("x", "y")).to_json()],
        "preprocessing": outside.to_json(),
        "baked_preprocessing": inside.to_json(),
        "image_to_image": ImageToImage(255, "BGR").to_json(),
        "arithmetic": "int8",
        "output_kind": "logits",
        "depends_on_batch": True,
        "source": {"file": "m.t7", "sha256": "0"},
        "torchlift_version": "0.2.0",
        "format_version": 2,
    }
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "f.onnx")
    unsaid = describe_file(tmp_path / "f.onnx")
    # An output of half precision tells the arithmetic; nothing tells the rest.
    assert (unsaid["arithmetic"], unsaid["depends_on_batch"], unsaid["vocabularies"]) == (
        "fp16",
        False,
        [],
    )
    names = ("labels", "preprocessing", "baked_preprocessing", "image_to_image", "output_kind")
    names += ("source", "torchlift_version", "format_version")
    assert [unsaid[name] for name in names] == [None] * len(names)


@pytest.mark.parametrize("kind", ["input", "output"])
def test_what_is_no_tensor_or_missing_is_named(kind: str, tmp_path: Path) -> None:
    model = helper.make_model(graph(), ir_version=8)
    values = getattr(model.graph, kind)
    name = values[0].name
    values[0].CopyFrom(helper.make_tensor_sequence_value_info(name, FLOAT, None))
    onnx.save(model, tmp_path / "f.onnx")
    with pytest.raises(OnnxError, match=f"the {kind} {name} is a sequence, where a tensor was exp"):
        read_network(tmp_path / "f.onnx")
    del values[:]
    onnx.save(model, tmp_path / "f.onnx")
    with pytest.raises(OnnxError, match=f"not a network: it has no {kind}$"):
        read_network(tmp_path / "f.onnx")
