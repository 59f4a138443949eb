"""What commands show and write, without running a network: sheets, streams, JSON, bars."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cli_support import shown
from rich.progress import BarColumn

from torchlift.cli.cat import _json, cat
from torchlift.cli.convert_all import folder_names
from torchlift.cli.describe import metadata_view
from torchlift.cli.errors import UsageError
from torchlift.cli.evaluate import evaluate_text
from torchlift.cli.inspect import inspect
from torchlift.cli.messages import as_options, texts_of
from torchlift.cli.model_options import FILE_DEFAULTS
from torchlift.cli.predict import (
    _check_resumable,
    _classify,
    _fingerprint,
    _how_to_resume,
    _Input,
    _names_in,
    _open_input,
    _open_output,
    _results,
)
from torchlift.cli.predict_vectors import _cosine, _shown
from torchlift.cli.progress import progress_bar
from torchlift.cli.result import CommandResult, show
from torchlift.cli.streams import can_show
from torchlift.cli.terminal import console
from torchlift.converters import t7
from torchlift.converters.errors import TorchliftError
from torchlift.converters.inference.partial_results import Done
from torchlift.converters.inference.processes import Process
from torchlift.converters.t7 import LuaObject, LuaTable


def lines_of(metadata: dict[str, Any]) -> list[str]:
    page = console()
    page.width = 200
    with page.capture() as captured:
        page.print(metadata_view(metadata))
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_a_sheet_says_what_is_known_and_no_more() -> None:
    metadata = {
        "model": "a\nb",
        "parameters": 0,
        "bytes": 2_500_000,
        "input_shape": [3, 8, 9],
        "inputs": [{"name": "x", "shape": [None, 3]}],
        "labels": [f"c{index}" for index in range(11)],
        "source": {"file": "m.t7", "sha256": "12", "more": None},
        "preprocessing": None,
        "depends_on_batch": False,
        "kept": [],
        "loss": 0.12345678,
        "baked": True,
        "notes": ["one", "two"],
    }
    assert lines_of(metadata) == [
        r"model a\nb",
        "parameters 0",
        "bytes 2,500,000 (2.5 MB)",
        "input shape 3×8×9",
        "labels c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, … (11)",
        "source file m.t7, sha256 12",
        "loss 0.123457",
        "baked yes",
        "note: one",
        "note: two",
    ]
    found = lines_of({**metadata, "input_shape": None, "labels": metadata["labels"][:10]})
    assert "inputs x ?×3" in found
    assert "labels c0, c1, c2, c3, c4, c5, c6, c7, c8, c9" in found


def test_the_angle_of_two_vectors() -> None:
    first, second = np.array([3.0, 4.0]), np.array([4.0, 3.0])
    assert _cosine(first, 7 * second) == pytest.approx(0.96)
    assert _cosine(first, 0 * second) is None
    assert _shown([1, 2, 3, 4]) == "1, 2, 3, 4"
    assert _shown([1, 2, 3, 4, 0.123456]) == "1, 2, 3, 4, … (5)"


def test_the_text_beside_a_model_is_no_part_of_what_it_computes(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"1")
    (folder / "config.json").write_bytes(b"1")
    (folder / "README.md").write_bytes(b"1")
    before = _fingerprint(str(folder))
    (folder / "README.md").write_bytes(b"2")
    assert _fingerprint(str(folder)) == before
    (folder / "model.safetensors").write_bytes(b"2")
    assert _fingerprint(str(folder)) != before
    # Every other file is one: structure, labels and preprocessing stand beside the weights.
    (folder / "model.safetensors").write_bytes(b"1")
    assert _fingerprint(str(folder)) == before
    for name in ("config.json", "model.py"):
        (folder / name).write_bytes(b"2")
        assert _fingerprint(str(folder)) != before
        before = _fingerprint(str(folder))
    assert before == [hashlib.sha256(content).hexdigest() for content in (b"2", b"2", b"1")]
    assert _fingerprint(str(folder / "model.py")) == [hashlib.sha256(b"2").hexdigest()]
    assert _fingerprint(str(tmp_path / "none")) is None


def test_results_of_the_same_images_go_on_whatever_their_names() -> None:
    done = [Done("a.png", ""), Done("b-\\udcff.png", "broken")]
    _check_resumable(done, iter(["a.png", "b-\udcff.png", "c.png"]), "r.csv")
    for names in (["a.png"], ["a.png", "c.png"]):
        with pytest.raises(TorchliftError, match=r"number 2 is b-.*overwrite=True starts again"):
            _check_resumable(done, iter(names), "r.csv")


def test_results_that_are_there_already_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a stopped run has done is in the bar, and is reported where it failed."""
    advanced: list[int] = []

    @contextmanager
    def bar(total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
        advanced.append(-total)
        yield advanced.append

    class Writer(list[Any]):
        done = (Done("a.png", ""), Done("b.png", "broken"))

        def __call__(self, *image: Any) -> None:
            self.append(image)

    monkeypatch.setattr("torchlift.cli.predict.progress", bar)
    images = [
        ("a.png", [], ""),
        ("b.png", [], "broken"),
        ("c.png", [], ""),
        ("d.png", [], "cut\n\x1b"),
    ]
    began: list[int] = []

    def results(start: int) -> Any:
        began.append(start)
        return images[start:]

    source = _Input([name for name, *_ in images], results)
    writer = Writer()
    unreadable = _classify([source], 3, Process(0, 1), writer, "r.csv")
    # The batch of three in which the third image is runs as a whole.
    assert began == [0]
    assert unreadable == [
        {"input": "b.png", "problem": "broken"},
        {"input": "d.png", "problem": "cut\n\x1b"},
    ]
    assert capsys.readouterr().err == "torchlift: cut \\x1b\n"
    assert writer == images[2:]
    assert sum(advanced) == 0


def test_batches_begin_where_they_do_for_all_images() -> None:
    """What an image gets may depend, by the last digit, on those that run with it."""
    began: list[tuple[str, int]] = []

    def source(name: str, count: int) -> _Input:
        names = [f"{name}{index}" for index in range(count)]

        def results(start: int) -> Any:
            began.append((name, start))
            return ((one, [], "") for one in names[start:])

        return _Input(names, results)

    sources = [source("a", 7), source("b", 2), source("c", 5)]
    found = [name for name, *_ in _results(sources, range(5, 13), 3)]
    assert found == ["a5", "a6", "b0", "b1", "c0", "c1", "c2", "c3"]
    assert began == [("a", 3), ("b", 0), ("c", 0)]
    began.clear()
    assert [name for name, *_ in _results(sources, range(13, 14), 3)] == ["c4"]
    assert began == [("c", 3)]
    began.clear()
    assert [*_results(sources, range(4, 4), 3)] == began == []


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TorchliftError, match="no images"):
        _names_in(tmp_path, is_first=True)


