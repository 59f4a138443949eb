"""Triton's model repository: what Triton reads is what the file takes and gives.

What is protected: `config.pbtxt` is Triton's own protobuf message, with the sizes of the graph; a
new version never changes what is served, and appears complete or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, save_model
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.converters import files
from torchlift.converters.errors import WriteError
from torchlift.converters.onnx import OnnxError, next_version, triton_version
from torchlift.converters.onnx.triton import triton_config

DIGITS = FIXTURES / "digits"
MODEL = str(DIGITS / "digits-lenet5-bn.t7")
OPTIONS = [
    f"--labels={DIGITS / 'digits_classes.t7'}",
    f"--mean-std={DIGITS / 'digits_meanStd.t7'}",
]


def config(model: Path) -> Any:
    """Read a configuration as Triton does."""
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    text = (model / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, messages.ModelConfig())


def write(folder: Path, graph: Path | None = None) -> Path:
    """Write a file, by default the fixtures' classifier, as a version, and return the version."""
    with triton_version(folder) as file:
        shutil.copyfile(graph or FIXTURES / "0.1.0" / "model.onnx", file)
    return folder


def graph(path: Path, inputs: dict[str, list[Any]], kind: int = TensorProto.FLOAT) -> Path:
    """Write a graph that gives each input as an output."""
    values = [helper.make_tensor_value_info(name, kind, axes) for name, axes in inputs.items()]
    outputs = [
        helper.make_tensor_value_info(f"{name}_out", kind, axes) for name, axes in inputs.items()
    ]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in inputs]
    made = helper.make_graph(nodes, "g", values, outputs)
    opset = helper.make_opsetid("", 18)
    save_model(helper.make_model(made, ir_version=8, opset_imports=[opset]), path)
    return path


