"""`predict --output` that is stopped and resumed, and two at the same time.

What is protected: the file that a resumed run ends with is that of a run which was never stopped,
byte by byte, and never holds rows of two runs, of two models or of two lists of images.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from torchlift.cli.main import main
from torchlift.cli.model_options import ModelOptions, ScoreOptions
from torchlift.cli.predict import (
    _fingerprint,
    _how_to_resume,
    _names_in,
    _open_input,
    predict,
)
from torchlift.converters import t7
from torchlift.converters.errors import WriteError
from torchlift.converters.inference import Prediction, open_results, partial_results

CLASSES = [Prediction(3, 'a "quoted"\nname', 0.75), Prediction(1, "b", 0.25)]
NAMES = ["a.png", 'new\nline, "x".png', "c.png", "c.png", "e.png", os.fsdecode(b"bad-\xff.png")]


def write_all(target: Path, begin: int = 0, end: int | None = None, **options: Any) -> int:
    """Write the images, all or some, and return how many an earlier run had done."""
    with open_results(target, **options) as write:
        done = len(write.done)
        for index, name in enumerate(NAMES[max(begin, done) : end], max(begin, done)):
            broken = index == 2
            write(name, [] if broken else CLASSES, "no image" if broken else "")
        if end is not None:
            raise KeyboardInterrupt
    return done


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_kill_at_any_byte_is_resumed_to_the_same_file(suffix: str, tmp_path: Path) -> None:
    """Seven is prime to the length of the rows, so that every place in a row is tried."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    whole, target = tmp_path / f"whole{suffix}", tmp_path / f"r{suffix}"
    write_all(whole)
    with pytest.raises(KeyboardInterrupt):
        write_all(target, end=len(NAMES))
    partial = tmp_path / f"r{suffix}.partial"
    record = tmp_path / f"r{suffix}.partial.json"
    content, settings = partial.read_bytes(), record.read_bytes()
    resumed = set()
    for size in range(0, len(content) + 1, 7):
        partial.write_bytes(content[:size])
        record.write_bytes(settings)
        resumed.add(write_all(target, resume="auto"))
        assert target.read_bytes() == whole.read_bytes(), size
        target.unlink()
    # Some of the work was kept.
    assert max(resumed) >= len(NAMES) - 2
    assert {path.name for path in tmp_path.iterdir()} == {whole.name}


def test_what_a_stopped_run_left_is_not_lost_without_a_word(tmp_path: Path) -> None:
    target = tmp_path / "r.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_all(target, end=3)
    left = (tmp_path / "r.jsonl.partial").read_bytes()
    with pytest.raises(WriteError, match=r"\(3 images\): resume='auto' goes on"):
        write_all(target)
    assert (tmp_path / "r.jsonl.partial").read_bytes() == left
    assert write_all(target, overwrite=True) == 0


def test_nothing_of_a_longer_run_is_left_behind_a_shorter_one(tmp_path: Path) -> None:
    target, once = tmp_path / "r.csv", tmp_path / "once.csv"
    with pytest.raises(KeyboardInterrupt):
        write_all(target, end=len(NAMES))
    for file in (target, once):
        with open_results(file, overwrite=True) as write:
            write("a.png", CLASSES, "")
    assert target.read_bytes() == once.read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_run_that_stops_before_its_first_image_leaves_nothing(
    suffix: str, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt), open_results(tmp_path / f"r{suffix}"):
        raise KeyboardInterrupt
    assert not [*tmp_path.iterdir()]


def test_results_are_on_the_disk_before_they_get_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    target = tmp_path / "r.csv"
    monkeypatch.setattr("os.fsync", lambda _: synced.append(target.exists()))
    write_all(target)
    assert synced[0] is False


def test_two_at_once_never_share_a_file(tmp_path: Path) -> None:
    target = tmp_path / "r.csv"
    with open_results(target) as write:
        write("a.png", CLASSES, "")
        with pytest.raises(WriteError, match="another process is writing to it"):
            write_all(target, overwrite=True)
        write("b.png", CLASSES, "")
    assert target.read_text(encoding="utf-8").count(".png") == 4
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv"]


