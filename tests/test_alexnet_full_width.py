"""AlexNet-OWT-BN in the published layout, at full width (244 MB), through every command.

The truth is the same network built of torch.nn here, with the same weights, and one step of
gradient descent computed from its features. A sixteenth of the width runs the same in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from torchlift.cli.main import main
from torchlift.converters import load_model, t7
from torchlift.converters.saved import open_model
from torchlift.converters.t7 import LuaObject, LuaTable

pytestmark = pytest.mark.slow

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COLORS = {"red": (200, 60, 50), "green": (40, 190, 80), "blue": (60, 70, 210)}
LR = 0.05


def reference(narrower: int) -> nn.Sequential:
    """The network of Krizhevsky (2014) with batch normalization, as soumith trained it."""
    torch.manual_seed(0)
    features: list[nn.Module] = []
    planes = 3
    for filters, kernel, stride, pad, pooled in (
        (64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False),
        (256, 3, 1, 1, False), (256, 3, 1, 1, True),
    ):  # fmt: skip
        filters //= narrower
        features += [nn.Conv2d(planes, filters, kernel, stride, pad), nn.BatchNorm2d(filters, 1e-3)]
        features += [nn.ReLU(), *([nn.MaxPool2d(3, 2)] if pooled else [])]
        planes = filters
    classifier: list[nn.Module] = [nn.Flatten()]
    units = 4096 // narrower
    for inputs in (planes * 6 * 6, units):
        classifier += [nn.Dropout(0.5), nn.Linear(inputs, units), nn.BatchNorm1d(units, 1e-3)]
        classifier += [nn.ReLU()]
    classifier += [nn.Linear(units, 1000), nn.LogSoftmax(1)]
    network = nn.Sequential(nn.Sequential(*features), nn.Sequential(*classifier)).eval()
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return network


def lua(class_name: str, **fields: Any) -> LuaObject:
    """An object as `sanitize` leaves it: buffers empty, no gradients."""
    empty = np.zeros(0, np.float32)
    common = {"output": empty, "gradInput": empty, "_type": "torch.FloatTensor", "train": False}
    return LuaObject(class_name, LuaTable({**common, **fields}))


def layer_of(layer: nn.Module, elements: int) -> LuaObject:
    """The Torch7 layer of a layer of torch.nn; `elements` are those of the last features."""
    fields: dict[str, Any] = {
        name: parameter.detach().numpy() for name, parameter in layer.named_parameters()
    }
    match layer:
        case nn.Conv2d():
            (k, _), (d, _), (p, _) = layer.kernel_size, layer.stride, layer.padding
            fields |= {"kW": k, "kH": k, "dW": d, "dH": d, "padW": p, "padH": p, "groups": 1}
            fields |= {"nInputPlane": layer.in_channels, "nOutputPlane": layer.out_channels}
            return lua("cudnn.SpatialConvolution", **fields)
        case nn.BatchNorm2d() | nn.BatchNorm1d():
            kind = "Spatial" if isinstance(layer, nn.BatchNorm2d) else ""
            fields |= {"running_mean": layer.running_mean.numpy(), "eps": 1e-3, "momentum": 0.1}
            fields |= {"running_var": layer.running_var.numpy(), "affine": True}
            return lua(f"nn.{kind}BatchNormalization", **fields)
        case nn.MaxPool2d():
            sizes = {"kW": 3, "kH": 3, "dW": 2, "dH": 2, "padW": 0, "padH": 0, "ceil_mode": False}
            return lua("cudnn.SpatialMaxPooling", **sizes)
        case nn.Flatten():
            return lua("nn.View", size=np.array([elements]), numElements=elements)
        case nn.Dropout():
            return lua("nn.Dropout", p=0.5, v2=True)
        case nn.ReLU():
            return lua("cudnn.ReLU", inplace=True)
        case nn.Linear():
            return lua("nn.Linear", **fields)
    return lua("nn.LogSoftMax")


def save(network: nn.Sequential, file: Path) -> None:
    """Write the network as imagenet-multiGPU.torch saves it: features on many GPUs, classifier."""
    elements = network[1][2].in_features
    features, classifier = (
        lua(
            "nn.Sequential",
            modules=LuaTable.from_list([layer_of(layer, elements) for layer in part]),
        )
        for part in network
    )
    parallel = lua("nn.DataParallelTable", modules=LuaTable.from_list([features]), dimension=1)
    parallel.version = 2
    parallel.body = [LuaTable({"gpuAssignments": LuaTable.from_list([1])}), parallel.fields]
    t7.save(lua("nn.Sequential", modules=LuaTable.from_list([parallel, classifier])), file)


def write_images(folder: Path) -> list[Path]:
    """Fifteen images of 224×224 in three classes: nine for training, three and three."""
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1), ("test", 1)):
        for name, color in COLORS.items():
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                noise = random.normal(0, 12, (224, 224, 3)) + random.normal(0, 12, 3)
                pixels = (noise + color).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return sorted(folder.rglob("*.png"))


def inputs(files: list[Path]) -> torch.Tensor:
    """(N, 3, 224, 224): values from 0 to 1, minus the mean, over std."""
    pixels = np.stack([np.asarray(Image.open(file)) for file in files]).astype(np.float32) / 255
    normalized = (pixels - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(normalized.transpose(0, 3, 1, 2).copy())


def differs(found: Any, expected: torch.Tensor) -> float:
    """The largest difference, relative to the largest output."""
    gap = torch.as_tensor(found).double() - expected.double()
    return float(gap.abs().max() / expected.abs().max())


@pytest.fixture(params=[16, 1], ids=["a sixteenth", "full width"])
def network(request: pytest.FixtureRequest) -> nn.Sequential:
    return reference(request.param)


@pytest.fixture
def folder(network: nn.Sequential, tmp_path: Path) -> Iterator[Path]:
    """The checkpoint, its files of classes and of mean and std, and images."""
    folder = tmp_path
    save(network, folder / "model.t7")
    names = LuaTable.from_list([f"class {number}" for number in range(1, 1001)])
    t7.save(LuaTable({"classes": names}), folder / "classes.t7")
    mean, std = (LuaTable.from_list(list(values)) for values in (MEAN, STD))
    t7.save(LuaTable({"mean": mean, "std": std}), folder / "meanstd.t7")
    write_images(folder / "images")
    yield folder
    for large in (*folder.rglob("*.t7"), *folder.rglob("*.onnx"), *folder.rglob("*.safetensors")):
        large.unlink()


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    capsys.readouterr()
    code = main([*map(str, words), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err + captured.out[-2000:]
    return json.loads(captured.out)


def test_every_command_gives_the_networks_numbers(
    folder: Path, network: nn.Sequential, capsys: pytest.CaptureFixture[str]
) -> None:
    is_full = network[1][-2].in_features == 4096
    assert not is_full or (folder / "model.t7").stat().st_size > 244_000_000
    files = sorted((folder / "images" / "test").rglob("*.png"))
    batch = inputs(files)
    with torch.inference_mode():
        expected = network(batch)
        assert differs(load_model(folder / "model.t7")(batch), expected) < 1e-6

    beside = ("--labels", folder / "classes.t7", "--mean-std", folder / "meanstd.t7")
    run(capsys, "convert", folder / "model.t7", folder / "saved", *beside, "--input-size", "224")
    with torch.inference_mode():
        assert differs(open_model(folder / "saved").module(batch), expected) < 1e-6

    run(capsys, "export", folder / "saved", folder / "model.onnx", "--bake-preprocessing")
    assert run(capsys, "check", folder / "saved", folder / "model.onnx")["passed"]
    predicted = run(capsys, "predict", folder / "model.onnx", *files)["results"]
    for result, scores in zip(predicted, expected.exp(), strict=True):
        best = result["predictions"][0]
        assert best["label"] == f"class {int(scores.argmax()) + 1}"
        # Probabilities of float32 sums over 4,096 products, in another order.
        assert best["probability"] == pytest.approx(float(scores.max()), abs=1e-4)

    words = ["finetune", folder / "saved", folder / "images", "--head=zeros", "--epochs=1"]
    words += ["--freeze=all-but-head", "--batch-size=9", f"--lr={LR}", "--momentum=0"]
    words += ["--weight-decay=0", "--schedule=constant", "--tracker=none"]
    run(capsys, *words, "-o", folder / "run")
    tuned = open_model(folder / "run" / "model")
    train = sorted((folder / "images" / "train").rglob("*.png"))
    names = sorted(COLORS)
    assert list(tuned.labels or ()) == names
    with torch.inference_mode():
        body = nn.Sequential(network[0], network[1][:-2])
        features = body(inputs(train))
        truth = torch.eye(3)[[names.index(file.parent.name) for file in train]]
        step = LR * (truth - 1 / 3) / len(train)
        logits = body(batch) @ (features.T @ step) + step.sum(0)
        found = tuned.module(batch)
    # The head began with zeros: every class had the probability 1/3.
    assert (
        differs(found - found.mean(1, keepdim=True), logits - logits.mean(1, keepdim=True)) < 1e-4
    )

    run(capsys, "export", folder / "run" / "model", folder / "tuned.onnx", "--bake-preprocessing")
    quantized = folder / "int8.onnx"
    images = folder / "images"
    run(capsys, "quantize", folder / "tuned.onnx", quantized, "--data", images, "--calibration=9")
    ratio = quantized.stat().st_size / (folder / "tuned.onnx").stat().st_size
    assert ratio < (0.3 if is_full else 0.5)
    chances = logits.softmax(1)
    # Eight bits for each weight and activation may cost some hundredths of a probability.
    for file, tolerance in ((folder / "tuned.onnx", 1e-4), (quantized, 0.05)):
        results = run(capsys, "predict", file, *files)["results"]
        assert [result["input"] for result in results] == list(map(str, files))
        for result, chance in zip(results, chances, strict=True):
            found = {each["label"]: each["probability"] for each in result["predictions"]}
            assert found == pytest.approx(
                dict(zip(names, chance.tolist(), strict=True)), abs=tolerance
            )
