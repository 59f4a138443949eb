"""What timm says of its networks: their outputs, classes, sizes and the files of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from torchlift.transfer.errors import NetworkError
from torchlift.transfer.libraries import hugging_face, timm_models


class OfTimm(nn.Module):
    """A stand-in for the network that timm would build."""

    def __init__(self, name: str, num_classes: int, **options: Any) -> None:
        super().__init__()
        self.name, self.num_classes, self.options = name, num_classes, options


@pytest.mark.parametrize(
    ("own", "published_names", "labels"),
    [
        (["ant", "bee"], ["x", "y"], ["ant", "bee"]),
        (None, ["x", "y"], ["x", "y"]),
        (None, ["x"], None),
        (None, None, None),
    ],
)
def test_a_folder_of_timm_has_its_names_and_the_size_of_its_images(
    own: Any, published_names: Any, labels: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hugging_face, "TimmNetwork", OfTimm)
    images = {"input_size": [3, 16, 24], "mean": [0.5] * 3, "std": [0.25] * 3}
    config = {
        "architecture": "net",
        "num_classes": 2,
        "label_names": own,
        "model_args": {"img_size": 16},
        "pretrained_cfg": {**images, "label_names": published_names},
    }
    model = hugging_face._of_timm(config, tmp_path)
    made: Any = model.module
    assert (made.name, made.num_classes, made.options) == ("net", 2, {"img_size": 16})
    assert (model.labels, model.input_shape) == (labels, (3, 16, 24))


@pytest.mark.parametrize(
    ("published_count", "asked", "count"), [(None, None, 1000), (6, None, 6), (6, 3, 3)]
)
def test_a_network_of_timm_has_as_many_outputs_as_its_weights(
    published_count: int | None, asked: int | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "architecture": "net", "num_classes": published_count, "mean": (0.5,), "std": (0.5,)
    }  # fmt: skip
    monkeypatch.setattr(timm_models, "_published", lambda *given: settings)
    monkeypatch.setattr(timm_models, "TimmNetwork", OfTimm)
    model = timm_models.timm_classifier("net", asked)
    made: Any = model.module
    assert made.num_classes == count
    assert not made.training


@pytest.mark.parametrize("file", [None, "open_clip.safetensors"])
def test_weights_of_timm_may_have_a_file_name_of_their_own(
    file: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []
    settings = {"hf_hub_id": "timm/net.a1", "hf_hub_filename": file, "url": "https://old"}

    def find(repository: str, name: str, download: bool) -> Path | None:
        asked.append((repository, name, download))
        return tmp_path if download else None

    monkeypatch.setattr(timm_models, "_published", lambda *given: settings)
    monkeypatch.setattr(timm_models, "hub_file", find)
    with pytest.raises(NetworkError, match=r"hf:timm/net\.a1 is not in the cache"):
        timm_models.timm_weights("net", "a1", False)
    assert timm_models.timm_weights("net", "a1", True) == tmp_path
    name = file or "model.safetensors"
    assert asked == [("timm/net.a1", name, False), ("timm/net.a1", name, True)]
