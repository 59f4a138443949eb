"""What a configuration for Triton says beside names and sizes, and what a new version must share.

What is protected: the batches that Triton forms, tensors of several inputs and outputs, and every
part of the interface that clients of the earlier version rely on.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper, save_model
from test_triton import config, graph, write

from torchlift.converters.errors import WriteError
from torchlift.converters.onnx import OnnxError, next_version, triton_version
from torchlift.converters.onnx.triton import triton_config


def tensor(name: str, shape: list[Any], dtype: str | None = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape}


def described(
    inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], **others: Any
) -> dict[str, Any]:
    """Return what `describe_file` would say."""
    said = {"labels": None, "depends_on_batch": False, **others}
    return {"inputs": inputs, "outputs": outputs, **said}


def read(folder: Path, description: dict[str, Any]) -> Any:
    (folder / "config.pbtxt").write_text(triton_config("m", description), encoding="utf-8")
    return config(folder)


def test_a_model_runs_once_wherever_there_is_a_device_and_waits_two_milliseconds(
    tmp_path: Path,
) -> None:
    said = read(tmp_path, described([tensor("x", ["n", 3])], [tensor("y", ["n", 2])]))
    (group,) = said.instance_group
    assert (group.kind, group.count) == (group.KIND_AUTO, 1)
    assert said.dynamic_batching.max_queue_delay_microseconds == 2000


def test_the_labels_are_those_of_the_first_output(tmp_path: Path) -> None:
    outputs = [tensor("scores", ["n", 2]), tensor("features", ["n", 64])]
    said = read(tmp_path, described([tensor("x", ["n", 3])], outputs, labels=["cat", "dog"]))
    assert [(one.name, one.label_filename) for one in said.output] == [
        ("scores", "labels.txt"),
        ("features", ""),
    ]
    assert [one.name for one in said.input] == ["x"]


@pytest.mark.parametrize(
    ("shapes", "batches", "dims", "is_scalar"),
    [
        # Axes without a name are free, each for itself.
        ([[None, None, 3]], 32, [[-1, 3]], [False]),
        ([[None, 3], ["batch", 3]], 0, [[-1, 3], [-1, 3]], [False, False]),
        # A number for all examples has no batch, and no empty dims either.
        ([["batch", 3], []], 0, [[-1, 3], [1]], [False, True]),
        ([["batch"]], 32, [[1]], [True]),
        ([[]], 0, [[1]], [True]),
    ],
)
def test_free_axes_and_single_numbers(
    shapes: list[list[Any]],
    batches: int,
    dims: list[list[int]],
    is_scalar: list[bool],
    tmp_path: Path,
) -> None:
    tensors = [tensor(f"t{number}", shape) for number, shape in enumerate(shapes)]
    said = read(tmp_path, described(tensors, tensors))
    assert said.max_batch_size == batches
    for found in (said.input, said.output):
        assert [list(one.dims) for one in found] == dims
        assert [one.HasField("reshape") and list(one.reshape.shape) == [] for one in found] == (
            is_scalar
        )


@pytest.mark.parametrize(
    ("outputs", "batches"),
    [
        ([["n", 2]], 32),
        ([["n", 2], ["n"]], 32),
        ([["n", 2], [2]], 0),
        ([["n", 2], ["m", 2]], 0),
        ([["n", "n"]], 0),
        ([[]], 0),
    ],
)
def test_examples_are_batched_where_each_output_has_them_in_front(
    outputs: list[list[Any]], batches: int, tmp_path: Path
) -> None:
    tensors = [tensor(f"y{number}", shape) for number, shape in enumerate(outputs)]
    said = read(tmp_path, described([tensor("x", ["n", 3])], tensors))
    assert said.max_batch_size == batches
    assert said.HasField("dynamic_batching") is bool(batches)


@pytest.mark.parametrize("dtype", [None, "bfloat16", "str", "complex64", "my_bool"])
def test_a_type_that_triton_lacks_is_named(dtype: str | None) -> None:
    given = [tensor("odd", ["n", 3], dtype)]
    with pytest.raises(OnnxError, match=f"odd: Triton has no type for {dtype or 'what it is'}$"):
        triton_config("m", described(given, given))


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "café"])
def test_any_name_of_a_tensor_is_read_as_it_is(name: str, tmp_path: Path) -> None:
    said = read(tmp_path, described([tensor(name, ["n", 3])], [tensor("y", ["n", 2])]))
    assert said.input[0].name == name


def test_a_version_with_other_outputs_of_the_same_inputs_is_refused(tmp_path: Path) -> None:
    for number, size in enumerate((3, 4)):
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", axis])
            for name, axis in (("x", 3), ("y", size))
        ]
        made = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:]
        )
        opset = helper.make_opsetid("", 18)
        model = helper.make_model(made, ir_version=8, opset_imports=[opset])
        save_model(model, tmp_path / f"{number}.onnx")
    write(next_version(tmp_path / "r", "m"), tmp_path / "0.onnx")
    with pytest.raises(OnnxError, match=r"config\.pbtxt: another output than that of the new"):
        write(next_version(tmp_path / "r", "m"), tmp_path / "1.onnx")


def test_a_version_with_labels_needs_those_of_the_model(tmp_path: Path) -> None:
    first = write(next_version(tmp_path, "digits"))
    (first.parent / "labels.txt").unlink()
    with pytest.raises(OnnxError, match=r"labels\.txt: other labels"):
        write(next_version(tmp_path, "digits"))


def test_what_is_no_version_is_not_compared_with(tmp_path: Path) -> None:
    """Folders of other names, and a model whose versions were all taken away."""
    first = write(next_version(tmp_path, "digits"))
    other = graph(tmp_path / "other.onnx", {"input": ["batch", 3]})
    (first.parent / "99-old").mkdir()
    shutil.copyfile(other, first.parent / "99-old" / "model.onnx")
    second = write(next_version(tmp_path, "digits"))
    assert second.name == "2"
    for folder in (first, second):
        shutil.rmtree(folder)
    assert write(next_version(tmp_path, "digits")).name == "1"


def test_a_version_that_another_process_wrote_meanwhile_stays(tmp_path: Path) -> None:
    def write_while_another_does(folder: Path) -> None:
        with triton_version(folder) as file:
            shutil.copyfile(tmp_path / "g.onnx", file)
            folder.mkdir()

    graph(tmp_path / "g.onnx", {"x": ["batch", 3]})
    write(next_version(tmp_path / "r", "m"), tmp_path / "g.onnx")
    with pytest.raises(WriteError, match="2 was written by another process meanwhile"):
        write_while_another_does(next_version(tmp_path / "r", "m"))
    assert not list((tmp_path / "r" / "m" / "2").iterdir())


def test_a_repository_is_a_folder_or_a_new_name_in_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for taken in ("file", "nowhere", "missing/deeper"):
        with pytest.raises(WriteError, match=f"{re.escape(taken)}: a folder was expected"):
            next_version(tmp_path / taken, "m")
    assert next_version(tmp_path / "new", "m") == tmp_path / "new" / "m" / "1"
    name: Any = 3
    with pytest.raises(WriteError, match="3 cannot be a model's name"):
        next_version(tmp_path, name)
