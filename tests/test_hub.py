"""A saved model in a repository of the Hugging Face Hub is opened by `hf:ORG/NAME`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_support import DATA
from hub_support import COMMIT, hub
from saved_support import tiny
from torch import nn

from torchlift.cli.main import main
from torchlift.converters import saved
from torchlift.converters.saved import SavedModel, SavedModelError, open_model
from torchlift.converters.saved import hub as hub_module
from torchlift.converters.saved.hub import (
    _fetched,
    _problem,
    fetch_of_another_library,
    is_remote,
    model_path,
)
from torchlift.transfer.network_by_name import load_network

constants = pytest.importorskip("huggingface_hub.constants")
huggingface_hub = pytest.importorskip("huggingface_hub")
errors = pytest.importorskip("huggingface_hub.errors")


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """The folder that is served as `lab/digits`, and what is asked for."""
    folder = saved.save(tiny(labels=["a", "b", "c"]), tmp_path / "repository")
    (folder / "train.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    _fetched.cache_clear()
    with hub(folder) as (address, asked):
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield folder, asked
    _fetched.cache_clear()


def test_a_repository_opens_as_its_folder_does(served: tuple[Path, list[str]]) -> None:
    folder, asked = served
    model, expected = open_model("hf:lab/digits"), open_model(folder)
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(model.module(images), expected.module(images))
    assert model.labels == ["a", "b", "c"]
    assert model.notes == [*expected.notes, f"downloaded from hf:lab/digits, commit {COMMIT}"]
    files = {path.rpartition("/")[2] for path in asked if path.startswith("GET")}
    assert files == {"config.json", "model.safetensors"}
    # Whatever is pushed meanwhile, the weights are those of the same commit.
    assert all(COMMIT in path for path in asked if path.endswith("model.safetensors"))


def test_what_is_in_the_cache_is_not_downloaded_again(served: tuple[Path, list[str]]) -> None:
    _, asked = served
    first = model_path("hf:lab/digits@v1")
    assert first.name == COMMIT
    asked.clear()
    _fetched.cache_clear()
    assert model_path("hf:lab/digits@v1") == first
    assert [path for path in asked if path.startswith("GET")] == []


def test_the_torch7_object_comes_along(served: tuple[Path, list[str]]) -> None:
    """It is what the model is written back to `.t7` with."""
    folder, _ = served
    (folder / "torch7.t7").write_bytes(b"any")
    assert (model_path("hf:lab/digits") / "torch7.t7").read_bytes() == b"any"


def test_commands_take_a_repository(
    served: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = served
    assert main(["inspect", "hf:lab/digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == ["a", "b", "c"]
    assert main(["summary", "hf:lab/digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 239
    assert main(["diff", "hf:lab/digits", str(folder)]) == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hf:lab/none", "hf:lab/none: no such repository"),
        ("hf:lab/digits@v9", "hf:lab/digits@v9: the repository has no such revision"),
        ("hf:digits", "hf:digits: no such folder, and not the name of a repository"),
        ("hf:../../etc", "not the name of a repository"),
        ("hf:", "not the name of a repository"),
    ],
)
def test_what_is_not_there_is_one_sentence(
    name: str,
    text: str,
    served: tuple[Path, list[str]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A folder that is there wins: of other folders, ../../etc may be one.
    monkeypatch.chdir(tmp_path)
    assert main(["predict", name, DATA]) == 1
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("config.json", None, "the repository has no config.json: it is not a model saved by"),
        ("config.json", b'{"architecture": "resnet18"}', "not a model saved by torchlift"),
        ("model.safetensors", None, "the repository has no model.safetensors"),
        ("model.safetensors", bytes(20_000), "has 20,000 bytes, at most 13,824 were expected"),
    ],
)
def test_a_repository_of_something_else_is_refused(
    file: str,
    content: bytes | None,
    text: str,
    served: tuple[Path, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, asked = served
    monkeypatch.setattr("torchlift.converters.saved.hub._LARGEST_CONFIG", 10_000)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(SavedModelError, match=f"^hf:lab/digits: .*{text}"):
        open_model("hf:lab/digits")
    assert not any(path.startswith("GET") and path.endswith(".safetensors") for path in asked)


def test_a_local_folder_wins(
    served: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked = served
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    saved.save(tiny(labels=["x", "y", "z"]), tmp_path / "lab" / "digits")
    assert not is_remote("hf:lab/digits")
    assert open_model("hf:lab/digits").labels == ["x", "y", "z"]
    assert asked == []


def test_a_config_file_starts_no_download(
    served: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, asked = served
    (tmp_path / "c.yaml").write_text("teacher: hf:lab/digits\n", encoding="utf-8")
    words = ["train", "convnet_bn", DATA, "-o", str(tmp_path / "r")]
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--config", str(tmp_path / "c.yaml")])
    assert "a repository that is downloaded, which a config file cannot name" in (
        capsys.readouterr().err
    )
    assert asked == []


def test_without_the_package_the_extra_is_named(
    served: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchlift.converters.requirements.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"hf:lab/digits needs huggingface-hub: pip install"):
        open_model("hf:lab/digits")


def test_a_network_of_another_library_is_fetched_for_load_network_alone(
    served: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`open_model` opens saved models only, and downloads no weights that it cannot open."""
    folder, asked = served
    (folder / "config.json").write_text('{"architecture": "small"}', encoding="utf-8")
    with pytest.raises(SavedModelError, match=r"^hf:lab/digits: a network of timm"):
        open_model("hf:lab/digits")
    assert not any(path.endswith(".safetensors") for path in asked)
    opened: list[str] = []

    def keep(place: Path) -> SavedModel:
        opened.extend(sorted(file.name for file in place.iterdir()))
        return SavedModel(nn.Linear(4, 2), "logits")

    monkeypatch.setattr("torchlift.transfer.network_by_name.open_hugging_face", keep)
    model = load_network("hf:lab/digits")
    assert opened == ["config.json", "model.safetensors"]
    assert model.notes[-1].startswith("downloaded from hf:lab/digits, commit")


