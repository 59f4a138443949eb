"""A saved model opens as an equal model: its outputs, sharing and metadata are unchanged.

The reference is the module before it was saved, so that outputs must be equal bit for bit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from saved_support import tiny
from support import FIXTURES, SHARED
from torch import nn

from torchlift.converters import convert, saved, t7
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.saved import Provenance, SavedModel, SavedModelError

FAMILIES = sorted(
    path.stem for path in (FIXTURES / "layers").glob("*.t7") if path.stem != "criterions"
)
IMAGE_MODELS = {
    "digits/digits-lenet5": (1, 32, 32),
    "digits/digits-lenet5-bn": (1, 32, 32),
    "cifar/cifar-convnet-bn": (3, 32, 32),
    "models/softmax": (3, 32, 32),
    "models/convnet": (3, 32, 32),
    "models/convnet_bn": (3, 32, 32),
    "models/lenet5": (1, 32, 32),
    "models/alexnetowtbn_small": (3, 224, 224),
}
#: Saved as a class of torch.nn, which takes batches only.
BATCHES_ONLY = nn.modules.batchnorm._BatchNorm


def layer_cases() -> list[Any]:
    return [
        pytest.param(case, id=f"{family}-{case['name']}")
        for family in FAMILIES
        for case in t7.load(FIXTURES / "layers" / f"{family}.t7").values()
    ]


def run(module: nn.Module, input: Any) -> list[torch.Tensor]:
    torch.manual_seed(0)
    with torch.no_grad():
        return flat(module(copied(input)))


def copied(value: Any) -> Any:
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


def flat(value: Any) -> list[torch.Tensor]:
    items = value.values() if isinstance(value, dict) else value
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for item in items for tensor in flat(item)]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) and a.dtype == b.dtype
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("case", layer_cases())
def test_every_converted_layer_computes_the_same_bits(case: t7.LuaTable, tmp_path: Path) -> None:
    module = convert(case["module"]).eval()
    input = t7.to_torch(case["input"])
    if isinstance(module, BATCHES_ONLY) and input.dim() in (1, 3):
        input = input[None]
    saved.save(SavedModel(module, "features"), tmp_path / "m")
    assert equal(run(saved.load(tmp_path / "m").module, input), run(module, input))


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_image_models_keep_their_input_shape_and_outputs(name: str, tmp_path: Path) -> None:
    model = saved.open_model(FIXTURES / f"{name}.t7")
    assert model.input_shape == IMAGE_MODELS[name]
    assert model.output_kind == "log_probabilities"
    saved.save(model, tmp_path / "m")
    again = saved.open_model(tmp_path / "m")
    assert again == SavedModel(**{**vars(model), "module": again.module})
    assert not again.module.training
    for batch in (1, 2, 7):
        input = torch.randn(batch, *IMAGE_MODELS[name])
        output = run(again.module, input)
        assert equal(output, run(model.module, input))
        assert len(output[0]) == batch


def test_metadata_is_kept(tmp_path: Path) -> None:
    preprocessing = Preprocessing("gray", (8, 8), "pil-bicubic", None, 255, (12.5,), (3.25,))
    metadata = {
        "labels": ["zéro", 'o"ne', "two"],
        "preprocessing": preprocessing,
        "notes": ["a note"],
        "source": Provenance("m.t7", "ab" * 32),
    }
    saved.save(tiny(**metadata), tmp_path / "m")
    again = saved.load(tmp_path / "m")
    assert {key: getattr(again, key) for key in metadata} == metadata
    assert (again.output_kind, again.input_shape) == ("logits", (1, 8, 8))
    config = json.loads((tmp_path / "m" / "config.json").read_text(encoding="utf-8"))
    assert config["structure"]["children"][3] == {
        "class": "torch.nn.Linear",
        "arguments": {"in_features": 72, "out_features": 3},
    }


def test_shared_modules_stay_shared_and_tied_parameters_tied(tmp_path: Path) -> None:
    first, second, relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
    second.weight = first.weight
    network = nn.Sequential(first, relu, nn.Sequential(second, relu), first)
    saved.save(SavedModel(network, "logits"), tmp_path / "m")
    again = saved.load(tmp_path / "m").module
    assert again[3] is again[0]
    assert again[2][1] is again[1]
    assert again[2][0].weight is again[0].weight
    assert again[2][0].bias is not again[0].bias
    assert len(load_file(tmp_path / "m" / "model.safetensors")) == 3


def test_views_of_one_storage_are_saved_separately(tmp_path: Path) -> None:
    storage = torch.arange(24.0)
    network = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False))
    network[0].weight = nn.Parameter(storage[4:12].view(2, 4))
    network[1].weight = nn.Parameter(storage[12:20].view(2, 4).t())
    saved.save(SavedModel(network, "logits"), tmp_path / "m")
    input = torch.randn(3, 4)
    assert equal(run(saved.load(tmp_path / "m").module, input), run(network, input))
    # safetensors refuses tensors that overlap.
    network[1].weight = nn.Parameter(storage[8:16].view(4, 2))
    saved.save(SavedModel(network, "logits"), tmp_path / "m", overwrite=True)
    assert equal(run(saved.load(tmp_path / "m").module, input), run(network, input))


def test_tensors_are_aligned_in_memory_of_their_own(tmp_path: Path) -> None:
    """A matrix product of tensors that are not aligned, as in the file, rounds otherwise."""
    network = nn.Sequential(*(nn.Linear(5, 5) for _ in range(4)))
    saved.save(SavedModel(network, "logits"), tmp_path / "m")
    again = saved.load(tmp_path / "m").module
    tensors = again.state_dict().values()
    assert [tensor.data_ptr() % 64 for tensor in tensors] == [0] * 8
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)
    # They can be trained on.
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_tensors_in_one_memory_are_saved_each_by_itself(tmp_path: Path) -> None:
    """Also if one is a part of the other, which safetensors refuses."""
    memory = torch.arange(9.0)
    for first, bias in ((6, [6, 7, 8]), (3, [3, 4, 5])):
        network = nn.Linear(2, 3)
        network.weight = nn.Parameter(memory[:6].view(3, 2))
        network.bias = nn.Parameter(memory[first : first + 3])
        folder = saved.save(SavedModel(network, "logits"), tmp_path / f"{first}")
        again = saved.load(folder).module
        assert again.weight.tolist() == [[0, 1], [2, 3], [4, 5]]
        assert again.bias.tolist() == bias


def test_a_folder_says_what_a_network_takes_how_many_parameters_it_has_and_which_are_tied(
    tmp_path: Path,
) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))
    network.append(nn.Conv2d(2, 2, 1))
    network[3].weight = network[2].weight
    folder = saved.save(SavedModel(network.eval(), "features", (1, 8, 8)), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["inputs"] == parse_inputs("1x8x8").to_json()
    # 18 + 2, the scale and shift of 2 channels but not their statistics, 4 once, 2 and 2.
    assert config["parameters"] == 20 + 4 + 4 + 4
    assert config["tied"] == {"3.weight": "2.weight"}


def test_names_of_no_class_are_not_those_of_outputs(tmp_path: Path) -> None:
    folder = saved.save(tiny(), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "labels": []}), encoding="utf-8")
    with pytest.raises(SavedModelError, match="0 class names for 3 outputs"):
        saved.load(folder)


def test_modules_that_cannot_be_described_are_named() -> None:
    class Mine(nn.Module):
        pass

    with pytest.raises(SavedModelError, match=r"1\.0: Mine is neither"):
        saved.save(SavedModel(nn.Sequential(nn.ReLU(), nn.Sequential(Mine())), "logits"), "m")
    changed = nn.Linear(2, 2)
    changed.weight = nn.Parameter(torch.zeros(3, 2))
    with pytest.raises(SavedModelError, match=r"0\.weight has the shape \(3, 2\)"):
        saved.save(SavedModel(nn.Sequential(changed), "logits"), "m")
    empty = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(SavedModelError, match=r"1\.weight has no values: its layer was never fil"):
        saved.save(SavedModel(empty, "logits"), "m")


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "wild").is_dir(), reason="needs the shared files")
@pytest.mark.parametrize(
    "file", sorted((SHARED / "wild").glob("*.io.t7")), ids=lambda path: path.name[:40]
)
def test_published_models_compute_the_same_bits(file: Path, tmp_path: Path) -> None:
    for number, case in enumerate(t7.load(file).to_list()):
        model = saved.open_model(
            file.with_suffix("").with_suffix(""), at=case["path"] or None, dtype=None
        )
        folder = saved.save(model, tmp_path / str(number))
        dtypes = [p.dtype for p in model.module.parameters()] or [torch.float32]
        tensors = [tensor.to(dtypes[0]) for tensor in flat(t7.to_torch(case["input"]))]
        input = tensors if isinstance(case["input"], t7.LuaTable) else tensors[0]
        assert equal(run(saved.load(folder).module, input), run(model.module, input))
