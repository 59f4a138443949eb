"""`predict` on many images: results while it runs, damaged files reported, bounded memory."""

from __future__ import annotations

import csv
import errno
import json
import os
import pty
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.errors import WriteError
from torchlift.converters.images.errors import ImageError
from torchlift.converters.images.files import local_path
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference import (
    Classifier,
    Prediction,
    open_results,
    predict_array,
    predict_files,
)
from torchlift.converters.inference.partial_results import Done
from torchlift.converters.onnx import OnnxError, export
from torchlift.converters.saved import open_model

DIGITS = FIXTURES / "digits"
DATA = DIGITS / "digits-test.t7"
PIXELS = np.asarray(t7.load(DATA)["data"])
#: The labels that Torch7 trained on, counted from 1; the first three digits are 0, 9 and 6.
LABELS = np.asarray(t7.load(DATA)["label"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the digits network as an `.onnx` file."""
    opened = open_model(
        DIGITS / "digits-lenet5-bn.t7",
        labels=DIGITS / "digits_classes.t7",
        mean_std=DIGITS / "digits_meanStd.t7",
    )
    path = tmp_path_factory.mktemp("model") / "digits.onnx"
    export(opened, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of seven images; the second is text and the fifth is truncated."""
    path = tmp_path_factory.mktemp("images [a]")
    for index in range(7):
        Image.fromarray(PIXELS[index, 0]).save(path / f"{index}.png")
    (path / "1.png").write_text("not an image", encoding="utf-8")
    (path / "4.png").write_bytes((path / "4.png").read_bytes()[:100])
    return path


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    code = main(["predict", *(str(word) for word in words), "--provider", "cpu"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def expected(model: Path, top: int) -> dict[str, list[Prediction]]:
    """Return the predictions of the intact images, one by one from their pixels."""
    classifier = Classifier(model, "cpu", batch_size=1)
    intact = (0, 2, 3, 5, 6)
    return {f"{index}.png": classifier.predict(PIXELS[index, 0], top)[0] for index in intact}


def test_damaged_files_are_reported_and_do_not_stop_the_others(
    capsys: pytest.CaptureFixture[str], model: Path, folder: Path
) -> None:
    code, out, err = run(capsys, model, folder, "--top", 2, "--json")
    assert code == 1
    document = json.loads(out)
    assert set(document) == {"model", "provider", "results"}
    assert [result["input"] for result in document["results"]] == [
        str(folder / f"{index}.png") for index in range(7)
    ]
    for result in document["results"]:
        predictions = expected(model, 2).get(Path(result["input"]).name, [])
        assert [(p["index"], p["label"]) for p in result["predictions"]] == [
            (p.index, p.label) for p in predictions
        ]
        assert (result["problem"] is None) is bool(predictions)
    assert [line.split(": ")[1] for line in err.splitlines()] == [
        str(folder / "1.png"),
        str(folder / "4.png"),
    ]
    code, out, _ = run(capsys, model, folder)
    assert code == 1
    assert "2 of 7 images could not be read" in out


def read_csv(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def read_parquet(file: Path) -> list[dict[str, Any]]:
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(file).to_pylist()


@pytest.mark.parametrize(("ending", "read"), [(".csv", read_csv), (".parquet", read_parquet)])
def test_results_as_a_table(
    ending: str, read: Any, capsys: pytest.CaptureFixture[str], model: Path, folder: Path
) -> None:
    target = folder.parent / f"results{ending}"
    code, out, _ = run(capsys, model, folder, "--output", target, "--top", 3, "--json")
    assert code == 1
    summary = json.loads(out)
    assert (summary["count"], summary["files"]) == (5, [str(target)])
    assert [Path(entry["input"]).name for entry in summary["unreadable"]] == ["1.png", "4.png"]
    rows = read(target)
    assert list(rows[0]) == ["input", "rank", "label", "index", "probability", "problem"]
    classified = [row for row in rows if not row["problem"]]
    assert [Path(row["input"]).name for row in rows if row["problem"]] == ["1.png", "4.png"]
    predictions = [
        (name, rank, item)
        for name, items in expected(model, 3).items()
        for rank, item in enumerate(items, 1)
    ]
    assert [
        (Path(row["input"]).name, int(row["rank"]), row["label"], int(row["index"]))
        for row in classified
    ] == [(name, rank, item.label, item.index) for name, rank, item in predictions]
    for row, (_, _, item) in zip(classified, predictions, strict=True):
        assert float(row["probability"]) == pytest.approx(item.probability, abs=1e-5)
    assert not list(folder.parent.glob("*.partial"))
    before = target.read_bytes()
    code, _, err = run(capsys, model, folder, "--output", target)
    assert (code, "already exists" in err) == (1, True)
    assert target.read_bytes() == before
    code, out, _ = run(capsys, model, folder, "--output", target, "--overwrite", "--top", 1)
    assert code == 1
    assert out.splitlines() == [
        f"5 images classified on CPUExecutionProvider: {target}",
        "2 of 7 images could not be read",
    ]
    assert len(read(target)) == 7


def test_json_lines_hold_what_json_prints(
    capsys: pytest.CaptureFixture[str], model: Path, folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "results.jsonl"
    run(capsys, model, folder, DATA, "--output", target)
    lines = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    _, out, _ = run(capsys, model, folder, DATA, "--json")
    assert lines == json.loads(out)["results"]
    predicted = [line["predictions"][0]["index"] + 1 for line in lines[7:]]
    # Torch7 itself classified 491 of these 500 images correctly.
    assert (np.array(predicted) == LABELS).sum() == 491
    assert lines[7]["input"] == f"{DATA}[1]"


def test_results_can_be_read_while_they_are_written(tmp_path: Path) -> None:
    target, partial = tmp_path / "r.csv", tmp_path / "r.csv.partial"
    cat = [Prediction(0, 'cat, "tabby"', 0.5)]

    def stopped_after_two() -> None:
        with open_results(target) as write:
            for name in ("a.jpg", "b.jpg"):
                write(name, cat, "")
                assert read_csv(partial)[-1]["input"] == name
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_after_two()
    assert not target.exists()
    assert [row["label"] for row in read_csv(partial)] == [cat[0].label] * 2
    with pytest.raises(OnnxError), open_results(tmp_path / "n.csv"):
        raise OnnxError("before the first image")
    assert not (tmp_path / "n.csv.partial").exists()


def test_results_on_a_full_disk_are_an_error_and_those_written_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "r.csv"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = r"r\.csv: cannot be written: No space left"
    with pytest.raises(WriteError, match=message), open_results(target) as write:
        write("a.jpg", [Prediction(0, "cat", 0.5)], "")
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"r.csv.partial", "r.csv.partial.json"}
    # An error of the caller's own files is not one of the results.
    with pytest.raises(FileNotFoundError), open_results(tmp_path / "other.csv"):
        (tmp_path / "nowhere").read_bytes()
    with pytest.raises(WriteError, match="no such folder"), open_results(tmp_path / "no" / "r.csv"):
        pass


def test_a_probability_that_is_not_finite_is_null_in_json(tmp_path: Path) -> None:
    with open_results(tmp_path / "r.jsonl") as write:
        write("a.jpg", [Prediction(0, "cat", float("nan"))], "")
    line = json.loads((tmp_path / "r.jsonl").read_text(encoding="utf-8"))
    assert line["predictions"] == [{"label": "cat", "index": 0, "probability": None}]


def test_files_that_cannot_hold_results(
    capsys: pytest.CaptureFixture[str],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, err = run(capsys, model, DATA, "--output", tmp_path / "results.xls")
    assert (code, out) == (2, "")
    assert ".csv or .jsonl or .parquet is written, not .xls" in err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = run(capsys, model, DATA, "--output", tmp_path / "results.parquet")
    assert code == 1
    assert "needs pyarrow: pip install 'torchlift[data]'" in err
    assert not list(tmp_path.iterdir())


def test_uris_of_local_files(capsys: pytest.CaptureFixture[str], model: Path, folder: Path) -> None:
    image = folder / "0.png"
    assert "%20" in image.as_uri()
    assert local_path(image.as_uri()) == image
    assert local_path(f"file://localhost{image}") == image
    _, out, _ = run(capsys, model, image.as_uri(), DATA.as_uri(), "--top", 1, "--json")
    results = json.loads(out)["results"]
    assert results[0]["input"] == str(image)
    assert results[0]["predictions"] == results[1]["predictions"]
    classifier = Classifier(model, "cpu")
    assert classifier.predict(image.as_uri()) == classifier.predict(image)
    for place in ("file://elsewhere/cat.jpg", "https://example.org/cat.jpg"):
        with pytest.raises(ImageError, match="only files of this machine"):
            classifier.predict(place)


def test_pixels_in_a_list(model: Path) -> None:
    classifier = Classifier(model, "cpu")
    images = [PIXELS[0, 0], Image.fromarray(PIXELS[1, 0])]
    assert classifier.predict(images) == classifier.predict(PIXELS[:2])


def test_one_classifier_serves_many_threads(model: Path, folder: Path) -> None:
    classifier = Classifier(model, "cpu", batch_size=3)
    batches = [PIXELS[start : start + 10] for start in range(0, 200, 10)]
    expected = [classifier.predict(batch) for batch in batches]
    barrier = threading.Barrier(8)

    def work(index: int) -> list[Any]:
        barrier.wait()
        return [classifier.predict(batch) for batch in batches[index:] + batches[:index]]

    with ThreadPoolExecutor(8) as pool:
        for index, predictions in enumerate(pool.map(work, range(8))):
            assert predictions == expected[index:] + expected[:index]


def test_images_of_one_shape_run_together(tmp_path: Path) -> None:
    """A network for any size takes one size in a batch; the results keep their order."""
    seen: list[tuple[int, ...]] = []

    class Brightest:
        labels, preprocessing = None, Preprocessing()
        output_kind, input_shape, provider, note = "logits", None, "test", ""

        def __call__(self, inputs: np.ndarray) -> np.ndarray:
            seen.append(inputs.shape)
            return inputs.mean(axis=(2, 3))

    for index, (size, color) in enumerate([(4, 0), (6, 1), (4, 2), (4, 1), (6, 0)]):
        pixels = np.zeros((size, size, 3), np.uint8)
        pixels[..., color] = 255
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    files = [tmp_path / f"{index}.png" for index in range(5)]
    results = list(predict_files(Classifier(Brightest()), files, top=1))
    assert [result.predictions[0].index for result in results] == [0, 1, 2, 1, 0]
    assert seen == [(3, 3, 4, 4), (2, 3, 6, 6)]


def test_streams_read_no_further_than_a_few_batches(model: Path, folder: Path) -> None:
    """Memory is bounded because files are read only shortly before the network needs them."""
    classifier = Classifier(model, "cpu", batch_size=4)
    taken = 0

    def files() -> Any:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield folder / "0.png"

    stream = predict_files(classifier, files())
    next(stream)
    # One batch that runs, two that are prepared, and one that is being read.
    assert taken <= 4 * 4 + 1
    stream.close()
    assert taken <= 4 * 4 + 1

    class Watched(np.ndarray):
        rows = 0

        def __getitem__(self, key: Any) -> Any:
            Watched.rows = max(Watched.rows, key.stop)
            return np.asarray(self)[key]

    images = np.zeros((10_000, 1, 32, 32), np.uint8).view(Watched)
    next(predict_array(classifier, images))
    assert Watched.rows <= 4 * 4


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files(model: Path, tmp_path: Path) -> None:
    image = tmp_path / "digit.png"
    Image.fromarray(PIXELS[0, 0]).resize((256, 256)).save(image)
    links = tmp_path / "many"
    links.mkdir()
    for index in range(20_000):
        (links / f"{index:05}.png").hardlink_to(image)
    code = (
        "import resource, sys\n"
        "from torchlift.cli.main import main\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "model, one, many, folder = sys.argv[1:]\n"
        "first = main(['predict', model, one, '--output', folder + '/one.csv'])\n"
        "before = peak()\n"
        "code = main(['predict', model, many, '--output', folder + '/many.csv'])\n"
        "print(first, code, peak() - before)"
    )
    words = [model, image, links, tmp_path]
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True
    )
    first, second, growth = map(int, result.stdout.splitlines()[-1].split())
    assert (first, second) == (0, 0)
    assert len(read_csv(tmp_path / "many.csv")) == 5 * 20_000
    # KiB. The paths take 10 MB; all pixels would take 80 MB as inputs, and 1.3 GB decoded.
    assert growth < 60_000


def test_progress_is_shown_only_on_terminals(model: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "torchlift.cli", "predict", "--provider", "cpu"]
    command += [str(model), str(folder / "0.png")]
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert piped.stderr == ""
    master, terminal = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, text=True)
    out, _ = process.communicate(timeout=60)
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(master, 4096):
            shown += chunk
    except OSError:  # The terminal was closed.
        pass
    assert b"1/1" in shown
    assert out == piped.stdout


def test_classifying_files_with_an_onnx_file_imports_no_torch(tmp_path: Path) -> None:
    """It would take two seconds and half a gigabyte, which a server of predictions lacks."""
    Image.new("L", (32, 32)).save(tmp_path / "image.png")
    code = (
        "import sys; from torchlift.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    model = FIXTURES / "0.1.0" / "model.onnx"
    words = ["predict", model, tmp_path / "image.png", "--output", tmp_path / "results.csv"]
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_an_image_without_predictions_has_a_row_without_a_problem_too(tmp_path: Path) -> None:
    images = [Done("a.png", ""), Done("b.png", "broken"), Done("c.png", ""), Done("d.png", "")]
    for name, kept in (("r.csv", 2), ("r.jsonl", 4)):  # The last rows of a CSV may be cut.
        with suppress(KeyboardInterrupt), open_results(tmp_path / name) as write:
            for one in images:
                write(one.name, [], one.problem)
            raise KeyboardInterrupt
        with open_results(tmp_path / name, resume="auto") as write:
            assert write.done == images[:kept]