def test_what_a_stopped_run_left_is_named(tmp_path: Path) -> None:
    assert _how_to_resume(None) == _how_to_resume(str(tmp_path / "r.csv")) == ""
    (tmp_path / "r.csv.1-of-2.partial").touch()
    assert "r.csv.1-of-2.partial; --resume auto" in _how_to_resume(str(tmp_path / "r.csv"))


def test_a_file_comes_before_the_photograph_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    classifier: Any = SimpleNamespace()
    assert _open_input(classifier, "china", 1, True).names == ["china"]
    (tmp_path / "china").mkdir()
    (tmp_path / "china" / "one.png").touch()
    assert [*_open_input(classifier, "china", 1, True).names] == ["china/one.png"]
    missing = _open_input(classifier, "none.png", 1, True)
    assert [*missing.results(0)] == [("none.png", [], "none.png: no such file")]
    assert [*missing.results(1)] == []


def test_values_too_large_for_json_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nested: Any = 1
    for _ in range(100):
        nested = LuaTable.from_list([nested])
    assert str(_json(nested, "a.b")) == f"{'[' * 100}1{']' * 100}"
    nested = LuaTable.from_list([nested])
    with pytest.raises(TorchliftError, match="too large for JSON"):
        _json(nested, "a.b")
    with pytest.raises(TorchliftError, match="too large for JSON"):
        _json(np.broadcast_to(np.uint8(1), 2**24 + 1), "a.b")
    monkeypatch.setattr("torchlift.cli.cat._MAX_NUMBERS", 6)
    # A list counts as one.
    assert _json(LuaTable.from_list([np.zeros(5)]), "a") == [[0] * 5]
    with pytest.raises(TorchliftError, match="a is too large for JSON: save it with output=FILE"):
        _json(LuaTable.from_list([np.zeros(5), 1]), "a")
    assert _json(LuaTable({"a": 1}), "a") is None


