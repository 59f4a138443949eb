"""Rules of readers: the order of images, bounds of archives, names within a dataset's folder."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from torchlift.converters.images.errors import ImageError
from torchlift.converters.t7 import LuaTable
from torchlift.transfer.data import Dataset, ImageFiles, dataset_from, open_data
from torchlift.transfer.data.image_folder_index import ClassIndex, write_index
from torchlift.transfer.data.lua_tables import images_and_labels
from torchlift.transfer.data.readers import npz
from torchlift.transfer.data.selection import image_shape
from torchlift.transfer.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6), np.uint8)


def picture(index: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS[index].transpose(1, 2, 0)).save(stream, "png")
    return stream.getvalue()


def folder_of(root: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(index % 4))
    return root


def test_images_of_a_folder_with_an_index_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    """As they were in the dataset; a folder without one is read class by class."""
    folder = folder_of(tmp_path, "owl/1.png", "cat/2.png", "owl/3.png", "cat/4.png")
    plain = open_data(folder)
    assert np.asarray(plain.ids).tolist() == ["cat/2.png", "cat/4.png", "owl/1.png", "owl/3.png"]
    write_index(ClassIndex({"owl": "Owl", "cat": "Cat"}), folder)
    data = open_data(folder)
    assert isinstance(data, Dataset)
    assert np.asarray(data.ids).tolist() == ["owl/1.png", "cat/2.png", "owl/3.png", "cat/4.png"]
    assert data.names == ("Owl", "Cat")
    assert np.array_equal(data.images, PIXELS)
    # The index itself is no file that was left out.
    assert data.notes == ()


def test_a_class_whose_images_are_all_unreadable_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "cat/1.png", "dog/2.png")
    (folder / "dog" / "2.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"dog: no readable image"):
        open_data(folder, on_error="skip")
    (folder / "dog" / "3.png").write_bytes(picture(2))
    data = open_data(folder, on_error="skip")
    assert len(data) == 2
    assert "left out, unreadable: 1 (" in data.notes[0]


@pytest.mark.parametrize(("spare", "is_read"), [(0, True), (-1, False)])
def test_an_archive_may_unpack_to_so_many_times_its_size(
    spare: int, is_read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or to what any machine has: the larger of the two bounds counts, and is met exactly."""
    file = tmp_path / "d.npz"
    np.savez_compressed(file, x=np.zeros((64, 1, 16, 16), np.uint8), y=np.arange(64) % 2)
    with npz.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    packed = file.stat().st_size
    assert unpacked > 3 * packed
    for bounds in ((0, unpacked + spare), (1, unpacked + spare)):
        monkeypatch.setattr(npz, "_MAX_EXPANSION", bounds[0])
        monkeypatch.setattr(npz, "_ALWAYS_ALLOWED", bounds[1])
        if is_read:
            assert len(open_data(file)) == 64
        else:
            with pytest.raises(DataError, match=f"bytes would unpack to {unpacked:,}"):
                open_data(file)
    monkeypatch.setattr(npz, "_ALWAYS_ALLOWED", 0)
    monkeypatch.setattr(npz, "_MAX_EXPANSION", -(-unpacked // packed))
    assert len(open_data(file)) == 64
    monkeypatch.setattr(npz, "_MAX_EXPANSION", unpacked // packed - 1)
    with pytest.raises(DataError, match="would unpack"):
        open_data(file)


def test_hidden_folders_elsewhere_hold_no_images() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("cat/1.png", "dog/2.png", ".thumbnails/3.png", "cat/.old/4.png"):
        memory.pipe(f"/hidden/{name}", picture(0))
    found = open_data("memory://hidden")
    memory.rm("/hidden", recursive=True)
    assert (len(found), found.names) == (2, ("cat", "dog"))
    assert found.notes == ("left out, no images in a class folder: 2 files",)


def arrow(folder: Path, name: str, rows: list[int], *, named: bool, paths: bool) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    images: list[dict[str, Any]] = [
        {"bytes": picture(row), "path": f"{row}.png" if paths else None} for row in rows
    ]
    label = {"_type": "ClassLabel", "names": ["cat", "dog"]}
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    table = pyarrow.table({"image": images, "label": [row % 2 for row in rows]})
    if named:
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    with (
        pyarrow.OSFile(str(folder / name), "wb") as stream,
        pyarrow.ipc.new_stream(stream, table.schema) as writer,
    ):
        writer.write_table(table)


@pytest.mark.parametrize("named", [(True, True), (True, False), (False, True)])
def test_class_names_may_stand_in_any_file_of_a_dataset(
    named: tuple[bool, bool], tmp_path: Path
) -> None:
    for name, rows, has_names in (("a.arrow", [0, 1], named[0]), ("b.arrow", [2, 3], named[1])):
        arrow(tmp_path, name, rows, named=has_names, paths=False)
    listed = [{"filename": "a.arrow"}, {"filename": "b.arrow"}]
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": listed}), encoding="utf-8")
    data = open_data(tmp_path)
    assert data.names == ("cat", "dog")
    # An image without a name is called by its file and its row in it.
    assert np.asarray(data.ids).tolist() == ["a/0", "a/1", "b/0", "b/1"]


def test_a_state_names_files_of_its_own_folder_only(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    arrow(tmp_path, "secret.arrow", [0, 1], named=True, paths=True)
    listed = [{"filename": "../secret.arrow"}]
    state = tmp_path / "data" / "state.json"
    state.write_text(json.dumps({"_data_files": listed}), encoding="utf-8")
    with pytest.raises(DataError, match=r"data/secret\.arrow: cannot be read"):
        open_data(tmp_path / "data")


def test_a_pair_of_a_list_may_have_named_or_numbered_entries() -> None:
    for pair in (
        lambda index: LuaTable.from_list([PIXELS[index], index + 1]),
        lambda index: LuaTable({"image": PIXELS[index], "label": index + 1}),
        lambda index: LuaTable({"input": PIXELS[index], "target": index + 1}),
    ):
        data = dataset_from(LuaTable.from_list([pair(index) for index in range(3)]))
        assert np.array_equal(data.images, PIXELS[:3])
        assert data.classes is not None
        assert data.classes.tolist() == [0, 1, 2]


def test_images_and_labels_of_a_list_of_two_in_either_order() -> None:
    labels = np.array([2, 1, 1, 2])
    for first, second in ((PIXELS, labels), (labels, PIXELS)):
        images, found = images_and_labels(LuaTable.from_list([first, second]))
        assert np.array_equal(images, PIXELS)
        assert found is not None
        assert np.array_equal(np.ravel(found), labels)
    # Two tensors of one shape are two images.
    images, found = images_and_labels(LuaTable.from_list([PIXELS[0], PIXELS[1]]))
    assert (images.shape, found) == ((2, 3, 5, 6), None)
    # Two lists of numbers are no images with labels.
    with pytest.raises(DataError):
        dataset_from(LuaTable.from_list([np.array([1.0, 2.0]), np.array([1.0, 2.0])]))


def test_the_bytes_of_an_image_file_are_decoded_and_other_vectors_are_not() -> None:
    encoded = np.frombuffer(picture(1), np.uint8)
    images, _ = images_and_labels(LuaTable.from_list([encoded, encoded]))
    assert np.array_equal(images, np.stack([PIXELS[1], PIXELS[1]]))
    # Numbers that happen to be those of a PNG are no bytes.
    numbers = encoded.astype(np.float32)
    images, _ = images_and_labels(LuaTable.from_list([numbers, numbers]))
    assert images.shape == (2, len(encoded))
    words = np.frombuffer(b"BM" * 6, np.int16)
    images, _ = images_and_labels(LuaTable.from_list([words, words]))
    assert images.shape == (2, 6)


@pytest.mark.parametrize("labels", [["", " ", ""], ["cat", "", "cat"], ["cat", "dog", "cat"]])
def test_texts_without_a_letter_are_no_labels(labels: list[str], tmp_path: Path) -> None:
    """Of all images, they are none; of some, those lack theirs."""
    np.savez(tmp_path / "d.npz", x=PIXELS[:3], y=np.array(labels))
    if labels[0] and not labels[1]:
        with pytest.raises(DataError, match="1 of 3 images have no label, the first in row 2"):
            open_data(tmp_path / "d.npz")
        return
    data = open_data(tmp_path / "d.npz")
    assert len(data) == 3
    if labels[0]:
        assert data.classes is not None
        assert (data.classes.tolist(), data.names) == ([0, 1, 0], ("cat", "dog"))
    else:
        assert (data.classes, data.names) == (None, None)


@pytest.mark.parametrize(("label", "fits"), [("dog", True), ("emu", False)])
def test_labels_are_some_of_the_class_names_beside_them(
    label: str, fits: bool, tmp_path: Path
) -> None:
    names = np.array(["owl", "dog", "cat"])
    np.savez(tmp_path / "d.npz", x=PIXELS[:2], y=np.array(["cat", label]), classes=names)
    if fits:
        data = open_data(tmp_path / "d.npz")
        assert data.classes is not None
        assert (data.classes.tolist(), data.names) == ([2, 1], ("owl", "dog", "cat"))
    else:
        with pytest.raises(DataError, match="the label 'emu' is none of the class names"):
            open_data(tmp_path / "d.npz")


@pytest.mark.parametrize(("kind", "fits"), [(np.uint8, True), (np.bool_, True), (complex, False)])
def test_labels_of_a_kind_that_numbers_nothing_are_refused(
    kind: Any, fits: bool, tmp_path: Path
) -> None:
    np.savez(tmp_path / "d.npz", x=PIXELS[:2], y=np.array([0, 1], kind))
    if fits:
        found = open_data(tmp_path / "d.npz").classes
        assert found is not None
        assert found.tolist() == [0, 1]
    else:
        with pytest.raises(DataError, match="the labels are not numbers"):
            open_data(tmp_path / "d.npz")


def test_splits_may_have_names_of_classes_and_no_labels() -> None:
    """Then there is nothing to match by name."""
    splits = {
        "train": LuaTable({"data": PIXELS[:3], "classes": LuaTable.from_list(["cat", "dog"])}),
        "test": LuaTable({"data": PIXELS[3:], "classes": LuaTable.from_list(["dog", "cat"])}),
    }
    data = dataset_from(LuaTable(dict(splits)))
    assert (data.classes, data.names, data.notes) == (None, ("cat", "dog"), ())
    for table, labels in zip(splits.values(), ([1, 2, 2], [1]), strict=True):
        table["labels"] = np.array(labels)
    data = dataset_from(LuaTable(dict(splits)))
    assert data.classes is not None
    assert data.classes.tolist() == [0, 1, 1, 1]


def test_a_split_may_be_images_alone_and_is_none_without_images() -> None:
    data = dataset_from(LuaTable({"trainData": PIXELS[:3], "testData": PIXELS[3:], "testNote": 5}))
    assert data.splits is not None
    assert data.splits.tolist() == ["train"] * 3 + ["test"]
    assert (data.classes, len(data)) == (None, 4)
    data = dataset_from(LuaTable({"trainData": PIXELS[:3], "testNote": 5}))
    assert data.splits is not None
    assert data.splits.tolist() == ["train"] * 3


def archive(file: Path, *members: tuple[str, bytes | None]) -> None:
    """Write a .tar; a member without bytes is a folder."""
    with tarfile.open(file, "w") as stream:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
                stream.addfile(member)
            else:
                member.size = len(content)
                stream.addfile(member, io.BytesIO(content))


def test_only_files_of_an_archive_are_images(tmp_path: Path) -> None:
    """A folder may be called like one, and an archive may hold nothing else."""
    file = tmp_path / "a.tar"
    archive(file, ("cat.png", None), ("cat.png/1.png", picture(0)), ("cat.png/1.cls", b"cat"))
    data = open_data(file)
    assert (np.asarray(data.ids).tolist(), data.names) == (["cat.png/1.png"], ("cat",))
    archive(file, ("cat.png", None))
    with pytest.raises(DataError, match=r"a\.tar: no images$"):
        open_data(file)


@pytest.mark.parametrize("content", [{"label": "owl"}, {"width": 5}, ["owl"]])
def test_the_json_of_a_sample_may_have_its_label(content: Any, tmp_path: Path) -> None:
    """A list and an object without one say nothing of the class."""
    text = json.dumps(content).encode()
    archive(tmp_path / "a.tar", ("1.png", picture(0)), ("1.json", text))
    expected = ("owl",) if content == {"label": "owl"} else None
    assert open_data(tmp_path / "a.tar").names == expected


def test_a_table_of_paths_alone_lists_images_without_labels(tmp_path: Path) -> None:
    """A column of another name beside it may be that of the labels: it is asked for."""
    folder_of(tmp_path, "1.png", "2.png")
    table = tmp_path / "t.csv"
    table.write_text("path\n1.png\n2.png\n", encoding="utf-8")
    data = open_data(table)
    assert (len(data), data.classes, data.names) == (2, None, None)
    table.write_text("path,split\n1.png,train\n2.png,test\n", encoding="utf-8")
    data = open_data(table)
    assert data.splits is not None
    assert (data.classes, data.splits.tolist()) == (None, ["train", "test"])
    table.write_text("path,kind\n1.png,cat\n2.png,dog\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no column of labels \(.*\) among: path, kind"):
        open_data(table)


@pytest.mark.parametrize("length", [131_072, 131_073])
def test_a_cell_that_is_too_long_for_csv_is_one_sentence(length: int, tmp_path: Path) -> None:
    folder_of(tmp_path, "1.png")
    file = tmp_path / "t.csv"
    file.write_text(f"path,note,label\n1.png,{'x' * length},cat\n", encoding="utf-8")
    if length > 131_072:
        with pytest.raises(DataError, match=r"t\.csv: cannot be read: field larger than"):
            open_data(file)
    else:
        assert open_data(file).names == ("cat",)


def test_a_damaged_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    """Whether it holds images or paths cannot be told."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"path": ["1.png"], "label": ["cat"]}), file)
    folder_of(tmp_path, "1.png")
    assert open_data(file).names == ("cat",)
    file.write_bytes(file.read_bytes()[:-8] + b"damaged!")
    with pytest.raises(DataError, match=r"^[^\n]*t\.parquet: cannot be read: "):
        open_data(file)


@pytest.mark.parametrize("state", ["{", "[]", "{}", '{"_data_files": 5}', '{"_data_files": [{}]}'])
def test_a_damaged_state_of_a_saved_dataset_is_named(state: str, tmp_path: Path) -> None:
    arrow(tmp_path, "a.arrow", [0, 1], named=True, paths=False)
    listed = json.dumps({"_data_files": [{"filename": "a.arrow"}]})
    (tmp_path / "state.json").write_text(listed, encoding="utf-8")
    assert open_data(tmp_path).names == ("cat", "dog")
    (tmp_path / "state.json").write_text(state, encoding="utf-8")
    with pytest.raises(DataError, match=r"state\.json: damaged: "):
        open_data(tmp_path)


def turned_at_its_end(index: int) -> bytes:
    """A PNG that says behind its pixels that it is to be turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = b"eXIf" + content
    part = len(content).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    plain = picture(index)
    end = plain.rindex(b"IEND") - 4
    return plain[:end] + part + plain[end:]


def test_images_that_are_turned_late_differ_in_size(tmp_path: Path) -> None:
    """Headers say one size; upright they have two, so they stay files."""
    folder = folder_of(tmp_path, "cat/1.png", "dog/2.png")
    (folder / "t.csv").write_text("path,label\ncat/1.png,cat\ndog/2.png,dog\n", encoding="utf-8")
    assert isinstance(open_data(folder / "t.csv"), Dataset)
    (folder / "dog" / "2.png").write_bytes(turned_at_its_end(1))
    data = open_data(folder / "t.csv")
    assert isinstance(data, ImageFiles)
    assert [data[index].size for index in range(2)] == [(6, 5), (5, 6)]
    # The color is what is known of the shape of all.
    assert image_shape(data) == "RGB"


@pytest.mark.parametrize(
    ("texts", "noted"),
    [(["a", "b", "c"], True), (["a", "b"], False), (["a", "b", "c", "d"], False), (None, False)],
)
def test_as_many_texts_as_classes_are_noted_and_no_others(
    texts: list[str] | None, noted: bool
) -> None:
    """They may be the names of the classes, under a name that torchlift does not know."""
    data = Dataset(PIXELS, np.array([0, 2, 1, 2]))
    arrays = {"words": np.array(texts)} if texts else {"numbers": np.arange(3)}
    labels = {"": np.array([1, 3, 2, 3])}
    found = npz._with_note_on_text(data, arrays, labels)
    assert [note.startswith("the array words of 3 texts is not used") for note in found.notes] == (
        [True] if noted else []
    )
    whole = Dataset(PIXELS, data.classes, ("x", "y", "z"))
    named = npz._with_note_on_text(whole, arrays, labels)
    assert named.notes == ()


def test_texts_that_are_the_labels_are_no_names_that_were_left_out(tmp_path: Path) -> None:
    """Three examples of three classes, whose labels are numbers written as texts."""
    np.savez(tmp_path / "d.npz", images=PIXELS[:3], labels=np.array(["1", "3", "2"]))
    data = open_data(tmp_path / "d.npz")
    assert data.classes is not None
    assert data.classes.tolist() == [0, 2, 1]
    assert not [note for note in data.notes if "is not used" in note]