def test_a_file_of_another_program_is_kept(tmp_path: Path) -> None:
    partial = tmp_path / "r.csv.partial"
    partial.write_text("mine", encoding="utf-8")
    with pytest.raises(WriteError, match="holds something else than results"):
        write_all(tmp_path / "r.csv", overwrite=True)
    assert partial.read_text(encoding="utf-8") == "mine"
    partial.unlink()
    precious = tmp_path / "precious"
    precious.write_text("", encoding="utf-8")
    partial.symlink_to(precious)
    with pytest.raises(WriteError):
        write_all(tmp_path / "r.csv", overwrite=True)
    assert precious.read_bytes() == b""


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": "auto"}])
def test_results_of_another_program_are_no_partial_file(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Without the settings beside it, a file is not ours, however it begins."""
    partial, record = tmp_path / "r.csv.partial", tmp_path / "r.csv.partial.json"
    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path / "r.csv", end=3)
    content = partial.read_bytes()
    record.unlink()
    with pytest.raises(WriteError, match="holds something else than results"):
        write_all(tmp_path / "r.csv", **options)
    assert partial.read_bytes() == content
    partial.unlink()
    for text in ("mine", "[" * 100_000, "[1]", '{"mine": 1}'):
        record.write_text(text, encoding="utf-8")
        with pytest.raises(WriteError, match="holds something else than settings"):
            write_all(tmp_path / "r.csv", **options)
        assert record.read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == [record.name]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": "auto"}])
def test_what_does_not_begin_as_results_do_is_no_partial_file(
    options: dict[str, Any], suffix: str, tmp_path: Path
) -> None:
    """Also beside settings of ours: somebody has put another file in its place."""
    partial = tmp_path / f"r{suffix}.partial"
    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path / f"r{suffix}", end=3)
    for content in (b"mine", b"mine, and longer than what a file of results begins with\n" * 9):
        partial.write_bytes(content)
        with pytest.raises(WriteError, match="holds something else than results"):
            write_all(tmp_path / f"r{suffix}", **options)
        assert partial.read_bytes() == content


def test_a_line_without_its_end_is_written_again(tmp_path: Path) -> None:
    """A kill between the two is rare: the line is whole JSON."""
    whole, target = tmp_path / "whole.jsonl", tmp_path / "r.jsonl"
    write_all(whole)
    with pytest.raises(KeyboardInterrupt):
        write_all(target, end=len(NAMES))
    record = (tmp_path / "r.jsonl.partial.json").read_bytes()
    lines = whole.read_bytes().splitlines(keepends=True)
    for count in range(1, len(lines) + 1):
        content = b"".join(lines[:count])
        (tmp_path / "r.jsonl.partial").write_bytes(content[:-1])
        (tmp_path / "r.jsonl.partial.json").write_bytes(record)
        assert write_all(target, resume="auto") == count - 1
        assert target.read_bytes() == whole.read_bytes()
        target.unlink()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--top", "2"], "with --top 1, now --top 2"),
        (["--labels", "other.txt"], "no --labels, now --labels other.txt"),
        ("other images", "results of other images: number 1 is "),
        ("another model", "another model of that name"),
    ],
)
def test_results_of_something_else_are_not_continued(
    changed: Any,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from torch import nn

    import torchlift.converters.inference as inference
    from torchlift.converters.images import Preprocessing
    from torchlift.converters.inference import predict_files
    from torchlift.converters.saved import SavedModel, save

    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    preprocessing = Preprocessing(color="gray", size=(4, 4))
    save(SavedModel(network, "logits", (1, 4, 4), preprocessing=preprocessing), "m")
    for name in "abcd":
        Image.new("L", (4, 4), ord(name)).save(f"{name}.png")
    words = ["predict", "m", "a.png", "b.png", "c.png", "d.png", "-o", "r.jsonl", "--top", "1"]

    def stopped(classifier: Any, files: Any, top: int) -> Any:
        for result in predict_files(classifier, files, top):
            if str(result.file) == "c.png":
                raise KeyboardInterrupt
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(inference, "predict_files", stopped)
        assert main(words) == 130
    assert "--resume auto goes on from there" in capsys.readouterr().err
    words += ["--resume", "auto"]
    if isinstance(changed, list):
        words += changed
        Path("other.txt").write_text("x\ny\nz\n", encoding="utf-8")
    elif changed == "other images":
        words.remove("a.png")
    else:
        save(SavedModel(network, "logits", (1, 4, 4), ["x", "y", "z"], preprocessing), "m", True)
    assert main(words) == 1
    assert said in capsys.readouterr().err
    assert not Path("r.jsonl").exists()
    assert Path("r.jsonl.partial").read_text(encoding="utf-8").count("\n") == 2


def test_a_file_that_was_renamed_before_it_was_locked_is_of_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That process has ended meanwhile; its results stand under their own name."""
    target = tmp_path / "r.csv"
    lock = partial_results._lock

    def renamed(stream: BinaryIO) -> bool:
        (tmp_path / "r.csv.partial").rename(tmp_path / "theirs.csv")
        return lock(stream)

    monkeypatch.setattr(partial_results, "_lock", renamed)
    with pytest.raises(WriteError, match="another process is writing to it"):
        write_all(target)
    assert not target.exists()


def test_settings_that_0_1_0_wrote_are_known(tmp_path: Path) -> None:
    record = tmp_path / "r.csv.partial.json"
    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path / "r.csv", end=4, facts={"top": 1})
    record.write_text('{"top": 1}', encoding="utf-8")
    assert write_all(tmp_path / "r.csv", resume="auto", facts={"top": 1}) >= 2


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_problem_that_is_no_text_is_spelled_out(suffix: str, tmp_path: Path) -> None:
    """It names a file, whose name may be any bytes."""
    with open_results(tmp_path / f"r{suffix}") as write:
        write(NAMES[-1], [], f"{NAMES[-1]}: no image")
    line = (tmp_path / f"r{suffix}").read_bytes().splitlines()[-1].replace(b"\\\\", b"\\")
    assert line.count(rb"bad-\udcff.png") == 2


