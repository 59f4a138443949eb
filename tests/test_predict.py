"""`predict` on many images: results as they come, damaged files named, little memory."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.converters import t7
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
from torchlift.converters.onnx import OnnxError, export
from torchlift.converters.saved import open_model

DIGITS = FIXTURES / "digits"
DATA = DIGITS / "digits-test.t7"
PIXELS = np.asarray(t7.load(DATA)["data"])
#: What Torch7 trained the network to say; the first three are 0, 9 and 6.
LABELS = np.asarray(t7.load(DATA)["label"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network as an `.onnx` file."""
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
    """Seven images, of which the second is text and the fifth is cut off."""
    made = tmp_path_factory.mktemp("images [a]")
    for index in range(7):
        Image.fromarray(PIXELS[index, 0]).save(made / f"{index}.png")
    (made / "1.png").write_text("no image")
    (made / "4.png").write_bytes((made / "4.png").read_bytes()[:100])
    return made


def run(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    code = main(["predict", *(str(word) for word in words), "--provider", "cpu"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def expected(model: Path, top: int) -> dict[str, list[Prediction]]:
    """The predictions of the images that are whole, made one by one from their pixels."""
    classifier = Classifier(model, "cpu", batch_size=1)
    whole = (0, 2, 3, 5, 6)
    return {f"{index}.png": classifier.predict(PIXELS[index], top)[0] for index in whole}


def test_damaged_files_are_named_and_stop_nothing(
    capsys: pytest.CaptureFixture[str], model: Path, folder: Path
) -> None:
    code, out, err = run(capsys, model, folder, "--top", 2, "--json")
    assert code == 1
    document = json.loads(out)
    assert set(document) == {"provider", "results"}
    assert [result["input"] for result in document["results"]] == [
        str(folder / f"{index}.png") for index in range(7)
    ]
    for result in document["results"]:
        wanted = expected(model, 2).get(Path(result["input"]).name, [])
        assert [(p["index"], p["label"]) for p in result["predictions"]] == [
            (p.index, p.label) for p in wanted
        ]
        assert ("problem" in result) is (not wanted)
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
    said = json.loads(out)
    assert (said["count"], said["output"]) == (5, str(target))
    assert [Path(entry["input"]).name for entry in said["unreadable"]] == ["1.png", "4.png"]
    rows = read(target)
    assert list(rows[0]) == ["input", "rank", "label", "index", "probability", "problem"]
    named = [row for row in rows if not row["problem"]]
    assert [Path(row["input"]).name for row in rows if row["problem"]] == ["1.png", "4.png"]
    wanted = [
        (name, rank, item)
        for name, items in expected(model, 3).items()
        for rank, item in enumerate(items, 1)
    ]
    assert [
        (Path(row["input"]).name, int(row["rank"]), row["label"], int(row["index"]))
        for row in named
    ] == [(name, rank, item.label, item.index) for name, rank, item in wanted]
    for row, (_, _, item) in zip(named, wanted, strict=True):
        assert float(row["probability"]) == pytest.approx(item.probability, abs=1e-5)
    assert not list(folder.parent.glob("*.partial"))
    before = target.read_bytes()
    code, _, err = run(capsys, model, folder, "--output", target)
    assert (code, "is there already" in err) == (1, True)
    assert target.read_bytes() == before
    assert run(capsys, model, folder, "--output", target, "--overwrite", "--top", 1)[0] == 1
    assert len(read(target)) == 7


def test_results_as_json_lines_are_those_of_the_screen(
    capsys: pytest.CaptureFixture[str], model: Path, folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / "results.jsonl"
    run(capsys, model, folder, DATA, "--output", target)
    lines = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    _, out, _ = run(capsys, model, folder, DATA, "--json")
    assert lines == json.loads(out)["results"]
    said = [line["predictions"][0]["index"] + 1 for line in lines[7:]]
    # Torch7 itself named 491 of these 500 images rightly.
    assert (np.array(said) == LABELS).sum() == 491
    assert lines[7]["input"] == f"{DATA}[1]"


def test_results_are_there_while_they_are_made(tmp_path: Path) -> None:
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


def test_what_is_no_place_for_results(
    capsys: pytest.CaptureFixture[str],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, err = run(capsys, model, DATA, "--output", tmp_path / "results.xls")
    assert (code, out) == (1, "")
    assert ".csv, .jsonl, .parquet" in err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = run(capsys, model, DATA, "--output", tmp_path / "results.parquet")
    assert code == 1
    assert "results.parquet: Parquet needs pyarrow: pip install 'torchlift[parquet]'" in err
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
    parts = [PIXELS[start : start + 10] for start in range(0, 200, 10)]
    alone = [classifier.predict(part) for part in parts]
    barrier = threading.Barrier(8)

    def work(index: int) -> list[Any]:
        barrier.wait()
        return [classifier.predict(part) for part in parts[index:] + parts[:index]]

    with ThreadPoolExecutor(8) as pool:
        for index, found in enumerate(pool.map(work, range(8))):
            assert found == alone[index:] + alone[:index]


def test_images_of_several_shapes_are_run_with_their_like(tmp_path: Path) -> None:
    """A network without a size takes any, but only one in a batch; the order stays."""
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
    found = list(predict_files(Classifier(Brightest()), files, top=1))
    assert [one.predictions[0].index for one in found] == [0, 1, 2, 1, 0]
    assert seen == [(3, 3, 4, 4), (2, 3, 6, 6)]


def test_streams_read_no_further_than_a_few_batches(model: Path, folder: Path) -> None:
    """Memory is bounded because files are only taken when the network is nearly there."""
    classifier = Classifier(model, "cpu", batch_size=4)
    taken = 0

    def files() -> Any:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield folder / "0.png"

    stream = predict_files(classifier, files())
    next(stream)
    # A batch that runs, two that are prepared, and the one that asks.
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
        "few = main(['predict', model, one, '--output', folder + '/one.csv'])\n"
        "before = peak()\n"
        "code = main(['predict', model, many, '--output', folder + '/many.csv'])\n"
        "print(few, code, peak() - before)"
    )
    words = [model, image, links, tmp_path]
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True
    )
    few, exit_code, grown = map(int, result.stdout.splitlines()[-1].split())
    assert (few, exit_code) == (0, 0)
    assert len(read_csv(tmp_path / "many.csv")) == 5 * 20_000
    # KiB. The paths alone are 10 MB, the pixels would be 80 MB as inputs and 1.3 GB decoded.
    assert grown < 60_000


def test_a_bar_is_drawn_on_terminals_only(model: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "torchlift.cli", "predict", "--provider", "cpu"]
    command += [str(model), str(folder / "0.png")]
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert piped.stderr == ""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True)
    out, _ = process.communicate(timeout=60)
    os.close(theirs)
    drawn = b""
    try:
        while part := os.read(ours, 4096):
            drawn += part
    except OSError:  # The terminal was closed.
        pass
    assert b"1/1" in drawn
    assert out == piped.stdout


def test_alexnets_lab_resizing_travels_with_the_model_and_another_can_be_chosen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    numbers = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    table = t7.LuaTable({key: t7.LuaTable.from_list(value) for key, value in numbers.items()})
    t7.save(table, tmp_path / "meanStd.t7")
    alexnet = str(FIXTURES / "models" / "alexnetowtbn_small.t7")
    options = ["--mean-std", str(tmp_path / "meanStd.t7")]
    chosen = ["--resize", "image.scale-bicubic:^256"]
    assert main(["convert", alexnet, str(tmp_path / "lab"), *options]) == 0
    assert main(["convert", alexnet, str(tmp_path / "other"), *options, *chosen]) == 0
    assert main(["export", str(tmp_path / "lab"), str(tmp_path / "lab.onnx")]) == 0
    lab, other = (open_model(tmp_path / name) for name in ("lab", "other"))
    assert (lab.preprocessing.resize, lab.preprocessing.size) == (
        "image.scale-bilinear",
        (224, 224),
    )
    assert any("image.scale (bilinear)" in note for note in lab.notes)
    assert (other.preprocessing.size, other.preprocessing.crop) == ("^256", (224, 224))
    assert Classifier(tmp_path / "lab.onnx", "cpu").preprocessing == lab.preprocessing
    capsys.readouterr()
    assert main(["convert", alexnet, str(tmp_path / "none"), *chosen]) == 1
    assert "needs their mean and std" in capsys.readouterr().err
