"""`export --outputs` and `--columns`: what is kept is what the network gives there, and is checked.

The truth is the module itself, cut with torch.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.modules.layers.container import Concat
from torchlift.converters.onnx import OnnxError, check, describe_file, export
from torchlift.converters.onnx.exporter.kept_outputs import Kept, KeptOutputs
from torchlift.converters.saved import SavedModel

INPUTS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


class Heads(nn.Module):
    """A table of logits, log-probabilities and a map."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Linear(6, 5)
        self.classes = nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(1))

    def forward(self, values: torch.Tensor) -> list[torch.Tensor]:
        return [self.logits(values), self.classes(values), values.reshape(-1, 2, 3) * 2]


@pytest.fixture
def heads() -> nn.Module:
    torch.manual_seed(0)
    return Heads().eval()


@pytest.fixture
def two_classifiers() -> nn.Module:
    torch.manual_seed(0)
    branches = (nn.Sequential(nn.Linear(6, n), nn.LogSoftmax(1)) for n in (4, 3))
    return nn.Sequential(Concat(*branches, dim=1)).eval()


def run(path: Path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": INPUTS.numpy()})  # type: ignore[no-any-return]


def names(path: Path) -> list[str]:
    return [value["name"] for value in describe_file(path)["outputs"]]


@pytest.mark.parametrize(
    ("kept", "numbers", "kind"),
    [
        (["output_2"], [1], "log_probabilities"),
        (["1"], [0], "logits"),
        ([3, 1], [2, 0], "features"),
        (["output_3"], [2], "features"),
    ],
)
def test_the_outputs_that_are_named_are_kept_in_this_order(
    kept: list[str | int], numbers: list[int], kind: str, heads: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    exported = export(heads, path, input_shape=(6,), outputs=kept)
    assert names(path) == exported.outputs == [f"output_{number + 1}" for number in numbers]
    assert exported.output_kind == kind
    expected = heads(INPUTS)
    for number, actual in zip(numbers, run(path), strict=True):
        # float32 sums in another order
        np.testing.assert_allclose(actual, expected[number].detach().numpy(), atol=1e-6)
    report = check(heads, path)
    assert report.passed, list(report.lines())


@pytest.mark.parametrize(
    ("columns", "kind"), [((1, 4), "log_probabilities"), ((5, 7), "log_probabilities")]
)
def test_one_of_two_classifiers_side_by_side_is_a_classifier(
    columns: tuple[int, int], kind: str, two_classifiers: nn.Module, tmp_path: Path
) -> None:
    labels = [f"class {number}" for number in range(1, 8)]
    model = SavedModel(two_classifiers, "features", labels=labels)
    path, (first, last) = tmp_path / "net.onnx", columns
    export(model, path, input_shape=(6,), columns=columns)
    described = describe_file(path)
    assert described["output_kind"] == kind
    assert described["labels"] == labels[first - 1 : last]
    expected = two_classifiers(INPUTS)[:, first - 1 : last].detach().numpy()
    np.testing.assert_allclose(run(path)[0], expected, atol=1e-6)
    report = check(model, path)
    assert report.passed, list(report.lines())
    # The labels of the file are not those that the model has in other columns.
    proto = onnx.load(path)
    for entry in proto.metadata_props:
        if entry.key == "kept_columns":
            entry.value = "[2, 5]" if first == 1 else "[4, 6]"
    onnx.save(proto, path)
    assert not check(model, path).passed


def test_a_part_of_the_classes_is_no_classifier(two_classifiers: nn.Module, tmp_path: Path) -> None:
    export(two_classifiers, tmp_path / "net.onnx", input_shape=(6,), columns=(2, 3))
    assert describe_file(tmp_path / "net.onnx")["output_kind"] == "features"
    assert check(two_classifiers, tmp_path / "net.onnx").passed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outputs": ["4"]}, "no output 4: its outputs are output_1, output_2, output_3, or 1 to"),
        ({"outputs": ["logits"]}, "no output logits"),
        ({"outputs": ["1", "output_1"]}, "kept once"),
        ({"columns": (1, 2)}, r"there are 3: choose one of .* with outputs="),
        ({"outputs": ["1"], "columns": (1, 6)}, r"no columns 1:6: output_1 has .* batch×5"),
        ({"outputs": ["3"], "columns": (1, 2)}, "only batch×columns has columns"),
    ],
)
def test_what_the_network_does_not_give_cannot_be_kept(
    options: dict[str, object], said: str, heads: nn.Module, tmp_path: Path
) -> None:
    with pytest.raises(OnnxError, match=said):
        export(heads, tmp_path / "net.onnx", input_shape=(6,), **options)  # type: ignore[arg-type]
    assert not (tmp_path / "net.onnx").exists()


def test_the_command_line_keeps_outputs_and_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def layer(name: str, **fields: object) -> t7.LuaObject:
        return t7.LuaObject(name, t7.LuaTable({"_type": "torch.FloatTensor", **fields}))

    values = np.random.default_rng(0).random((5, 6), np.float32)
    linear = layer("nn.Linear", weight=values, bias=values[:, 0].copy())
    table = layer("nn.ConcatTable", modules=t7.LuaTable.from_list([linear, layer("nn.Tanh")]))
    t7.save(table, tmp_path / "net.t7")
    files = [str(tmp_path / "net.t7"), str(tmp_path / "net.onnx")]
    options = ["--input", "6", "--outputs", "output_1", "--columns", "2:4"]
    assert main(["export", *files, *options, "--json"]) == 0
    (output,) = json.loads(capsys.readouterr().out)["outputs"]
    assert (output["name"], output["shape"]) == ("output_1", ["batch", 3])
    expected = INPUTS.numpy() @ values.T + values[:, 0]
    np.testing.assert_allclose(run(tmp_path / "net.onnx")[0], expected[:, 1:4], atol=1e-5)
    assert main(["check", *files]) == 0
    assert main(["export", *files, "--overwrite", "--outputs", "3", "--input", "6"]) == 1
    for columns in ("0:3", "3:1", "5", "a:b"):
        with pytest.raises(SystemExit) as stop:
            main(["export", *files, "--columns", columns])
        assert stop.value.code == 2


@pytest.mark.parametrize(
    ("last", "kind"), [(nn.LogSoftmax(1), "features"), (nn.Identity(), "logits")]
)
def test_a_part_of_one_choice_is_no_choice_however_sure_it_is(
    last: nn.Module, kind: str, tmp_path: Path
) -> None:
    """Two columns hold all of the probability here, but not for every input."""
    linear = nn.Linear(6, 4)
    with torch.no_grad():
        linear.bias.copy_(torch.tensor([60.0, 59.0, 0.0, 0.0]))
    path = tmp_path / "part.onnx"
    model = nn.Sequential(linear, last).eval()
    exported = export(model, path, input_shape=(6,), columns=(1, 2))
    assert exported.output_kind == kind


def test_a_network_stays_in_the_mode_that_it_is_in() -> None:
    """One that drops numbers at random in training drops none in evaluation."""
    network = nn.Sequential(nn.Dropout(0.9)).eval()
    kept = KeptOutputs(network, Kept(columns=(2, 4)))
    assert torch.equal(kept(INPUTS), INPUTS[:, 1:4])
    assert kept.eval().network is network