def test_what_images_of_a_network_of_another_library_are_comes_along(
    served: tuple[Path, list[str]],
) -> None:
    folder, asked = served
    (folder / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    (folder / "preprocessor_config.json").write_text('{"size": 8}', encoding="utf-8")
    fetch_of_another_library("hf:lab/digits@v1")
    place = model_path("hf:lab/digits@v1")
    names = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert sorted(file.name for file in place.iterdir()) == names
    # Whatever is pushed meanwhile, all files are of one commit.
    assert all(COMMIT in path for path in asked if not path.endswith("/config.json"))


def test_weights_of_another_library_are_there_and_of_a_size_that_is_told(
    served: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = served
    assert hub_module._LARGEST_WEIGHTS == 4 * 2**30
    (folder / "config.json").write_text('{"architecture": "small"}', encoding="utf-8")
    weights = folder / "model.safetensors"
    for content, limit, problem in (
        (None, 1000, "the repository has no model.safetensors$"),
        (bytes(1000), 999, "model.safetensors has 1,000 bytes, at most 999 were expected"),
        (bytes(1000), 1000, None),
    ):
        monkeypatch.setattr("torchlift.converters.saved.hub._LARGEST_WEIGHTS", limit)
        _fetched.cache_clear()
        if content is None:
            weights.unlink()
        else:
            weights.write_bytes(content)
        if problem is None:
            fetch_of_another_library("hf:lab/digits")
            continue
        with pytest.raises(SavedModelError, match=f"^hf:lab/digits: {problem}"):
            fetch_of_another_library("hf:lab/digits")
    assert not any(path.startswith("GET") and "torch7.t7" in path for path in asked)


def test_a_damaged_config_is_named_by_its_repository(served: tuple[Path, list[str]]) -> None:
    folder, asked = served
    (folder / "config.json").write_text('{"format": "torchlift"}', encoding="utf-8")
    with pytest.raises(SavedModelError, match=r"^hf:lab/digits: format version None; "):
        model_path("hf:lab/digits")
    assert not any(path.endswith(".safetensors") for path in asked)


def test_a_config_without_a_count_allows_weights_of_a_usual_size(
    served: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torchlift 0.1.0 did not count the parameters: 2**28 of them are allowed."""
    folder, _ = served
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    values |= {"format_version": 1, "output": values.pop("output_kind")}
    del values["parameters"]
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    limits: list[Any] = []
    download = hub_module._downloaded

    def downloaded(source: str, repository: str, name: str, revision: Any, limit: int) -> Any:
        limits.append((name, revision, limit))
        return download(source, repository, name, revision, limit)

    monkeypatch.setattr(hub_module, "_downloaded", downloaded)
    model_path("hf:lab/digits")
    most = 64 * 2**20 + 16 * 2**28
    assert limits == [
        ("config.json", None, 64 * 2**20),
        ("model.safetensors", COMMIT, most),
        ("torch7.t7", COMMIT, most),
    ]
    # What was fetched once in a process is not asked for again.
    model_path("hf:lab/digits")
    assert len(limits) == 3


@pytest.mark.parametrize(
    ("name", "is_needed"),
    [("config.json", True), ("model.safetensors", True), ("torch7.t7", False)],
)
def test_without_a_connection_the_file_that_is_missing_is_named(
    name: str, is_needed: bool, served: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be missing in a repository may be missing in the cache, too."""
    download = huggingface_hub.hf_hub_download

    def offline(repository: str, file: str, **options: Any) -> Any:
        if file == name:
            raise errors.LocalEntryNotFoundError("offline")
        return download(repository, file, **options)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    if not is_needed:
        assert open_model("hf:lab/digits").labels == ["a", "b", "c"]
        return
    with pytest.raises(SavedModelError, match=f"no connection, and {name} is not in the Hub's"):
        open_model("hf:lab/digits")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            "GatedRepoError",
            "its owner grants access on the repository's page; then `hf auth login`",
        ),
        ("RepositoryNotFoundError", "no such repository; for a private one, `hf auth login` first"),
        ("RevisionNotFoundError", "the repository has no such revision"),
        ("HfHubHTTPError", "config.json cannot be downloaded: of that kind"),
    ],
)
def test_what_the_hub_refuses_is_told_apart(kind: str, text: str) -> None:
    error_class = getattr(errors, kind)
    error = error_class.__new__(error_class, "of that kind")
    error.args = ("of that kind\nand more",)
    assert _problem("config.json", error) == text


@pytest.mark.parametrize(
    ("text", "is_other"),
    [
        ('{"model_type": "vit"}', True),
        ('{"architecture": "resnet18"}', True),
        ('{"format": "torchlift"}', False),
        ('["model_type"]', False),
        ("5", False),
        ("{", False),
        (None, False),
    ],
)
def test_a_network_of_another_library_is_named_by_an_entry_of_its_config(
    text: str | None, is_other: bool, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert hub_module.is_of_another_library(tmp_path) is is_other
