"""Labels from tables, archives and Arrow files: the same dataset, whatever it was read from."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchlift.converters.errors import TorchliftError
from torchlift.transfer.data import Dataset, ImageFiles, fingerprint, open_data
from torchlift.transfer.errors import DataError

#: The file, the label and the split of each image, in the order of the tables.
ROWS = [
    ("a/1.png", "dog", "train"),
    ("b/2.png", "cat", "train"),
    ("a/3.png", "dog", "val"),
    ("4.png", "owl", "test"),
]
NAMES = ("cat", "dog", "owl")


def pixels(index: int) -> np.ndarray:
    draw = np.random.default_rng(index)
    return draw.integers(0, 256, (5, 6, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the images of `ROWS`."""
    for index, (name, _, _) in enumerate(ROWS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels(index)).save(tmp_path / name)
    return tmp_path


def check(data: Dataset | ImageFiles, splits: bool = True) -> None:
    """Check that a dataset is that of `ROWS`."""
    assert isinstance(data, Dataset)
    expected = np.stack([pixels(index).transpose(2, 0, 1) for index in range(len(ROWS))])
    np.testing.assert_array_equal(data.images, expected)
    assert data.names == NAMES
    assert data.classes is not None
    assert [NAMES[index] for index in data.classes] == [label for _, label, _ in ROWS]
    given = None if data.splits is None else data.splits.tolist()
    assert given == ([split for _, _, split in ROWS] if splits else None)


def table_text(kind: str) -> str:
    if kind == ".jsonl":
        rows = [{"file_name": f, "label": label, "split": split} for f, label, split in ROWS]
        return "\n".join(map(json.dumps, rows)) + "\n\n"
    mark = "\t" if kind == ".tsv" else ";" if kind == ";.csv" else ","
    lines = [mark.join(row) for row in (("Path", "Label", "Split"), *ROWS)]
    return "\ufeff" + "\r\n".join(lines) + "\n"


@pytest.mark.parametrize("kind", [".csv", ";.csv", ".tsv", ".jsonl"])
def test_a_table_lists_images_with_labels_and_splits(kind: str, folder: Path) -> None:
    file = folder / f"table{kind}"
    file.write_text(table_text(kind), encoding="utf-8")
    data = open_data(file)
    check(data)
    assert data.ids is not None
    assert data.ids.tolist() == [name for name, _, _ in ROWS]