class Terminal(io.StringIO):
    """Counts how often it is flushed."""

    flushed = 0

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.flushed += 1


def test_pieces_of_a_text_are_shown_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal what it would obey is spelled out; another program gets the bytes."""
    pieces = ["a\tb", "\x1b[2J"]
    for stream, text in ((Terminal(), "a\tb\\x1b[2J"), (io.StringIO(), "a\tb\x1b[2J")):
        monkeypatch.setattr(sys, "stdout", stream)
        show(CommandResult({}, stream=iter(pieces)), as_json=False)
        assert stream.getvalue() == text
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    show(CommandResult({}, stream=iter(pieces)), as_json=False)
    assert terminal.flushed >= len(pieces)


def test_json_is_whole_where_letters_cannot_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"label": "épagneul × 2", "loss": float("nan")}
    for encoding in ("utf-8", "ascii"):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        show(CommandResult(lambda: data), as_json=True)
        stream.flush()
        assert json.loads(raw.getvalue()) == {"label": "épagneul × 2", "loss": None}
        assert ("é".encode() in raw.getvalue()) is (encoding == "utf-8")


@pytest.mark.parametrize("shown", [True, False])
def test_a_bar_is_for_terminals(shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, is_drawn in ((Terminal(), shown), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert progress_bar(BarColumn(), shown=shown).disable is not is_drawn


def test_folders_differ_on_every_file_system() -> None:
    assert folder_names(["Net", "net", "..", ""]) == ["Net", "net-2", "_..", "_"]


def test_longer_texts_of_the_user_are_kept_first() -> None:
    texts = {"at=1", "at=1 at=2"}
    message = "at=1 at=2: no file; give at=3"
    assert as_options(message, {"at"}, texts) == "at=1 at=2: no file; give --at 3"
    assert as_options("give at='a b' or lr=…", {"at", "lr"}) == "give --at 'a b' or --lr"
    # What is typed without an option has none.
    message = "of data='a b', now model=n.t7"
    assert as_options(message, {"lr"}, words={"data", "model"}) == "of data 'a b', now model n.t7"
    assert as_options(message, {"lr"}) == message
    assert texts_of({"model": "runs/lr=1/best/m.t7"}) == {
        "runs/lr=1/best/m.t7",
        "runs/lr=1/best",
        "runs/lr=1",
    }


def test_what_cannot_be_shown_has_a_plain_form() -> None:
    assert "3×32 – … é".encode("ascii", "torchlift") == rb"3x32 - ... \xe9"
    assert can_show("3×32", io.TextIOWrapper(io.BytesIO(), "utf-8"))
    assert not can_show("3×32", io.TextIOWrapper(io.BytesIO(), "ascii"))


def test_a_tensor_expanded_from_few_numbers_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expanded = np.broadcast_to(np.arange(3.0)[:, None], (3, 4))
    # As Torch7 writes a transposed tensor: the elements as they are, with other strides.
    transposed = torch.arange(6.0).reshape(2, 3).T
    t7.save({"a": expanded, "b": transposed}, tmp_path / "m.t7")
    target = tmp_path / "a.npy"
    cat(str(tmp_path / "m.t7"), "b", output=str(target))
    assert np.load(target).tolist() == [[0, 3], [1, 4], [2, 5]]
    monkeypatch.setattr("torchlift.cli.cat._MAX_NUMBERS", 5)
    # What the file holds itself is saved, however large.
    cat(str(tmp_path / "m.t7"), "b", output=str(target), overwrite=True)
    assert np.load(target).shape == (3, 2)
    monkeypatch.setattr("torchlift.cli.cat._MAX_NUMBERS", 8)
    with pytest.raises(TorchliftError, match="a is expanded to 12 elements from fewer"):
        cat(str(tmp_path / "m.t7"), "a", output=str(target), overwrite=True)
    assert np.load(target).shape == (3, 2)


def test_a_value_is_saved_as_the_class_that_it_has(tmp_path: Path) -> None:
    """A tensor of a GPU stays one, byte for byte."""

    def of_a_gpu(value: Any) -> bytes:
        content = t7.dumps(value)
        for kind, size in (("Tensor", 17), ("Storage", 18)):
            old = size.to_bytes(4, "little") + f"torch.Float{kind}".encode()
            assert old in content
            content = content.replace(
                old, (size - 1).to_bytes(4, "little") + f"torch.Cuda{kind}".encode()
            )
        return content

    tensor = np.arange(6, dtype=np.float32).reshape(2, 3)
    (tmp_path / "m.t7").write_bytes(of_a_gpu({"a": tensor}))
    target = tmp_path / "a.t7"
    found = cat(str(tmp_path / "m.t7"), "a", output=str(target))
    assert target.read_bytes() == of_a_gpu(tensor)
    assert t7.load(target).torch_class == "torch.CudaTensor"
    assert found.data["files"] == [str(target)]


def test_a_path_begins_with_the_object_of_a_file_that_it_is_in(tmp_path: Path) -> None:
    """Also where a class that nobody knows could have been written in another way."""
    first = {"a": LuaObject("my.Thing", LuaTable({"x": 1}))}
    (tmp_path / "m.t7").write_bytes(t7.dumps(first) + t7.dumps({"a": 2}))
    assert cat(str(tmp_path / "m.t7"), "[2].a").data()["value"] == 2


def test_a_text_takes_few_of_the_options_of_a_model() -> None:
    options = replace(FILE_DEFAULTS, labels="names.txt")
    with pytest.raises(UsageError, match="it takes --at and --plugin only"):
        evaluate_text("m.t7", "words.txt", "cpu", None, options)


def test_a_vocabulary_is_shown_by_its_place_and_its_size() -> None:
    """Its entries may be thousands."""
    entries = [f"t{index}" for index in range(1234)]
    vocabularies = [{"lua_path": "vocab", "entries": entries}, {"lua_path": "b", "entries": []}]
    lines = lines_of({"vocabularies": vocabularies})
    assert lines == ["vocabularies vocab (1,234 tokens), b (0 tokens)"]


@pytest.mark.parametrize("processes", [1, 2])
def test_each_of_several_processes_writes_a_part_of_its_own(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One alone writes the file itself."""
    opened: list[str] = []
    for name in ("result_shards.open_shard", "results.open_results"):
        place = f"torchlift.converters.inference.{name}"
        monkeypatch.setattr(place, lambda *_, name=name, **__: opened.append(name))
    process: Any = SimpleNamespace(world_size=processes)
    _open_output(str(tmp_path / "o.csv"), process, False, "never", {}, [])
    assert opened == ["results.open_results" if processes == 1 else "result_shards.open_shard"]


def test_a_tree_says_how_many_entries_it_leaves_out_of_those_it_opens(tmp_path: Path) -> None:
    """Below the last level that is shown nothing is left out: its line says what is inside."""
    file = tmp_path / "x.t7"
    t7.save({"inner": {"a": "x", "b": "y"}, **{f"key{one:02}": "z" for one in range(24)}}, file)
    lines = shown(inspect(str(file), depth=1).view)
    assert [line for line in lines if line.endswith(" more")] == ["└── … 5 more"]
    assert any("inner" in line for line in lines)
    assert not any(" a " in line for line in lines)
