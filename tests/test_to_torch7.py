"""Networks that go back to Torch7: as Torch7 itself wrote them, and with the same outputs.

The reference are files that Torch7 wrote: converted and written again, each object must have the
same class, version, fields and numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES
from torch import nn

from torchlift.cli.main import main
from torchlift.converters import convert, t7
from torchlift.converters.modules import ConversionError
from torchlift.converters.modules.to_torch7 import to_torch7
from torchlift.converters.saved import infer_input_shape, open_model
from torchlift.converters.t7 import LuaObject, LuaTable
from torchlift.transfer.networks import NETWORKS

FILES = {
    "models/softmax": (3, 32, 32),
    "models/convnet_bn": (3, 32, 32),
    "models/lenet5": (1, 32, 32),
    "models/alexnetowtbn_small": (3, 224, 224),
    "digits/digits-lenet5-bn": (1, 32, 32),
}
#: What changes no number: notes and buffers of a pass, and whether one is saved.
SCRATCH = {"iheight", "iwidth", "inplace", "addBuffer"}


def plain(value: Any) -> Any:
    """A value that compares by what is in it."""
    if isinstance(value, LuaObject):
        fields = {key: plain(item) for key, item in value.fields.items() if key not in SCRATCH}
        return (value.class_name, value.version, fields)
    if isinstance(value, LuaTable):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return (value.torch_class, value.shape, np.asarray(value).tolist())
    return value


@pytest.mark.parametrize("name", FILES)
def test_torch7s_own_files_come_back_field_by_field(name: str, tmp_path: Path) -> None:
    theirs = t7.load(FIXTURES / f"{name}.t7")
    ours = to_torch7(convert(theirs), FILES[name])
    t7.save(ours, tmp_path / "again.t7")
    expected, actual = plain(theirs), plain(t7.load(tmp_path / "again.t7"))
    assert _without_gradients(actual) == _without_gradients(expected)


def _without_gradients(described: Any) -> Any:
    """Gradients by their shapes only: a file keeps those of its last training step."""
    class_name, version, fields = described
    kept = {}
    for key, value in fields.items():
        if key == "modules":
            kept[key] = {index: _without_gradients(child) for index, child in value.items()}
        else:
            kept[key] = value[:2] if key.startswith("grad") and key != "gradInput" else value
    return class_name, version, kept


@pytest.mark.parametrize(
    "name",
    [
        *("two_layer", "lenet", "net_batch_norm", "net_res_deep_shared"),
        *("net_res_deep_projected", pytest.param("googlenet_bn", marks=pytest.mark.slow)),
    ],
)
def test_our_networks_compute_the_same_after_the_way_there_and_back(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](3, 10).eval()
    shape = infer_input_shape(network)
    assert shape is not None
    t7.save(to_torch7(network, shape), tmp_path / "model.t7")
    images = torch.rand(2, *shape)
    with torch.no_grad():
        again = open_model(tmp_path / "model.t7").module(images)
        torch.testing.assert_close(again, network(images))


def test_shared_layers_are_written_once(tmp_path: Path) -> None:
    blocks = to_torch7(NETWORKS["net_res_deep_shared"](3, 2), (3, 32, 32))["modules"][4]["modules"]
    assert len({id(block) for block in blocks.values()}) == 1
    assert len(blocks) == 10


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "0: .* has groups"),
        (nn.Conv2d(4, 4, 3, padding="same"), "0: .* has a padding without a number"),
        (nn.GELU(), "0: GELU has no counterpart"),
        # nn.SpatialDropout scales in evaluation, nn.Dropout2d in training.
        (nn.Dropout2d(), "0: Dropout2d has no counterpart"),
    ],
)
def test_what_torch7_lacks_is_refused_by_name(layer: nn.Module, said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        to_torch7(nn.Sequential(layer), (4, 8, 8))


def test_convert_writes_a_t7(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = FIXTURES / "digits" / "digits-lenet5.t7", tmp_path / "again.t7"
    assert main(["convert", str(source), str(target)]) == 0
    given = torch.rand(2, 1, 32, 32)
    theirs, ours = (open_model(file).module(given) for file in (source, target))
    assert torch.equal(ours, theirs)
    assert main(["convert", str(source), str(target)]) == 1
    assert "--overwrite" in capsys.readouterr().err