def test_a_parquet_table_lists_images(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    files, labels, _ = map(list, zip(*ROWS, strict=True))
    splits = ["training", "train", "valid", "test"]
    table = pyarrow.table({"path": files, "label": labels, "split": splits})
    parquet.write_table(table, folder / "table.parquet")
    check(open_data(folder / "table.parquet"))


def test_whole_numbers_are_numbers_of_classes(folder: Path) -> None:
    (folder / "t.csv").write_text("path,label\na/1.png,1\nb/2.png,3\n", encoding="utf-8")
    data = open_data(folder / "t.csv")
    assert (data.classes is not None, data.names) == (True, None)
    assert np.asarray(data.classes).tolist() == [0, 2]
    assert "labels 1 to 3, counted from 1 as found" in data.notes
    named = open_data(folder / "t.csv", class_names=["x", "y", "z"])
    assert named.names == ("x", "y", "z")


def test_images_of_several_sizes_stay_in_their_files(folder: Path) -> None:
    Image.new("RGB", (9, 9)).save(folder / "large.png")
    text = "path,label\na/1.png,x\nlarge.png,y\n"
    (folder / "t.csv").write_text(text, encoding="utf-8")
    data = open_data(folder / "t.csv")
    assert isinstance(data, ImageFiles)
    assert data[1].size == (9, 9)
    resized = open_data(folder / "t.csv", size=(4, 4))
    assert isinstance(resized, Dataset)
    assert resized.images.shape == (2, 3, 4, 4)


@pytest.mark.parametrize(("modes", "channels"), [(("L", "L"), 1), (("L", "RGB"), 3)])
def test_all_images_are_in_color_if_one_is(
    modes: tuple[str, str], channels: int, tmp_path: Path
) -> None:
    colors = [100, 50 if channels == 1 else (10, 20, 30)]
    for name, mode, color in zip(("a", "b"), modes, colors, strict=True):
        Image.new(mode, (6, 5), color).save(tmp_path / f"{name}.png")
    (tmp_path / "table.csv").write_text("path,label\na.png,cat\nb.png,dog\n", encoding="utf-8")
    data = open_data(tmp_path / "table.csv")
    assert isinstance(data, Dataset)
    assert data.images.shape == (2, channels, 5, 6)
    assert data.images[0].min() == data.images[0].max() == 100
    last = [50] if channels == 1 else [10, 20, 30]
    assert data.images[1, :, 0, 0].tolist() == last


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na/1.png,x|y\nb/2.png,y", r"several labels an image \(row 1 has x\|y\)"),
        ("path,label\na/1.png,x\na/1.png,y", "several labels an image .a/1.png has x and y"),
        ("path,label\na/1.png,0.25\nb/2.png,1", "labels are real numbers, such as 0.25"),
        ("path,label\na/1.png,x\nb/2.png,", "1 of 2 images have no label, the first in row 2"),
        ("path,cat,dog\na/1.png,1,0", "no column of labels .* among: path, cat, dog; one column"),
        ("where,label\na/1.png,x", "no column of image files .* among: where, label"),
        ("path,label\nhttps://x.org/1.png,x", "an address, https://x.org/1.png: nothing is fetch"),
        ("path,label\n,x", "row 1 names no file"),
        ("path,label\na/1.png", "row 1 has 1 columns, the first line 2"),
        ("path,label\nnone.png,x", "none.png: no such file"),
        ("path,label,split\na/1.png,x,often", "row 1 has the split 'often'; train, val or test"),
        ("path,label,split\na/1.png,x,train\nb/2.png,x,", "row 2 has the split ''"),
        ("", "an empty file; a line of column names"),
    ],
)
def test_what_is_no_table_of_one_class_an_image_is_refused(
    text: str, message: str, folder: Path
) -> None:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(TorchliftError, match=message):
        open_data(folder / "t.csv")


def test_names_with_commas_are_names(folder: Path) -> None:
    text = 'path,label\na/1.png,"salt, pepper"\nb/2.png,"Smith; Sons"\n'
    (folder / "t.csv").write_text(text, encoding="utf-8")
    assert open_data(folder / "t.csv").names == ("Smith; Sons", "salt, pepper")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["x", "y"], ["x"]], "several labels an image"),
        ([0.5, 1], "real numbers, such as 0.5"),
        # Only where the source has class names does -1 mean that there is none.
        ([-1, -1], "2 labels out of range"),
        ([-1, 0], "1 labels out of range"),
    ],
)
def test_json_lines_with_other_labels_are_refused(
    labels: list[Any], message: str, folder: Path
) -> None:
    rows = [{"path": ROWS[i][0], "label": label} for i, label in enumerate(labels)]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(TorchliftError, match=message):
        open_data(folder / "t.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "4.png"', r"line 3 is no JSON: "),
        ("4.png,owl", r"line 3 is no JSON: "),
        ('["4.png", "owl"]', "line 3 is no object with a path and a label$"),
        ("null", "line 3 is no object with a path and a label$"),
        ('{"path": "4.png", "label": "owl"}', ""),
    ],
)
def test_each_line_of_json_lines_is_an_object(line: str, message: str, folder: Path) -> None:
    text = f'{{"path": "a/1.png", "label": "dog"}}\n\n{line}\n'
    (folder / "t.jsonl").write_text(text, encoding="utf-8")
    if message:
        with pytest.raises(DataError, match=message):
            open_data(folder / "t.jsonl")
    else:
        assert open_data(folder / "t.jsonl").names == ("dog", "owl")