def test_a_classifier_batches_and_names_its_labels(tmp_path: Path) -> None:
    assert main(["export", MODEL, *OPTIONS, "--triton", str(tmp_path), "--name", "digits"]) == 0
    model = tmp_path / "digits"
    assert {str(file.relative_to(model)) for file in model.rglob("*") if file.is_file()} == {
        "1/model.onnx",
        "config.pbtxt",
        "labels.txt",
    }
    said = config(model)
    assert (said.name, said.backend, said.max_batch_size) == ("digits", "onnxruntime", 32)
    assert said.HasField("dynamic_batching")
    session = onnxruntime.InferenceSession(model / "1" / "model.onnx")
    (input,), (output,) = session.get_inputs(), session.get_outputs()
    assert [(one.name, one.data_type, list(one.dims)) for one in said.input] == [
        (input.name, 11, input.shape[1:])  # TYPE_FP32
    ]
    assert [(one.name, list(one.dims), one.label_filename) for one in said.output] == [
        (output.name, output.shape[1:], "labels.txt")
    ]
    labels = (model / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels[:2] == ["zero", "one"]
    assert len(labels) == 10


def test_a_baked_file_takes_one_image_of_any_size(tmp_path: Path) -> None:
    words = ["export", MODEL, *OPTIONS, "--triton", str(tmp_path / "new"), "--bake-resize"]
    assert main(words) == 0
    said = config(tmp_path / "new" / "digits-lenet5-bn")
    assert said.max_batch_size == 0
    assert not said.HasField("dynamic_batching")
    # A gray network's last axis is free (TYPE_UINT8 is 2).
    assert [(one.name, one.data_type, list(one.dims)) for one in said.input] == [
        ("image", 2, [-1, -1, -1])
    ]


@pytest.mark.parametrize(
    ("inputs", "max_batch_size", "dims"),
    [
        ({"a": ["batch", 3, 8], "b": ["batch", 2]}, 32, [[3, 8], [2]]),
        ({"a": ["batch", "time", 8]}, 32, [[-1, 8]]),
        ({"a": ["time", "batch", 8]}, 32, [[-1, 8]]),
        ({"a": ["batch", 3], "b": [4, 2]}, 0, [[-1, 3], [4, 2]]),
        ({"a": ["time", "batch"], "b": ["batch", 2]}, 0, [[-1, -1], [-1, 2]]),
        ({"a": [1, 3]}, 0, [[1, 3]]),
        # As many numbers for an example as there are examples.
        ({"a": ["batch", "batch"]}, 0, [[-1, -1]]),
        # A number an example: Triton has no empty dims.
        ({"a": ["batch"]}, 32, [[1]]),
    ],
)
def test_requests_are_batched_only_where_every_tensor_has_the_batch_in_front(
    tmp_path: Path, inputs: dict[str, list[Any]], max_batch_size: int, dims: list[list[int]]
) -> None:
    folder = write(next_version(tmp_path, "m"), graph(tmp_path / "g.onnx", inputs))
    said = config(folder.parent)
    assert said.max_batch_size == max_batch_size
    assert [list(one.dims) for one in said.input] == dims
    assert [list(one.dims) for one in said.output] == dims


def test_answers_that_depend_on_the_batch_are_not_batched_for_it(tmp_path: Path) -> None:
    import onnx

    loaded = onnx.load(FIXTURES / "0.1.0" / "model.onnx")
    entry = loaded.metadata_props.add()
    entry.key, entry.value = "depends_on_batch", "true"
    onnx.save(loaded, tmp_path / "dynamic.onnx")
    said = config(write(next_version(tmp_path, "m"), tmp_path / "dynamic.onnx").parent)
    assert said.max_batch_size == 32
    assert not said.HasField("dynamic_batching")


def test_a_next_version_leaves_the_configuration_as_it_was_changed_by_hand(tmp_path: Path) -> None:
    first = write(next_version(tmp_path, "digits"))
    file = first.parent / "config.pbtxt"
    text = file.read_text(encoding="utf-8")
    changed = text.replace("max_batch_size: 32", "max_batch_size: 8  # small").replace(
        "count: 1", "count: 2"
    )
    changed = changed.replace("input [", "input [  # of the camera")
    assert "camera" in changed
    assert changed != text
    file.write_text(changed, encoding="utf-8")
    (first.parent / "7").mkdir()
    assert next_version(tmp_path, "digits").name == "8"
    second = write(next_version(tmp_path, "digits"))
    assert [entry.name for entry in second.iterdir()] == ["model.onnx"]
    assert file.read_text(encoding="utf-8") == changed


def test_a_version_with_other_inputs_labels_or_batches_is_refused(tmp_path: Path) -> None:
    first = write(next_version(tmp_path, "digits"))
    other = graph(tmp_path / "other.onnx", {"input": ["batch", 3]})
    with pytest.raises(OnnxError, match=r"config\.pbtxt: another input .* dims: \[ 3 \]"):
        write(next_version(tmp_path, "digits"), other)
    fixed = graph(tmp_path / "fixed.onnx", {"input": [1, 3]})
    with pytest.raises(OnnxError, match="another max_batch_size"):
        write(next_version(tmp_path, "digits"), fixed)
    (first.parent / "labels.txt").write_text("cat\ndog\n", encoding="utf-8")
    with pytest.raises(OnnxError, match=r"labels\.txt: other labels"):
        write(next_version(tmp_path, "digits"))
    assert sorted(entry.name for entry in first.parent.iterdir()) == [
        "1",
        "config.pbtxt",
        "labels.txt",
    ]


@pytest.mark.parametrize(("first", "later"), [("batch", 1), (1, "batch"), (1, 1), ("batch", "n")])
def test_a_model_that_is_batched_stays_so_and_one_that_is_not_too(
    first: Any, later: Any, tmp_path: Path
) -> None:
    write(next_version(tmp_path, "m"), graph(tmp_path / "1.onnx", {"x": [first, 3]}))
    other = graph(tmp_path / "2.onnx", {"x": [later, 3]})
    if (first == 1) == (later == 1):
        assert write(next_version(tmp_path, "m"), other).name == "2"
        return
    with pytest.raises(OnnxError, match="another max_batch_size than that of the new version"):
        write(next_version(tmp_path, "m"), other)


def test_versions_are_counted_as_numbers(tmp_path: Path) -> None:
    """`10` comes after `9`; what is no version, and a number with a 0 in front, counts for none."""
    first = write(next_version(tmp_path, "m"), graph(tmp_path / "g.onnx", {"x": ["batch", 3]}))
    for name in ("9", "10", "0", "011", "12.old", "-13"):
        (first.parent / name).mkdir()
    assert next_version(tmp_path, "m").name == "11"
    # A model without labels has no file of them.
    assert not (first.parent / "labels.txt").exists()
    assert "label_filename" not in (first.parent / "config.pbtxt").read_text(encoding="utf-8")


def test_a_version_that_prepares_images_otherwise_is_refused(tmp_path: Path) -> None:
    """Clients that prepare images themselves would prepare them for the other version."""
    import onnx

    first = write(next_version(tmp_path, "digits"))
    # What is written by hand into the repository need not be UTF-8.
    with (first.parent / "config.pbtxt").open("ab") as stream:
        stream.write(b"# caf\xe9\n")
    for key, problem in (("preprocessing", "preprocessing"), ("output", "output_kind")):
        loaded = onnx.load(FIXTURES / "0.1.0" / "model.onnx")
        (entry,) = (each for each in loaded.metadata_props if each.key == key)
        if key == "preprocessing":
            entry.value = json.dumps({**json.loads(entry.value), "mean": [0.0], "std": [1.0]})
        else:
            entry.value = '"logits"'
        onnx.save(loaded, tmp_path / "other.onnx")
        with pytest.raises(OnnxError, match=f"version 1 of digits has another {problem};"):
            write(next_version(tmp_path, "digits"), tmp_path / "other.onnx")
    assert write(next_version(tmp_path, "digits")).name == "2"


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), triton_version(next_version(tmp_path, "m")):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["o.onnx", "--triton", "r"], 2, "--triton adds a version to a repository: leave out OUT"),
        (["--overwrite", "--triton", "r"], 2, "leave out --overwrite"),
        (["--name", "m"], 2, "--triton names the repository"),
        (["--triton", "r", "--name", " "], 2, "--name: a name was expected"),
        (["--triton", "r", "--name", "../m"], 1, "'../m' cannot be a model's name"),
        (["--triton", "missing/r"], 1, "missing/r: a folder was expected"),
        (["--triton", "taken", "--name", "m"], 1, "m is there already and is no model"),
    ],
)
def test_what_cannot_be_a_version_is_said_before_the_model_is_read(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken" / "m").mkdir(parents=True)
    assert main(["export", "no-such-model.t7", *words]) == code
    assert said in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def described(path: Path, **entries: str) -> Path:
    """Write the fixtures' classifier with other metadata."""
    import onnx

    loaded = onnx.load(FIXTURES / "0.1.0" / "model.onnx")
    values = {entry.key: entry.value for entry in loaded.metadata_props} | entries
    helper.set_model_props(loaded, values)
    onnx.save(loaded, path)
    return path


def test_a_version_is_compared_with_the_newest_one(tmp_path: Path) -> None:
    said = json.dumps({"color": "gray", "size": [32, 32], "mean": [0.0], "std": [1.0]})
    other = described(tmp_path / "other.onnx", preprocessing=said)
    first = write(next_version(tmp_path / "r", "m"))
    shutil.copyfile(other, write(next_version(tmp_path / "r", "m")) / "model.onnx")
    with pytest.raises(OnnxError, match="version 2 of m has another preprocessing"):
        write(next_version(tmp_path / "r", "m"))
    assert write(next_version(tmp_path / "r", "m"), other).name == "3"
    meaning = described(tmp_path / "meaning.onnx", preprocessing=said, output_kind='"logits"')
    with pytest.raises(OnnxError, match="version 3 of m has another output_kind"):
        write(next_version(tmp_path / "r", "m"), meaning)
    assert first.is_dir()


def test_what_a_kill_left_of_another_model_is_removed_by_a_later_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is named after its process; none that began at tick 1 runs any more."""
    write(next_version(tmp_path, "m"))
    left = tmp_path / f".torchlift-{files._machine()}-{os.getpid()}-1-0"
    left.mkdir()
    monkeypatch.setattr(files, "_cleaned", set())
    assert write(next_version(tmp_path, "m")).name == "2"
    assert left.exists() is not Path("/proc/self/stat").exists()


def test_another_process_that_was_first_is_not_overwritten(tmp_path: Path) -> None:
    def write_while_another_does(folder: Path) -> None:
        with triton_version(folder) as file:
            shutil.copyfile(FIXTURES / "0.1.0" / "model.onnx", file)
            folder.parent.mkdir()

    with pytest.raises(WriteError, match="by another process meanwhile"):
        write_while_another_does(next_version(tmp_path, "m"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]
    assert not list((tmp_path / "m").iterdir())


@pytest.mark.parametrize("name", ["a\tb", ".hidden", "a ", "a/b", "a\\b", ""])
def test_what_is_no_name_of_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="cannot be a model's name"):
        next_version(tmp_path, name)


def test_a_link_is_no_model(tmp_path: Path) -> None:
    write(next_version(tmp_path, "real"))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("link", "file", "dangling"):
        with pytest.raises(WriteError, match=f"{name} is there already and is no model"):
            next_version(tmp_path, name)


def test_labels_have_a_line_each_and_names_are_quoted(tmp_path: Path) -> None:
    names = [f"{number}" for number in range(10)]
    labels = json.dumps(["one\ntwo", *names[1:]])
    folder = write(next_version(tmp_path, 'a"b'), described(tmp_path / "x.onnx", labels=labels))
    lines = (folder.parent / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["one two", *names[1:]]
    assert config(folder.parent).name == 'a"b'


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        *(("float16", "FP16"), ("float32", "FP32"), ("float64", "FP64"), ("object", "STRING")),
        *(("bool", "BOOL"), ("int8", "INT8"), ("uint8", "UINT8"), ("int64", "INT64")),
    ],
)
def test_types_have_tritons_names(dtype: str, name: str, tmp_path: Path) -> None:
    tensor = {"name": "x\\ny", "dtype": dtype, "shape": ["batch", 3]}
    said = {"inputs": [tensor], "outputs": [tensor], "labels": None, "depends_on_batch": False}
    (tmp_path / "config.pbtxt").write_text(triton_config("m", said), encoding="utf-8")
    found = config(tmp_path)
    types = type(found).DESCRIPTOR.file.enum_types_by_name["DataType"]
    assert types.values_by_number[found.input[0].data_type].name == f"TYPE_{name}"
    assert found.input[0].name == "x\\ny"
    unknown = {**said, "outputs": [{**tensor, "dtype": "bfloat16"}]}
    with pytest.raises(OnnxError, match="Triton has no type for bfloat16"):
        triton_config("m", unknown)


@pytest.mark.slow
def test_triton_s_client_gets_the_bytes_of_a_session_from_the_served_folder(tmp_path: Path) -> None:
    client = pytest.importorskip("tritonclient.http")
    from serve_support import serving

    words = ["export", MODEL, *OPTIONS, "--triton", str(tmp_path), "--name", "digits"]
    assert main(words) == 0
    assert main(words) == 0
    assert main([*words[:-1], "baked", "--bake-resize"]) == 0
    rng = np.random.default_rng(0)
    inputs = {
        "digits": ("input", rng.random((3, 1, 32, 32), np.float32), "FP32"),
        "baked": ("image", rng.integers(0, 256, (45, 37, 3), np.uint8), "UINT8"),
    }
    with serving(tmp_path) as server, client.InferenceServerClient(f"localhost:{server.port}") as c:
        for name, (key, array, datatype) in inputs.items():
            tensor = client.InferInput(key, array.shape, datatype)
            tensor.set_data_from_numpy(array)
            given = c.infer(name, [tensor]).as_numpy("log_probabilities")
            version = {"digits": "2", "baked": "1"}[name]
            session = onnxruntime.InferenceSession(tmp_path / name / version / "model.onnx")
            assert given.tobytes() == session.run(None, {key: array})[0].tobytes()
            said, served = config(tmp_path / name), c.get_model_config(name)
            assert served["max_batch_size"] == said.max_batch_size
            assert [list(one["dims"]) for one in served["input"]] == [
                list(one.dims) for one in said.input
            ]
