"""New heads on networks from any source, and loading networks from those sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import FIXTURES
from torch import nn
from torch.nn import functional

from torchlift.cli.main import main
from torchlift.converters.modules.layers.arithmetic import MulConstant
from torchlift.converters.saved import SavedModel, TorchvisionNetwork, infer_output_kind, load, save
from torchlift.transfer.calibration import with_temperature
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import HeadError, NetworkError
from torchlift.transfer.heads import (
    find_head,
    head_outputs,
    replace_head,
    resize_head,
    strip_softmax,
)
from torchlift.transfer.network_by_name import load_network, new_network
from torchlift.transfer.training.classifiers import adapted_classifier

DIGITS = str(FIXTURES / "digits" / "digits-lenet5-bn.t7")


def fixture(name: str) -> str:
    return str(FIXTURES / "digits" / name)


def test_a_new_head_replaces_the_last_linear_layer_and_its_softmax() -> None:
    network = load_network(DIGITS).module
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    replace_head(network, 2)
    images = torch.rand(3, 1, 32, 32)
    assert infer_output_kind(network) == "logits"
    # Zero weights: all classes are equally probable.
    assert torch.equal(network(images), torch.zeros(3, 2))
    head = find_head(network)
    for name, tensor in network.state_dict().items():
        if not name.startswith(head):
            assert torch.equal(tensor, before[name]), name


def test_stripping_the_softmax_leaves_its_inputs() -> None:
    network, whole = load_network(DIGITS).module, load_network(DIGITS).module
    strip_softmax(network)
    images = torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(functional.log_softmax(network(images), 1), whole(images))


def test_only_the_softmax_at_the_end_is_stripped() -> None:
    """One within the network, such as that of an attention, is a layer like others."""
    network = nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 3), nn.LogSoftmax(1))
    features = torch.randn(5, 4)
    expected = network(features)
    strip_softmax(network)
    assert [type(layer).__name__ for layer in network] == [
        "Linear",
        "Softmax",
        "Linear",
        "Identity",
    ]
    torch.testing.assert_close(network(features).log_softmax(1), expected)


def test_a_head_takes_the_coefficients_of_a_probe() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 10), nn.LogSoftmax(1))
    weight, bias, features = torch.randn(3, 4), torch.randn(3), torch.randn(5, 1, 2, 2)
    replace_head(network, 3, weight, bias)
    torch.testing.assert_close(network(features), features.flatten(1) @ weight.T + bias)


@pytest.mark.parametrize("features", [3, 5])
def test_a_head_with_another_number_of_features_is_refused(features: int) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 10), nn.LogSoftmax(1))
    with pytest.raises(HeadError, match=f"takes 4 features of each position, not {features}"):
        replace_head(network, 2, torch.zeros(2, features), torch.zeros(2))


@pytest.mark.parametrize("training", [False, True])
def test_a_new_head_is_like_the_old_one_but_for_its_outputs(training: bool) -> None:
    old = nn.Conv2d(4, 6, (3, 1), stride=2, padding=(3, 1), dilation=2, groups=2)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), old).double().train(training)
    images = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    before = network(images).shape
    head = resize_head(network, 8)
    assert network[1] is head
    assert (head.training, head.weight.dtype) == (training, torch.float64)
    assert network(images).shape == (2, 8, *before[2:])
    for name in ("kernel_size", "stride", "padding", "dilation", "groups", "in_channels"):
        assert getattr(head, name) == getattr(old, name), name
    plain = nn.Sequential(nn.Linear(4, 3, bias=False)).train(training)
    assert resize_head(nn.Sequential(plain), 2).bias is None
    assert resize_head(nn.Sequential(plain), 2, needs_bias=True).bias is not None


def test_the_temperature_of_an_old_head_is_not_that_of_a_new_one() -> None:
    weight, bias, features = torch.randn(3, 4), torch.randn(3), torch.randn(5, 1, 2, 2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 10), nn.LogSoftmax(1))
    model = with_temperature(SavedModel(network, "log_probabilities"), 2.0)
    expected = model.module(features)
    strip_softmax(model.module, model.output_kind)
    torch.testing.assert_close(model.module(features).log_softmax(1), expected)
    replace_head(model.module, 3, weight, bias, output_kind="logits")
    torch.testing.assert_close(model.module(features), features.flatten(1) @ weight.T + bias)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
        nn.Sequential(nn.Linear(4, 3), nn.Tanh()),
        nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.LogSoftmax(1)),
    ],
    ids=["no linear layer", "features", "something before the softmax"],
)
def test_a_network_without_a_final_linear_layer_has_no_head(network: nn.Module) -> None:
    with pytest.raises(HeadError, match="does not end in a linear layer"):
        replace_head(network, 2)


def test_a_network_without_weights_or_of_a_single_layer_has_no_head() -> None:
    for layer in (nn.Linear(4, 3), nn.Conv2d(4, 3, 1)):
        with pytest.raises(HeadError, match=rf"a single layer \({type(layer).__name__}\).*nn\.Seq"):
            resize_head(layer, 2)
        assert find_head(nn.Sequential(layer)) == "0"
    for network in (nn.ReLU(), nn.Sequential(nn.Flatten(), nn.ReLU())):
        with pytest.raises(HeadError, match="contains no linear layer and no convolution"):
            resize_head(network, 2)
        with pytest.raises(HeadError, match="so it has no head"):
            head_outputs(network)
    # Its outputs can be counted, although it cannot be replaced.
    assert head_outputs(nn.Linear(4, 3)) == 3


def test_a_convolution_that_is_a_head_begins_where_its_relu_has_a_gradient() -> None:
    """As of SqueezeNet: all of its scores are one and alike; those of a linear layer are zero."""
    inputs = torch.rand(5, 4, 3, 3)
    behind = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(nn.Conv2d(4, 6, 1), *behind)
    replace_head(network, 2, output_kind="logits")
    scores = network(inputs)
    assert torch.equal(scores, torch.ones(5, 2))
    scores[:, 0].sum().backward()
    assert network[0].weight.grad.any()
    linear = nn.Sequential(nn.Flatten(), nn.Linear(36, 6))
    replace_head(linear, 2)
    assert torch.equal(linear(inputs), torch.zeros(5, 2))


@pytest.mark.parametrize(
    ("head", "features"),
    [(nn.Linear(4, 3), 4), (nn.Conv2d(4, 3, 1), 4), (nn.Conv2d(4, 3, (1, 2)), 8)],
    ids=str,
)
def test_the_weights_of_a_head_are_those_of_its_features(head: nn.Module, features: int) -> None:
    for count in (features - 1, features + 1):
        with pytest.raises(HeadError, match=f"takes {features} features of each .* not {count};"):
            replace_head(nn.Sequential(head), 2, torch.ones(2, count), output_kind="logits")
    network = nn.Sequential(head)
    replace_head(network, 2, torch.ones(2, features), output_kind="logits")
    assert network[0].weight.eq(1).all()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_torchvision_networks_take_weights_a_head_and_are_saved(
    suffix: str, tmp_path: Path
) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    reference = resnet18(weights=None).eval()
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": reference.state_dict()}, file)
    else:
        save_file(reference.state_dict(), file)
    model = load_network("torchvision:resnet18", str(file))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model.module(images), reference(images))
    assert model.preprocessing is not None
    assert model.preprocessing.mean == (0.485, 0.456, 0.406)

    replace_head(model.module, 2)
    nn.init.normal_(model.module.get_submodule(find_head(model.module)).weight)
    opened = load(save(model, tmp_path / "model"))
    assert isinstance(opened.module, TorchvisionNetwork)
    assert torch.equal(opened.module(images), model.module(images))


def test_a_function_returns_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n"
        "def small(channels=1, classes=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, classes))\n"
        "def wrong():\n"
        "    return 3\n"
        "def one(channels, classes):\n"
        "    return 1\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    assert load_network("python:my_networks:small").module(torch.rand(2, 1, 8, 8)).shape == (2, 4)
    assert new_network("python:my_networks:small", 3, 5)(torch.rand(2, 3, 8, 8)).shape == (2, 5)
    with pytest.raises(NetworkError, match="returned a value of type int"):
        load_network("python:my_networks:wrong")
    with pytest.raises(NetworkError, match="returned a value of type int"):
        new_network("python:my_networks:one", 3, 5)
    with pytest.raises(NetworkError, match=r"leave out at='a\.b'"):
        load_network("python:my_networks:small", at="a.b")
    with pytest.raises(NetworkError, match="no_such"):
        load_network("python:my_networks:no_such")


def test_a_known_output_kind_is_not_inferred_again() -> None:
    # The layers are defined in another order than they run in, as in many published networks.
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    network.add_module("used_before", nn.ReLU())
    network.forward = lambda x: network[1](network[0](x))  # type: ignore[method-assign]  # as a subclass would define it
    with pytest.raises(HeadError, match="does not end in a linear layer"):
        replace_head(network, 2)
    data = Dataset(np.random.default_rng(0).normal(size=(8, 1, 2, 2)), np.arange(8) % 2)
    model = adapted_classifier(SavedModel(network.eval(), "logits", (1, 2, 2)), data, "probe")
    assert model.module(torch.rand(5, 1, 2, 2)).shape == (5, 2)


def test_every_command_that_opens_a_model_takes_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A function returns the network of a .t7 file; the results are those of the file.
    (tmp_path / "functions.py").write_text(
        "from torchlift.converters import load_model\n"
        "from torchlift.converters.saved import SavedModel, open_model\n"
        f"FILE, SCALE = {DIGITS!r}, {fixture('digits_meanStd.t7')!r}\n"
        "def plain():\n"
        "    return load_model(FILE)\n"
        "def whole():\n"
        "    return open_model(FILE, mean_std=SCALE)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    data = fixture("digits-test.t7")
    names = [f"--labels={fixture('digits_classes.t7')}"]
    scale = [f"--mean-std={fixture('digits_meanStd.t7')}"]

    def run(*words: str) -> Any:
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    expected = run("evaluate", DIGITS, data, *scale, *names)
    for source, known in (("plain", [*scale, *names]), ("whole", names)):
        result = run("evaluate", f"python:functions:{source}", data, *known)
        assert (result["loss"], result["confusion"]) == (expected["loss"], expected["confusion"])
        assert result["classes"][0]["label"] == "zero"
    stored = run("extract", "python:functions:whole", data, "features", "--limit=8")
    assert stored["features"] == [{"layer": "penultimate", "shape": [8, 84]}]
    predictions = run("predict", "python:functions:whole", data, *names)["results"]
    assert len(predictions) == 500
    run("export", "python:functions:whole", "whole.onnx")
    assert run("evaluate", "whole.onnx", data)["correct"] == expected["correct"]
    assert main(["evaluate", "whole.onnx", data, "--weights=a.pth"]) == 1
    assert "--weights is not for an .onnx file" in capsys.readouterr().err


def test_random_weights_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), np.uint8)
    np.savez(tmp_path / "data.npz", x=pixels, y=np.arange(2))
    assert main(["evaluate", "torchvision:resnet18", str(tmp_path / "data.npz")]) == 0
    assert "no weights were given: they are random" in capsys.readouterr().out


def test_weights_that_do_not_fit_or_contain_code_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(NetworkError, match="does not fit the network"):
        load_network("torchvision:resnet18", str(file))
    torch.save(nn.Linear(1, 1), file)
    with pytest.raises(NetworkError, match="no plain state dict"):
        load_network("torchvision:resnet18", str(file))


def test_a_file_has_its_own_weights() -> None:
    for source in (DIGITS, "hf:org/name", "lenet5"):
        with pytest.raises(
            NetworkError, match=f"{source} has its own weights; leave out weights="
        ) as e:
            load_network(source, "w.pth")
        assert str(e.value).endswith("weights='w.pth'")
    assert load_network(DIGITS).output_kind == "log_probabilities"


def test_errors_about_unknown_networks_list_similar_names() -> None:
    with pytest.raises(NetworkError, match="resnet18"):
        load_network("torchvision:resnet81")
    with pytest.raises(NetworkError, match="lenet5"):
        new_network("lenet6", 1, 10)


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid()], ids=repr)
def test_what_makes_probabilities_is_taken_away(last: nn.Module) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), last)
    inputs = torch.rand(5, 1, 2, 2)
    expected = network[:2](inputs)
    strip_softmax(network)
    assert torch.equal(network(inputs), expected)
    assert infer_output_kind(network) == "logits"


def test_a_softmax_over_maps_is_taken_away_where_their_scale_says_that_they_are_logits() -> None:
    """As in a calibrated network, whose logits are divided by its temperature."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), MulConstant(0.5), nn.Softmax2d())
    images = torch.rand(2, 3, 5, 5)
    expected = network[:2](images)
    strip_softmax(network, "probabilities")
    assert torch.equal(network(images), expected)
