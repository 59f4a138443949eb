"""Arrow tables that hold no images, or only the paths of images elsewhere, are refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import in_memory
from PIL import Image
from test_data_tables import save_to_disk

from torchlift.converters.requirements import MissingPackageError
from torchlift.transfer.data import open_data
from torchlift.transfer.data.readers import arrow_images, tables
from torchlift.transfer.errors import DataError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def image() -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "png")
    return file.getvalue()


def test_a_saved_dataset_without_images_says_what_it_has(tmp_path: Path) -> None:
    """A text dataset, and images of a column whose name says nothing of them."""
    for name in ("texts", "mask"):
        save_to_disk(tmp_path / name, pyarrow.table({name: [b"x"], "label": [0]}))
        with pytest.raises(DataError, match=f"no column of images among: {name}, label$") as error:
            open_data(tmp_path / name)
        assert "data-00000-of-00001.arrow" in str(error.value)
    save_to_disk(tmp_path / "image", pyarrow.table({"image": [image()], "label": ["cat"]}))
    assert open_data(tmp_path / "image").names == ("cat",)


def test_only_the_path_of_an_image_is_no_image(tmp_path: Path) -> None:
    """Whose machine the path is on is not known: nothing is looked for there."""
    Image.new("L", (4, 4)).save(tmp_path / "2.png")
    file = tmp_path / "a.parquet"
    for content in (None, image()):
        pair = [{"bytes": image(), "path": "1.png"}, {"bytes": content, "path": "2.png"}]
        parquet.write_table(pyarrow.table({"image": pair, "label": ["cat", "dog"]}), file)
        if content is None:
            with pytest.raises(
                DataError, match=r"a\.parquet: row 2 has no image, only the path '2"
            ):
                open_data(file)
    assert open_data(file).names == ("cat", "dog")


def test_a_single_file_elsewhere_is_read_as_one_at_hand(tmp_path: Path) -> None:
    """A table of images, not of paths, which `.csv` and `.tsv` files hold."""
    fsspec = pytest.importorskip("fsspec")
    table = pyarrow.table({"image": [image(), image()], "label": ["cat", "dog"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    memory = fsspec.filesystem("memory")
    memory.pipe("/alone/a.parquet", content)
    there, here = open_data("memory://alone/a.parquet"), open_data(tmp_path / "a.parquet")
    memory.rm("/alone", recursive=True)
    assert there.names == here.names == ("cat", "dog")
    assert len(there) == len(here) == 2


def test_pyarrow_is_asked_for_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a file holds images or paths cannot be told without it."""

    def missing(feature: str, *packages: str) -> None:
        raise MissingPackageError(f"{feature} needs {packages[0]}")

    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"image": [image()], "label": ["cat"]}), file)
    assert open_data(file).names == ("cat",)
    monkeypatch.setattr(arrow_images, "is_installed", lambda name: False)
    for reader in (arrow_images, tables):
        monkeypatch.setattr(reader, "require", missing)
    with pytest.raises(MissingPackageError, match=r"a\.parquet needs pyarrow$"):
        open_data(file)


def test_the_splits_of_a_column_and_the_first_of_two_images_are_taken(tmp_path: Path) -> None:
    """A mask beside an image is an image, too; and large tables have large columns of bytes."""
    other = io.BytesIO()
    Image.new("L", (9, 9)).save(other, "png")
    pair = {"bytes": other.getvalue(), "path": None}
    columns: dict[str, Any] = {
        "Image": pyarrow.array([image(), image()], pyarrow.large_binary()),
        "mask": [pair, pair],
        "Label": ["cat", "dog"],
        "subset": ["train", "Validation"],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    data = in_memory(tmp_path / "a.parquet")
    assert data.images.shape == (2, 1, 4, 4)
    assert data.names == ("cat", "dog")
    assert data.splits is not None
    assert data.splits.tolist() == ["train", "val"]
    # Bytes of another name are no image.
    columns = {"mask": columns["mask"], "Image": columns["Image"], "Label": columns["Label"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert in_memory(tmp_path / "a.parquet").images.shape == (2, 1, 9, 9)


@pytest.mark.parametrize("name", ["image", "img", "images", "picture", "jpg", "png", "bytes"])
def test_plain_bytes_are_images_in_a_column_of_a_usual_name(name: str, tmp_path: Path) -> None:
    plain = pyarrow.array([image()], pyarrow.binary())
    parquet.write_table(pyarrow.table({name: plain, "label": ["cat"]}), tmp_path / "a.parquet")
    assert in_memory(tmp_path / "a.parquet").images.shape == (1, 1, 4, 4)


def test_rows_of_all_files_of_a_folder_have_their_labels(tmp_path: Path) -> None:
    """A file without labels beside one that has some lacks them; one of no label has none."""
    for name, columns in (
        ("train-0.parquet", {"image": [image()], "label": ["cat"]}),
        ("test-0.parquet", {"image": [image(), image()], "label": ["dog", "cat"]}),
    ):
        parquet.write_table(pyarrow.table(columns), tmp_path / name)
    data = open_data(tmp_path)
    assert data.classes is not None
    assert data.splits is not None
    assert (data.classes.tolist(), data.splits.tolist()) == ([0, 1, 0], ["train", "test", "test"])
    assert data.ids is not None
    assert data.ids.tolist() == ["train-0/0", "test-0/0", "test-0/1"]
    parquet.write_table(pyarrow.table({"image": [image()] * 2}), tmp_path / "test-0.parquet")
    with pytest.raises(DataError, match="2 of 3 images have no label, the first in row 2"):
        open_data(tmp_path)
    parquet.write_table(pyarrow.table({"image": [image()]}), tmp_path / "train-0.parquet")
    assert open_data(tmp_path).classes is None


def test_numbers_beside_names_are_their_positions(tmp_path: Path) -> None:
    """From 0, whichever have images; -1 is no label."""
    label = {"_type": "ClassLabel", "names": ["a", "b", "c"]}
    features = {"image": {"_type": "Image"}, "Label": label}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    for labels, said in (
        ([2, 1], ""),
        ([2, -1], "1 of 2 images have no"),
        ([2, 3], "1 labels out"),
    ):
        pair = {"image": [image(), image()], "Label": labels}
        table = pyarrow.table(pair).replace_schema_metadata(metadata)
        parquet.write_table(table, tmp_path / "a.parquet")
        if said:
            with pytest.raises(DataError, match=said):
                open_data(tmp_path / "a.parquet")
        else:
            data = open_data(tmp_path / "a.parquet")
            assert np.asarray(data.classes).tolist() == labels
            assert data.names == ("a", "b", "c")
