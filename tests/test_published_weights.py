"""`--weights IMAGENET1K_V1`: torchvision's own weights from its cache, fetched only if asked."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from torchlift.cli.main import main
from torchlift.transfer.errors import NetworkError
from torchlift.transfer.libraries.published import weights_at
from torchlift.transfer.libraries.torchvision_models import (
    torchvision_classifier,
    with_current_names,
)
from torchlift.transfer.network_by_name import load_network

NAME = "shufflenet_v2_x0_5"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of torch.hub's files, which is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hub" / "checkpoints"


def test_published_weights_come_from_the_cache_with_their_classes(cache: Path) -> None:
    from torchvision.models import ShuffleNet_V2_X0_5_Weights, get_model

    weights = ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1
    torch.manual_seed(5)
    reference = get_model(NAME, weights=None).eval()
    cache.mkdir(parents=True)
    torch.save(reference.state_dict(), cache / weights.url.rpartition("/")[2])
    for name in ("IMAGENET1K_V1", "DEFAULT"):
        model = load_network(f"torchvision:{NAME}", name)
        inputs = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(model.module(inputs), reference(inputs))
        assert model.labels == weights.meta["categories"]
        assert model.notes == []


@pytest.mark.parametrize(("weights", "resized"), [("IMAGENET1K_V1", 256), ("IMAGENET1K_V2", 232)])
def test_images_are_prepared_as_for_the_weights_that_are_named(weights: str, resized: int) -> None:
    """The second weights of MobileNet were trained on larger parts of the images."""
    model = torchvision_classifier("mobilenet_v3_large", weights=weights)
    assert model.preprocessing is not None
    assert (model.preprocessing.size, model.preprocessing.crop) == (resized, (224, 224))
    assert model.labels is not None
    assert len(model.labels) == 1000
    # Of a file nobody knows: those of the first weights, and no names.
    own = torchvision_classifier("mobilenet_v3_large", weights="own.pth")
    assert own.preprocessing is not None
    assert (own.preprocessing.size, own.labels) == (256, None)


def test_what_is_not_in_the_cache_is_not_fetched(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", f"torchvision:{NAME}", "--weights", "IMAGENET1K_V1"]
    assert main(words) == 1
    assert "is not there: --download fetches it (https://" in capsys.readouterr().err
    assert not cache.exists()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("IMAGENET1K_V9", r"is no file, and torchvision:shufflenet_v2_x0_5 has IMAGENET1K_V1"),
        ("none.pth", "none.pth: no such file"),
        ("folder/name", "folder/name: no such file"),
    ],
)
def test_weights_that_do_not_exist_are_refused(weights: str, message: str, cache: Path) -> None:
    with pytest.raises(NetworkError, match=message):
        load_network(f"torchvision:{NAME}", weights)


@pytest.mark.parametrize("source", ["model.t7", "python:os:getcwd"])
def test_only_published_networks_are_fetched(source: str) -> None:
    with pytest.raises(NetworkError, match="download=True is for torchvision:NAME and timm:NAME"):
        load_network(source, download=True)


def test_a_download_is_checked_and_kept(cache: Path, tmp_path: Path) -> None:
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()[:8]
    file = tmp_path / f"net-{digest}.pth"
    file.write_bytes(content)
    assert weights_at(file.as_uri(), download=True).read_bytes() == content
    file.unlink()
    assert weights_at(file.as_uri(), download=False) == cache / file.name
    damaged = tmp_path / "net-00000000.pth"
    damaged.write_bytes(content)
    with pytest.raises(NetworkError, match="cannot be fetched: invalid hash value"):
        weights_at(damaged.as_uri(), download=True)
    with pytest.raises(NetworkError, match="cannot be fetched"):
        weights_at((tmp_path / "none.pth").as_uri(), download=True)
    assert [path.name for path in cache.iterdir()] == [file.name]


def test_the_old_names_of_densenet_are_those_of_torchvision() -> None:
    from torchvision.models import get_model

    with torch.device("meta"):
        names = list(get_model("densenet121", weights=None).state_dict())
    old = [name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") for name in names]
    assert old != names
    assert list(with_current_names(dict.fromkeys(old, torch.ones(1)))) == names
