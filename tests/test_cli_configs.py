"""Config files of a command: mistakes in them, and lists."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pytest
from cli_support import typed

from torchlift.cli.config_files import read_config
from torchlift.converters import t7


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("epochs: many", "c.yaml: epochs: a whole number was expected, not 'many'"),
        ("batchsize: 3", "c.yaml: no such option: batchsize; did you mean batch_size?"),
        ("image_size: x", "c.yaml: image_size: a size such as 224 or 240x320 was expected"),
        ("flip: 3", "c.yaml: flip: true or false was expected, not 3"),
        ("json: 1", "c.yaml: json: true or false was expected, not 1"),
        ("debug: 'on'", "c.yaml: debug: true or false was expected, not 'on'"),
        ("- epochs", "c.yaml: options and their values were expected, such as epochs: 5"),
        ("epochs: [", "c.yaml: not YAML: "),
    ],
)
def test_a_mistake_in_a_config_names_the_file_and_the_command(
    config: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(config, encoding="utf-8")
    code, _, err = typed({}, capsys, "train", "softmax", "d", "--config", "c.yaml")
    assert code == 2
    assert err.startswith(f"torchlift train: {said}")
    assert err.endswith("torchlift train --help lists the arguments\n")


def test_a_config_may_hold_what_every_command_takes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, config = tmp_path / "x.t7", tmp_path / "c.yaml"
    t7.save({"a": 1}, file)
    config.write_text("json: true\ndebug: false\n", encoding="utf-8")
    code, out, err = typed({}, capsys, "inspect", str(file), "--config", str(config))
    assert code == 0, err
    assert json.loads(out)["file_kind"] == "t7"


def test_a_class_name_may_hold_a_comma(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A config file holds a list, and so does the config.yaml of the run that is resumed."""
    data, config, run = tmp_path / "d.npz", tmp_path / "c.yaml", tmp_path / "run"
    names, classes = ["salt, pepper", "oil", "rice"], np.arange(30) % 3
    np.savez(data, x=np.zeros((30, 1, 8, 8), np.uint8), y=classes, classes=names)
    config.write_text("classes: ['salt, pepper', rice]\ntracker: [tensorboard]\n")
    words = ["train", "softmax", str(data), "--epochs", "1", "--output", str(run), "--json"]
    code, out, err = typed({}, capsys, *words, "--config", str(config))
    assert code == 0, err
    assert [one["label"] for one in json.loads(out)["evaluation"]["classes"]] == [names[0], "rice"]
    resumed = [*words[:-1], "--config", str(run / "config.yaml"), "--resume", "auto"]
    assert typed({}, capsys, *resumed)[0] == 0
    # As 0.1.0 wrote it.
    text = (run / "config.yaml").read_text(encoding="utf-8")
    assert "classes:\n- salt, pepper\n- rice\n" in text
    old = ["train", "softmax", "digits", "--epochs", "0", "--output", str(tmp_path / "old")]
    assert typed({}, capsys, *old, "--classes", "3,8")[0] == 0
    stored = tmp_path / "old" / "config.yaml"
    text = stored.read_text(encoding="utf-8").replace("classes:\n- '3'\n- '8'\n", "classes: 3, 8\n")
    stored.write_text(text, encoding="utf-8")
    code, _, err = typed({}, capsys, *old, "--classes", "3,8", "--resume", "auto")
    assert code == 0, err


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("plugin: evil.py", "c.yaml: plugin: evil.py is Python code that runs"),
        ("model: python:evil:make", "c.yaml: model: python:evil:make is Python code that runs"),
        ("tracker: [wandb]", "c.yaml: tracker: ['wandb'] is a service that is called"),
        (
            "tracker: [tensorboard, wandb]",
            "c.yaml: tracker: ['tensorboard', 'wandb'] is a service that is called",
        ),
        ("download: true", "c.yaml: download: true is only taken from the command line"),
        ("model: hf:org/net", "c.yaml: model: hf:org/net is a repository that is downloaded"),
        ("data: https://a.example/d.npz", "c.yaml: data: https://a.example/d.npz is an address"),
        ("test_data: s3://bucket/d.npz", "c.yaml: test_data: s3://bucket/d.npz is an address"),
        ("epochs: &a 1\nthreads: *a", "c.yaml: not YAML: aliases (*name) are not taken"),
        ("epochs: !!python/object/apply:os.system [id]", "c.yaml: not YAML: could not determine"),
        ("a: " + "[" * 2000, "c.yaml: not YAML: "),
    ],
)
def test_a_config_of_a_stranger_runs_nothing(
    config: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Code runs, and services are called, only if the command line names them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('PWNED', 'w')", encoding="utf-8")
    (tmp_path / "c.yaml").write_text(config, encoding="utf-8")
    code, _, err = typed({}, capsys, "finetune", "m", "d", "--config", "c.yaml")
    assert code == 2
    assert err.startswith(f"torchlift finetune: {said}")
    assert not (tmp_path / "PWNED").exists()


def test_a_config_may_name_the_code_that_the_command_line_names() -> None:
    """A run with a plugin has it in its config.yaml, and is begun again with both."""
    config, types = "plugin: layers.py\nmodel: python:nets:make", {"plugin": str, "model": str}
    for words in (
        ["python:nets:make", "d", "--plugin", "layers.py"],
        ["python:nets:make", "d", "--plugin=layers.py"],
    ):
        assert read_config(config, types, words) == {
            "plugin": "layers.py",
            "model": "python:nets:make",
        }
    many = {"tracker": list[str], "download": bool, "data": str}
    given = "tracker: [wandb, tensorboard]\ndownload: true\ndata: s3://b/d.npz"
    typed_words = ["s3://b/d.npz", "--tracker=tensorboard,wandb", "--download"]
    assert read_config(given, many, typed_words)["tracker"] == ["wandb", "tensorboard"]
    # None of these runs or calls anything.
    for harmless in (
        "tracker: [tensorboard, none]",
        "download: false",
        "data: null",
        "tracker: none",
    ):
        assert read_config(harmless, many)
    with pytest.raises(ArgumentTypeError, match=r"python:nets:make is Python code"):
        read_config(config, types, ["python:other:make", "--plugin=layers.py"])


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("python:evil:make", "Python code that runs"),
        ("hf:org/net", "a repository that is downloaded"),
        ("https://a.example/d.png", "an address that is fetched"),
    ],
)
def test_a_stranger_hides_nothing_in_a_list(entry: str, problem: str) -> None:
    types = {"sources": list[str]}
    for listed in (["m.t7", entry], [entry, "m.t7"]):
        config = json.dumps({"sources": listed})
        with pytest.raises(ArgumentTypeError, match=problem):
            read_config(config, types, ["m.t7"])
        assert read_config(config, types, ["m.t7", entry]) == {"sources": listed}
    assert read_config('{"sources": ["m.t7", "n.t7"]}', types) == {"sources": ["m.t7", "n.t7"]}


@pytest.mark.parametrize("content", [b"epochs: \xff", b"\xff\xfeepochs: 3"])
def test_a_config_that_is_no_text_is_named(
    content: bytes,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_bytes(content)
    code, out, err = typed({}, capsys, "train", "softmax", "no.npz", "--config", "c.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("torchlift train: c.yaml: not text: ")
    assert err.count("\n") == 2
    (tmp_path / "c.yaml").write_text("epochs: 3", encoding="utf-8")
    code, _, err = typed({}, capsys, "train", "softmax", "no.npz", "--config", "c.yaml")
    assert (code, "no.npz" in err) == (1, True)
