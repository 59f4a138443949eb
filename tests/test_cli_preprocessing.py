"""--mean, --std, --color and --value-range: what is typed is what the network's inputs become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_support import image_network, lua, lua_list, write
from cli_support import DATA, typed
from onnx import TensorProto, helper, save_model

from torchlift.cli.model_options import PreprocessingOptions
from torchlift.converters import saved
from torchlift.converters.errors import TorchliftError
from torchlift.converters.images import Preprocessing, PreprocessingError
from torchlift.converters.images.normalization import Normalization
from torchlift.converters.inference import open_predictor
from torchlift.converters.inference.metadata import Metadata

#: A color image of 8×8.
IMAGE = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("files")
    network = write(image_network(), folder, "net.t7")
    gray = write(image_network(channels=1), folder, "gray.t7")
    beside = write(
        lua(model=image_network(), mean=lua_list(0.5, 0.5, 0.5), std=lua_list(0.2, 0.2, 0.2)),
        folder,
        "beside.t7",
    )
    return {"net": str(network), "gray": str(gray), "beside": str(beside), "to": str(folder)}


def by_hand(color: str, limits: tuple[float, float], mean: Any, std: Any) -> np.ndarray:
    """What interfaces of Torch7 programs compute: colors, range, minus mean, over std."""
    pixels = IMAGE[..., ::-1] if color == "BGR" else IMAGE
    low, high = limits
    values = low + pixels.astype(np.float64) / 255 * (high - low)
    inputs: np.ndarray = (values - np.array(mean)) / np.array(std)
    return inputs.transpose(2, 0, 1)[None]


CAFFE = (103.939, 116.779, 123.68)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("line", "color", "limits", "mean", "std"),
    [
        ("--mean 0.5 --std 0.25", "RGB", (0, 1), 0.5, 0.25),
        ("--mean 103.939,116.779,123.68 --color BGR", "BGR", (0, 255), CAFFE, 1),
        ("--std 0.5", "RGB", (0, 1), 0, 0.5),
        ("--value-range -1,1", "RGB", (-1, 1), 0, 1),
        ("--value-range=0,1 --color BGR", "BGR", (0, 1), 0, 1),
        ("--value-range 255", "RGB", (0, 255), 0, 1),
        ("--mean -0.5 --std 2 --value-range -1,3", "RGB", (-1, 3), -0.5, 2),
        ("--mean imagenet --std imagenet", "RGB", (0, 1), *IMAGENET),
        (
            *("--mean imagenet --std imagenet --color BGR", "BGR", (0, 1)),
            *(IMAGENET[0][::-1], IMAGENET[1][::-1]),
        ),
    ],
)
def test_what_is_typed_is_computed_saved_and_exported(
    line: str,
    color: str,
    limits: tuple[float, float],
    mean: Any,
    std: Any,
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    expected = by_hand(color, limits, mean, std)
    code, out, err = typed(
        files, capsys, "convert", "{net}", f"{tmp_path}/m", *line.split(), "--json"
    )
    assert code == 0, err
    assert any("images are resized to 8×8 by pil-bilinear" in n for n in json.loads(out)["notes"])
    prepare = saved.open_model(tmp_path / "m").preprocessing
    assert prepare is not None
    np.testing.assert_allclose(prepare(IMAGE), expected, rtol=1e-5, atol=1e-5)
    onnx = f"{tmp_path}/m.onnx"
    assert typed(files, capsys, "export", f"{tmp_path}/m", onnx, "--bake-preprocessing")[0] == 0
    baked, network = open_predictor(onnx, "cpu"), open_predictor(tmp_path / "m", "cpu")
    pixels = IMAGE.transpose(2, 0, 1)[None]
    np.testing.assert_allclose(
        baked(pixels), network(expected.astype(np.float32)), rtol=1e-4, atol=1e-4
    )
    # The same again is no error, other numbers are.
    for model in (f"{tmp_path}/m", onnx):
        assert typed(files, capsys, "predict", model, "china", *line.split())[0] == 0
        code, out, err = typed(files, capsys, "predict", model, "china", "--std", "7")
        assert (code, out) == (1, "")
        assert "--std 7 is not the model's own" in err
    assert typed(files, capsys, "check", f"{tmp_path}/m", onnx, *line.split())[0] == 0


def test_batches_in_training_are_normalized_alike() -> None:
    from torchlift.transfer.data import Batches, BatchPlan, Dataset

    prepare = Preprocessing(value_range=(-1, 1), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    pixels = IMAGE.transpose(2, 0, 1)[None]
    batches = Batches(Dataset(pixels), prepare, BatchPlan(1, batch_size=1))
    [(inputs, _)] = list(batches.epoch(1))
    assert np.array_equal(inputs.numpy(), prepare(pixels))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{net} --mean imagenet", "--mean imagenet and --std imagenet belong together"),
        ("{net} --mean imagenet --std imagenet --value-range 255", "from 0 to 1"),
        ("{net} --mean imagenet --std imagenet --color gray", "three channels"),
        ("{net} --mean x", "--mean: numbers"),
        ("{net} --mean 1,2", "1 or 3"),
        ("{net} --std 0", "positive"),
        ("{net} --value-range 2", "--value-range 2: 1, 255 or"),
        ("{net} --value-range 1,1", "ascending"),
        ("{net} --color RBG", "--color"),
        ("{net} --mean 1 --mean-std x.t7", "leave out --mean"),
    ],
)
def test_words_that_are_wrong_in_themselves(
    line: str, problem: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = typed(files, capsys, "convert", *line.split(), "--overwrite")
    assert (code, out) == (2, ""), err
    assert problem in err


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{net} --mean 0", "--value-range"),
        ("{net} --mean -1,2,3", "--value-range"),
        ("{net} --color BGR", "--value-range"),
        ("{net} --color gray --value-range 1", "the network takes 3"),
        ("{gray} --color BGR --value-range 1", "the network takes 1"),
        ("{gray} --mean imagenet --std imagenet", "the network takes 1"),
    ],
)
def test_numbers_that_do_not_fit_or_do_not_tell_the_range(
    line: str,
    problem: str,
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    words = line.split()
    code, out, err = typed(files, capsys, "convert", words[0], f"{tmp_path}/m", *words[1:])
    assert (code, out) == (1, ""), err
    assert problem in err
    assert not (tmp_path / "m").exists()


def test_the_command_line_wins_over_what_stands_beside_the_model(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert typed(files, capsys, "convert", "{beside}", f"{tmp_path}/own")[0] == 0
    own = saved.open_model(tmp_path / "own").preprocessing
    assert own is not None
    assert (own.mean, own.std) == ((0.5,) * 3, (0.2,) * 3)
    words = ["convert", "{beside}", f"{tmp_path}/said", "--mean", "100,110,120", "--color", "BGR"]
    code, out, _ = typed(files, capsys, *words, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["preprocessing"]["mean"] == [100, 110, 120]
    assert document["preprocessing"]["std"] == [1]
    assert sum("as given, not as beside the model" in note for note in document["notes"]) == 1
    # The range is told by the file's numbers where only the color is said.
    code, out, _ = typed(
        files, capsys, "convert", "{beside}", f"{tmp_path}/bgr", "--color", "BGR", "--json"
    )
    assert json.loads(out)["preprocessing"]["color"] == "BGR"
    assert json.loads(out)["preprocessing"]["value_range"] == 1


def test_train_and_quantize_take_them_too(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = f"{tmp_path}/run"
    words = f"train softmax {DATA} --epochs 1 --limit 60 -o {run} --value-range -1,1 --mean 0.1"
    code, _, err = typed(files, capsys, *words.split())
    assert code == 0, err
    prepare = saved.open_model(f"{run}/model").preprocessing
    assert prepare is not None
    assert (prepare.value_range, prepare.mean, prepare.std) == ((-1, 1), (0.1,), (1.0,))
    onnx = f"{tmp_path}/r.onnx"
    assert typed(files, capsys, "export", f"{run}/model", onnx)[0] == 0
    words = f"quantize {onnx} {tmp_path}/q.onnx --data {DATA} --limit 60 --mean 0.2"
    code, _, err = typed(files, capsys, *words.split())
    assert code == 1
    assert "--mean 0.2 is not the model's own, which is 0.1" in err


def test_gray_and_color_are_the_networks_own_where_nothing_is_said() -> None:
    assert Normalization.of(mean=0.5).preprocessing((1, 8, 8))[0].color == "gray"
    assert Normalization.of(mean=0.5).preprocessing(channels=3)[0].color == "RGB"
    with pytest.raises(PreprocessingError, match="takes 4"):
        Normalization.of(mean=0.5).preprocessing((4, 8, 8))


@pytest.mark.parametrize(
    ("file", "given", "problem"),
    [
        ("said", {}, ""),
        ("said", {"mean": [0.5], "std": [0.25], "color": "gray"}, ""),
        ("said", {"mean": [0.5]}, ""),
        ("said", {"mean": [0.25], "std": [0.25]}, "mean"),
        ("said", {"color": "RGB"}, "color"),
        ("unsaid", {}, ""),
        ("unsaid", {"mean": [0.5], "std": [0.25]}, "says nothing of its preprocessing"),
    ],
)
def test_what_is_given_is_what_an_onnx_file_says(
    file: str, given: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    """As the model cannot be changed, other values would have no effect."""
    said = Preprocessing("gray", mean=(0.5,), std=(0.25,)) if file == "said" else None
    place = str(identity(tmp_path / "m.onnx", Metadata(preprocessing=said)))
    options = PreprocessingOptions(**given)
    if problem:
        with pytest.raises(TorchliftError, match=rf"m\.onnx: .*{problem}"):
            options.require_of_onnx(place)
    else:
        options.require_of_onnx(place)


def identity(file: Path, said: Metadata) -> Path:
    """Write a network that returns its gray input."""
    info = helper.make_tensor_value_info
    shape = ["batch", 1, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [info("x", TensorProto.FLOAT, shape)],
        [info("y", TensorProto.FLOAT, shape)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(made, said.to_props())
    save_model(made, file)
    return file