def test_skip_bad_leaves_out_what_cannot_be_read(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"no image")
    text = "path,label\nbad.png,x\na/1.png,y\n"
    (folder / "t.csv").write_text(text, encoding="utf-8")
    data = open_data(folder / "t.csv", on_error="skip")
    assert (len(data), data.names) == (1, ("x", "y"))
    assert any("left out, unreadable: 1" in note for note in data.notes)
    # Where nothing is left, the first problem is said.
    (folder / "t.csv").write_text("path,label\nbad.png,x\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no image can be read: .*bad\.png"):
        open_data(folder / "t.csv", on_error="skip")


def test_text_labels_of_a_npz_are_class_names(tmp_path: Path) -> None:
    images = np.zeros((4, 3, 2, 2), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=["dog", "cat", "dog", "owl"])
    data = open_data(tmp_path / "a.npz")
    assert (np.asarray(data.classes).tolist(), data.names) == ([1, 0, 1, 2], NAMES)
    np.savez(tmp_path / "b.npz", images=images, labels=[b"b"] * 4, classes=["b", "a"])
    data = open_data(tmp_path / "b.npz")
    assert (np.asarray(data.classes).tolist(), data.names) == ([0] * 4, ("b", "a"))
    parts = {"train_images": images, "test_images": images[:1]}
    np.savez(tmp_path / "c.npz", **parts, train_labels=["b", "a", "b", "c"], test_labels=["c"])  # type: ignore[arg-type]
    data = open_data(tmp_path / "c.npz")
    assert np.asarray(data.classes).tolist() == [1, 0, 1, 2, 2]
    assert data.names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(4), "expected one label per image, not 4×4: torchlift trains classifiers, with"),
        ([0.5, 1, 2, 3], "not integers, but real numbers such as 0.5: torchlift trains classif"),
        (np.array([["x", "y"]] * 4), "several labels an image"),
    ],
)
def test_a_npz_with_other_labels_is_refused(labels: Any, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 3, 2, 2), np.uint8), labels=labels)
    with pytest.raises(TorchliftError, match=message):
        open_data(tmp_path / "a.npz")


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def shard(file: Path, rows: list[int], form: str = "cls", mode: str = "w") -> None:
    """Write some images of `ROWS` as webdataset does."""
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]  # any mode
        for index in rows:
            image = io.BytesIO()
            Image.fromarray(pixels(index)).save(image, "png")
            label = ROWS[index][1]
            text = json.dumps({"label": label}) if form == "json" else f"{label}\n"
            add(archive, f"x/{index:04d}.{form}", text.encode())
            add(archive, f"x/{index:04d}.png", image.getvalue())