def test_settings_and_tables_are_written_elsewhere_and_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill leaves no half of them under their name."""
    pytest.importorskip("pyarrow")
    written: list[Path] = []
    write_text = Path.write_text

    def write(self: Path, *given: Any, **named: Any) -> int:
        written.append(self)
        return write_text(self, *given, **named)

    def fail(lines: Any, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write)
    monkeypatch.setattr("torchlift.converters.inference.results._write_parquet", fail)
    with pytest.raises(WriteError, match=r"r\.parquet: cannot be written: No space left"):
        write_all(tmp_path / "r.parquet")
    left = {"r.parquet.partial", "r.parquet.partial.json"}
    assert {path.name for path in tmp_path.iterdir()} == left
    assert written
    assert {tmp_path / name for name in left}.isdisjoint(written)


def test_settings_are_compared_as_json_holds_them(tmp_path: Path) -> None:
    facts = {"image_size": (4, 6), "fingerprint": "ab"}
    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path / "r.jsonl", end=4, facts=facts)
    with pytest.raises(WriteError, match=r"image.size"):
        write_all(tmp_path / "r.jsonl", resume="auto", facts=facts | {"image_size": (6, 4)})
    assert write_all(tmp_path / "r.jsonl", resume="auto", facts=facts) == 4


def test_suffixes_of_any_case_and_errors_of_the_caller(tmp_path: Path) -> None:
    """An error of the block is raised as it is, and not taken for one of the file."""
    write_all(tmp_path / "r.CSV")
    results = open_results(tmp_path / "s.csv")
    mine = PermissionError(13, "mine")
    with pytest.raises(PermissionError) as caught, results:
        raise mine
    assert caught.value is mine


def test_results_of_another_name_are_not_those_to_go_on_with(tmp_path: Path) -> None:
    """A name may hold what a shell takes for a pattern."""
    (tmp_path / "ra.csv.partial").touch()
    assert _how_to_resume(str(tmp_path / "r[a].csv")) == ""
    (tmp_path / "r[a].csv.partial").touch()
    assert "r[a].csv.partial; --resume auto" in _how_to_resume(str(tmp_path / "r[a].csv"))


def test_a_model_is_known_again_by_its_files(tmp_path: Path) -> None:
    """What a README.md says of it, and folders beside it, change no result."""
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "b.txt").write_bytes(b"two")
    (folder / "a.txt").write_bytes(b"one")
    expected = [hashlib.sha256(text).hexdigest() for text in (b"one", b"two")]
    assert _fingerprint(str(folder)) == expected
    (folder / "README.md").write_text("words", encoding="utf-8")
    (folder / "more").mkdir()
    assert _fingerprint(str(folder)) == expected
    assert _fingerprint(str(folder / "a.txt")) == expected[:1]
    assert _fingerprint(str(tmp_path / "none")) is None


@pytest.mark.parametrize("name", ["d.t7", "d.bin"])
def test_images_of_a_file_are_counted_from_1(name: str, tmp_path: Path) -> None:
    """A `.t7` is one whatever it is called, and needs no labels."""
    file = tmp_path / name
    t7.save(np.zeros((3, 1, 2, 2), np.float64), file)
    classifier: Any = None
    found = _open_input(classifier, str(file), 1, True)
    assert [*found.names] == [f"{file}[{number}]" for number in (1, 2, 3)]


@pytest.mark.parametrize("is_first", [True, False])
def test_what_a_folder_holds_beside_images_is_said_once(
    is_first: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "notes.txt"):
        (tmp_path / name).touch()
    assert _names_in(tmp_path, is_first) == [str(tmp_path / "a.png")]
    said = capsys.readouterr().err
    assert said.startswith(f"note: {tmp_path}: ") if is_first else said == ""


def test_everything_that_decides_results_is_recorded_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Options of the model and of its outputs, the number of classes, and the model itself."""
    recorded: list[dict[str, Any]] = []

    def stop(*given: Any) -> None:
        recorded.append(given[4])
        raise KeyboardInterrupt

    monkeypatch.setattr("torchlift.cli.predict._open_output", stop)
    monkeypatch.setattr("torchlift.cli.predict._fingerprint", lambda model: [f"that of {model}"])
    options = ModelOptions(labels="l.txt", at="a.b")
    scores = ScoreOptions(output_kind="logits")
    for output in ("r.csv", None):
        with pytest.raises(KeyboardInterrupt):
            predict(
                "m.t7", ["x"], top=3, output=output, model_options=options, score_options=scores
            )
    facts, of_the_screen = recorded
    assert {name: facts[name] for name in ("model", "top", "labels", "at", "output_kind")} == {
        "model": "m.t7",
        "top": 3,
        "labels": "l.txt",
        "at": "a.b",
        "output_kind": "logits",
    }
    assert facts["fingerprint"] == ["that of m.t7"]
    assert "fingerprint" not in of_the_screen
