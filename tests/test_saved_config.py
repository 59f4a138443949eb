"""What `config.json` and the header of the tensors tell, without a network: of either version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_support import tiny
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.saved import SavedModel, SavedModelError, config, load, save
from torchlift.converters.saved.config import (
    check_preprocessing,
    describe_folder,
    first_not_finite_weight,
    preprocessing_of_format_1,
    read_config,
)
from torchlift.converters.saved.hub import is_of_another_library


def written(folder: Path, changes: dict[str, Any], **metadata: Any) -> Path:
    """Save a small model, change its description (None takes an entry out), and return it."""
    path = save(tiny(**metadata), folder / "m")
    values = json.loads((path / "config.json").read_text(encoding="utf-8")) | changes
    kept = {name: value for name, value in values.items() if value != "out"}
    (path / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    return path


#: What torchlift 0.1.0 had and had not.
FORMAT_1 = {
    "format_version": 1,
    "output": "logits",
    **dict.fromkeys(
        ("output_kind", "parameters", "inputs", "vocabularies", "image_to_image"), "out"
    ),
}


def test_the_first_version_has_other_names_and_counts_no_parameters(tmp_path: Path) -> None:
    preprocessing = Preprocessing("gray", (8, 8), "torch-nearest")
    path = written(tmp_path, FORMAT_1, preprocessing=preprocessing)
    found = read_config(path)
    assert found["output_kind"] == "logits"
    assert "output" not in found
    # What it called so computed the pixel at the center.
    assert found["preprocessing"]["resize"] == "torch-nearest-exact"
    assert found["preprocessing"]["size"] == [8, 8]
    described = describe_folder(path)
    # A convolution of 9 weights to 2 planes with biases, and 72 to 3.
    assert described["parameters"] == 2 * 10 + 3 * 73
    assert (described["vocabularies"], described["inputs"]) == ([], None)
    assert load(path).preprocessing == Preprocessing("gray", (8, 8), "torch-nearest-exact")


@pytest.mark.parametrize("name", ["parameters", "notes", "tied", "source", "torchlift_version"])
def test_today_every_entry_is_there(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, {name: "out"})
    with pytest.raises(SavedModelError, match=rf"config\.json: damaged: no entry '{name}'"):
        read_config(path)


@pytest.mark.parametrize("name", ["inputs", "vocabularies", "image_to_image"])
def test_entries_of_later_torchlifts_may_be_missing(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, {name: "out"})
    assert name not in read_config(path)
    assert load(path).vocabularies == []
    assert describe_folder(path)["labels"] is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"input_shape": [1, 2**14, 2**14]}, ""),
        ({"input_shape": [1, 2**14, 2**14 + 1]}, "too large for an example"),
        ({"input_shape": [0, 8, 8]}, "a whole number from 1"),
        ({"inputs": [{"shape": ["batch", 0]}]}, "damaged"),
        ({"inputs": []}, ""),
        ({"source": {"file": "a.t7"}}, "no entry 'source.sha256'"),
        ({"source": {"file": 5, "sha256": "ab"}}, "source.file is 5; a text"),
        ({"parameters": -1}, "parameters is -1; a whole number"),
        ({"parameters": 1.5}, "parameters is 1.5; a whole number"),
        ({"notes": ["a", 5]}, r"notes\[1\] is 5; a text"),
        ({"labels": ["a", None]}, r"labels\[1\] is None; a text"),
        ({"torchlift_version": 2}, "torchlift_version is 2; a text"),
    ],
)
def test_an_entry_of_another_kind_is_named(
    changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    path = written(tmp_path, changes)
    if not problem:
        read_config(path)
        return
    with pytest.raises(SavedModelError, match=problem):
        read_config(path)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "m" / "config.json").mkdir(parents=True)
    with pytest.raises(SavedModelError, match=r"config\.json: cannot be read: Is a directory"):
        read_config(tmp_path / "m")
    (tmp_path / "file").touch()
    with pytest.raises(SavedModelError, match=r"file: not a saved model: it contains no config"):
        read_config(tmp_path / "file")


def test_a_version_of_the_future_names_the_torchlift_that_wrote_it(tmp_path: Path) -> None:
    path = written(tmp_path, {"format_version": 3, "torchlift_version": "9.8.7"})
    with pytest.raises(SavedModelError, match=r"install the version that wrote it, 9\.8\.7$"):
        read_config(path)


def test_what_does_not_fit_the_network_is_found_without_one(tmp_path: Path) -> None:
    other = Preprocessing("RGB", (8, 8)).to_json()
    path = written(tmp_path, {"preprocessing": other})
    match = r"m/config\.json: color is 'RGB', but the network takes 1×8×8"
    for read in (describe_folder, load):
        with pytest.raises(SavedModelError, match=match):
            read(path)


def test_statistics_of_a_normalization_are_no_parameters(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    path = save(SavedModel(network, "features"), tmp_path / "m")
    assert describe_folder(path)["parameters"] == 20 + 4
    values = json.loads((path / "config.json").read_text(encoding="utf-8")) | FORMAT_1
    kept = {name: value for name, value in values.items() if value != "out"}
    (path / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    assert describe_folder(path)["parameters"] == 20 + 4


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_first_weight_that_is_no_number_is_found_in_the_file(
    value: float, tmp_path: Path
) -> None:
    model = tiny()
    assert first_not_finite_weight(save(model, tmp_path / "whole")) == ""
    model.module[3].weight.data[1, 5] = value
    found = first_not_finite_weight(save(model, tmp_path / "m"))
    assert found.startswith(f"3.weight[1, 5] is {value}")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(SavedModelError, match=r"model\.safetensors: damaged: "):
        first_not_finite_weight(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(SavedModelError, match=r"model\.safetensors: no such file$"):
        first_not_finite_weight(tmp_path / "m")


def test_preprocessing_of_either_version_is_checked_where_images_can_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert preprocessing_of_format_1({"resize": "pil-box"}) == {"resize": "pil-box"}
    assert preprocessing_of_format_1(7) == 7  # type: ignore[arg-type]  # of a damaged file
    values = json.loads(json.dumps(Preprocessing("gray", (8, 8)).to_json()))
    old = values | {"resize": "torch-nearest"}
    check_preprocessing(old, [1, 8, 8])
    check_preprocessing(None, [3, 8, 8])
    with pytest.raises(Exception, match="but the network takes 3×8×8"):
        check_preprocessing(old, [3, 8, 8])
    monkeypatch.setattr(config, "is_installed", lambda name: name != "PIL")
    check_preprocessing(old, [3, 8, 8])


def test_a_description_is_text_that_people_can_read(tmp_path: Path) -> None:
    path = save(tiny(labels=["zéro", "b", "c"]), tmp_path / "m")
    text = (path / "config.json").read_bytes().decode("utf-8")
    assert '"zéro"' in text
    assert text.startswith('{\n "format": "torchlift",\n')
    assert text.endswith("}\n")


def test_a_network_that_is_nested_too_deeply_to_be_built_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(_: Any) -> nn.Module:
        raise RecursionError("maximum recursion depth exceeded")

    path = save(tiny(), tmp_path / "m")
    monkeypatch.setattr("torchlift.converters.saved.folder.build", build)
    with pytest.raises(SavedModelError, match=r"m/config\.json: nested too deeply$"):
        load(path)


def test_a_description_that_no_json_reader_takes_is_of_no_other_library(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000, encoding="utf-8")
    assert not is_of_another_library(tmp_path)


def test_caches_of_python_beside_a_model_are_none_of_its_bytes(tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "m")
    count = describe_folder(path)["bytes"]
    assert count == sum(file.stat().st_size for file in path.iterdir())
    (path / "__pycache__").mkdir()
    (path / "__pycache__" / "model.pyc").write_bytes(bytes(1000))
    assert describe_folder(path)["bytes"] == count


@pytest.mark.parametrize(("side", "is_taken"), [(2**14, True), (2**14 + 1, False)])
def test_an_example_has_a_gigabyte_at_most(side: int, is_taken: bool, tmp_path: Path) -> None:
    path = written(tmp_path, {"input_shape": [1, 2**14, side]})
    if is_taken:
        assert read_config(path)["input_shape"] == [1, 2**14, side]
    else:
        with pytest.raises(SavedModelError, match="too large for an example"):
            read_config(path)


@pytest.mark.parametrize("resize", ["torch-nearest-exact", "torch-bilinear", "image.scale-simple"])
def test_of_the_names_of_the_first_version_one_alone_means_another_method(resize: str) -> None:
    values = {"resize": resize, "size": 8}
    assert preprocessing_of_format_1(values) == values