@pytest.mark.parametrize("form", ["cls", "json"])
def test_a_webdataset_archive_is_read_where_it_is(form: str, tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", [0, 1, 2, 3], form)
    data = open_data(tmp_path / "a.tar")
    check(data, splits=False)
    assert data.ids is not None
    assert data.ids.tolist()[0] == "x/0000.png"


def test_a_folder_of_archives_has_the_splits_of_their_names(tmp_path: Path) -> None:
    for name, rows in (("train-0000", [0]), ("train-0001", [1]), ("val-0", [2]), ("test-0", [3])):
        shard(tmp_path / f"{name}.tar", rows)
    data = open_data(tmp_path)
    assert sorted(np.asarray(data.splits).tolist()) == ["test", "train", "train", "val"]
    assert data.names == NAMES
    files = open_data(tmp_path, split="train")
    assert len(files) == 2
    # An archive of another name is in no split, and then there are none.
    shard(tmp_path / "images.tar", [0])
    more = open_data(tmp_path)
    assert (len(more), more.splits) == (5, None)


def test_damaged_and_compressed_archives_are_one_line(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", [0, 1])
    whole = (tmp_path / "a.tar").read_bytes()
    for length in (1400, 1600, 2048, 700):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(TorchliftError, match=r"cut\.tar: cannot be read"):
            open_data(tmp_path / "cut.tar")
    shard(tmp_path / "gz.tar", [0], mode="w:gz")
    with pytest.raises(TorchliftError, match="compressed: unpack it with gunzip"):
        open_data(tmp_path / "gz.tar")


def arrow_table(rows: list[int], labels: Any = None) -> Any:
    """Return images of `ROWS` as Hugging Face's datasets hold them."""
    pyarrow = pytest.importorskip("pyarrow")
    images = []
    for index in rows:
        image = io.BytesIO()
        Image.fromarray(pixels(index)).save(image, "png")
        images.append({"bytes": image.getvalue(), "path": f"{index}.png"})
    given = [NAMES.index(ROWS[index][1]) for index in rows] if labels is None else labels
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(NAMES)},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pyarrow.table({"image": images, "label": given}).replace_schema_metadata(metadata)


def save_to_disk(folder: Path, table: Any) -> None:
    """Write a table as `Dataset.save_to_disk` does."""
    import pyarrow

    folder.mkdir(parents=True)
    name = "data-00000-of-00001.arrow"
    with (
        pyarrow.OSFile(str(folder / name), "wb") as stream,
        pyarrow.ipc.new_stream(stream, table.schema) as writer,
    ):
        writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    (folder / "dataset_info.json").write_text("{}")


def test_a_folder_that_hugging_face_saved(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "one", arrow_table([0, 1, 2, 3]))
    data = open_data(tmp_path / "one")
    check(data, splits=False)
    assert np.asarray(data.ids).tolist() == ["0.png", "1.png", "2.png", "3.png"]
    for name, rows in (("train", [0, 1]), ("validation", [2]), ("test", [3])):
        save_to_disk(tmp_path / "dict" / name, arrow_table(rows))
    (tmp_path / "dict" / "dataset_dict.json").write_text("{}")
    both = open_data(tmp_path / "dict")
    check(both)
    # The splits are in the order of their use, not of their names.
    assert np.asarray(both.ids).tolist() == ["0.png", "1.png", "2.png", "3.png"]
    # With one of another name the folders are no splits: their images are all of the data.
    save_to_disk(tmp_path / "dict" / "unsupervised", arrow_table([0]))
    more = open_data(tmp_path / "dict")
    assert (len(more), more.splits) == (5, None)


def test_parquet_files_with_an_image_column(tmp_path: Path) -> None:
    table = arrow_table([0, 1, 2, 3])
    from pyarrow import parquet

    parquet.write_table(table, tmp_path / "a.parquet")
    check(open_data(tmp_path / "a.parquet"), splits=False)
    hub = tmp_path / "hub" / "data"
    hub.mkdir(parents=True)
    for name, rows in (("train", [0, 1]), ("validation", [2]), ("test", [3])):
        parquet.write_table(arrow_table(rows), hub / f"{name}-00000-of-00001.parquet")
    check(open_data(tmp_path / "hub"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1], [1]], "several labels an image"),
        ([0.5, 1.0], "real numbers, such as 0.5"),
        ([0, -1], "1 of 2 images have no label"),
    ],
)
def test_arrow_tables_with_other_labels_are_refused(
    labels: list[Any], message: str, tmp_path: Path
) -> None:
    save_to_disk(tmp_path / "x", arrow_table([0, 1], labels))
    with pytest.raises(TorchliftError, match=message):
        open_data(tmp_path / "x")


def test_images_in_archives_have_the_fingerprint_of_their_bytes(
    folder: Path, tmp_path: Path
) -> None:
    """A large dataset stays where it is, and is the same one wherever that is."""
    found = []
    for source in ("table.csv", "a.tar"):
        Image.new("RGB", (9, 9)).save(folder / "large.png")
        with tarfile.open(folder / "a.tar", "w") as archive:
            for name, label in (("4.png", "x"), ("large.png", "y")):
                add(archive, f"{name[:-4]}.cls", label.encode())
                add(archive, name, (folder / name).read_bytes())
        (folder / "table.csv").write_text("path,label\n4.png,x\nlarge.png,y\n", encoding="utf-8")
        data = open_data(folder / source)
        assert isinstance(data, ImageFiles)
        assert [image.size for image in next(iter(data.batches(2)))[0]] == [(6, 5), (9, 9)]
        found.append(fingerprint(data))
    assert found[0] == found[1]
