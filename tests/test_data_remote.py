"""Datasets at addresses give what the same files give here, and nothing else is ever fetched."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.errors import TorchliftError
from torchlift.converters.images import Preprocessing
from torchlift.converters.requirements import MissingPackageError
from torchlift.converters.t7 import LuaTable
from torchlift.transfer.data import (
    Batches,
    BatchPlan,
    ImageFiles,
    fingerprint,
    open_data,
    remote_files,
)
from torchlift.transfer.data.remote_files import RemoteFile
from torchlift.transfer.errors import DataError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same eight images as a folder with splits, a table, a .npz and archives."""
    root = tmp_path_factory.mktemp("here")
    random = np.random.default_rng(0)
    rows, arrays = [], []
    for split, count in (("train", 3), ("test", 1)):
        with tarfile.open(root / f"{split}-0.tar", "w") as archive:
            for label, name in enumerate(("cat", "dog")):
                (root / "images" / split / name).mkdir(parents=True)
                for index in range(count):
                    image = random.integers(0, 256, (6, 5, 3)).astype(np.uint8)
                    file = root / "images" / split / name / f"{index}.png"
                    Image.fromarray(image).save(file)
                    rows.append(f"images/{split}/{name}/{index}.png,{name},{split}")
                    arrays.append((image.transpose(2, 0, 1), label))
                    archive.add(file, f"{name}{index}.png")
                    text = tarfile.TarInfo(f"{name}{index}.cls")
                    text.size = 3
                    archive.addfile(text, io.BytesIO(name.encode()))
    (root / "table.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n", encoding="utf-8")
    images, labels = zip(*arrays, strict=True)
    np.savez(root / "data.npz", x=np.stack(images), y=labels)
    with zipfile.ZipFile(root / "all.zip", "w") as archive_of_all:
        for file in sorted((root / "images").rglob("*.png")):
            archive_of_all.write(file, file.relative_to(root / "images"))
    return root


@pytest.fixture(scope="module")
def addresses(folder: Path) -> Iterator[dict[str, str]]:
    """Where the folder is, by the kind of address."""
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/there", recursive=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"memory": "memory://there", "http": f"http://127.0.0.1:{server.server_port}"}
    server.shutdown()
    memory.rm("/there", recursive=True)


def same(found: Any, expected: Any) -> None:
    assert fingerprint(found) == fingerprint(expected)
    assert found.names == expected.names
    assert (found.splits is None) == (expected.splits is None)
    if found.splits is not None:
        assert found.splits.tolist() == expected.splits.tolist()


@pytest.mark.parametrize("kind", ["memory", "http"])
@pytest.mark.parametrize("name", ["images", "table.csv", "data.npz"])
def test_a_dataset_elsewhere_is_the_one_here(
    kind: str, name: str, folder: Path, addresses: dict[str, str]
) -> None:
    source = f"{addresses[kind]}/{name}" + ("/" if kind == "http" and name == "images" else "")
    expected = open_data(folder / name)
    found = open_data(source)
    if name == "images":
        # The order of the splits is that of the paths; the images are the same.
        order = [expected.ids.tolist().index(each) for each in found.ids.tolist()]
        expected = expected.take(np.array(order))
    same(found, expected)


def test_archives_and_a_zip_are_read_where_they_are(
    folder: Path, addresses: dict[str, str]
) -> None:
    for kind in ("memory", "http"):
        same(open_data(f"{addresses[kind]}/train-0.tar"), open_data(folder / "train-0.tar"))
    here = open_data(folder / "images")
    for source in (f"zip://{folder}/all.zip", f"zip://::{folder}/all.zip"):
        found = open_data(source)
        order = [here.ids.tolist().index(each) for each in found.ids.tolist()]
        same(found, here.take(np.array(order)))
    part = open_data(f"zip://train::{folder}/all.zip")
    assert part.ids.tolist()[0] == "cat/0.png"
    assert len(part) == 6


def test_images_that_do_not_fit_in_memory_stay_where_they_are(
    folder: Path, addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchlift.transfer.data.collect_images.MEMORY_LIMIT", 0)
    for source in (
        f"{addresses['memory']}/images",
        f"zip://{folder}/all.zip",
        f"{addresses['memory']}/train-0.tar",
    ):
        found = open_data(source)
        assert isinstance(found, ImageFiles)
        with Image.open(folder / "images" / "train" / "cat" / "2.png") as image:
            place = next(i for i, name in enumerate(found.ids) if name.endswith("2.png")
                         and "cat" in name)  # fmt: skip
            assert np.array_equal(np.asarray(found[place]), np.asarray(image))


class WholeFiles:
    """A file system, like some servers, that gives a whole file for a part of it."""

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        return b"0123456789"


def test_a_part_of_a_file_is_those_bytes_and_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that ends early would be decoded with a gray rest."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/part.bin", b"0123456789")
    file = RemoteFile.at("memory://part.bin")
    assert file.read() == b"0123456789"
    assert file.part(4, 6).read() == b"456789"
    with pytest.raises(DataError, match="6 bytes came, 8 were expected"):
        file.part(4, 8).read()
    monkeypatch.setattr(RemoteFile, "_system", WholeFiles())
    assert file.part(4, 3).read() == b"456"
    with pytest.raises(DataError, match="2 bytes came, 4 were expected"):
        file.part(8, 4).read()
    memory.rm("/part.bin")


def test_what_is_left_out_of_a_folder_elsewhere_is_counted() -> None:
    memory = fsspec.filesystem("memory")
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "png")
    for name in ("train/cat/1.png", "train/dog/2.png", "beside/3.png", "4.png", ".x/5.png"):
        memory.pipe(f"/mixed/{name}", file.getvalue())
    memory.pipe("/mixed/train/cat/notes.txt", b"mine")
    found = open_data("memory://mixed")
    assert found.ids is not None
    assert found.ids.tolist() == ["train/cat/1.png", "train/dog/2.png"]
    assert found.splits is not None
    assert set(found.splits) == {"train"}
    assert found.notes == ("left out, no images in a class folder: 4 files",)
    # Where a folder beside them has class folders too, these are classes.
    memory.pipe("/mixed/beside/deep/6.png", file.getvalue())
    assert open_data("memory://mixed").names == ("beside", "train")
    memory.rm("/mixed", recursive=True)


@pytest.mark.slow
def test_workers_fetch_images_where_they_are(
    folder: Path, addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection of the process that the workers are forked from cannot be used by them."""
    monkeypatch.setattr("torchlift.transfer.data.collect_images.MEMORY_LIMIT", 0)
    preprocessing, plan = Preprocessing(size=(6, 5)), BatchPlan(8, 3, shuffle_seed=1)
    here = open_data(folder / "table.csv")
    expected = list(Batches(here, preprocessing, plan, keep=False, workers=0).epoch(2))
    for source in (f"{addresses['http']}/table.csv", f"{addresses['memory']}/table.csv"):
        found = open_data(source)
        assert isinstance(found, ImageFiles)
        batches = Batches(found, preprocessing, plan, keep=False, workers=2)
        for _ in range(2):
            pairs = zip(batches.epoch(2), expected, strict=True)
            assert all(torch.equal(one[0], other[0]) for one, other in pairs)


def test_a_server_that_gives_no_parts_of_files_is_named(addresses: dict[str, str]) -> None:
    with pytest.raises(TorchliftError, match="the server gives no parts of files"):
        open_data(f"zip://::{addresses['http']}/all.zip")


@pytest.mark.slow
def test_a_training_elsewhere_is_the_one_here(
    folder: Path, addresses: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same bytes, also when it is resumed."""
    options = ["--tracker", "none", "--batch-size", "2", "--val-fraction", "0"]
    table = f"{addresses['http']}/table.csv"
    for name, source, rounds in (
        ("here", str(folder / "table.csv"), [2]),
        ("there", table, [1, 2]),
    ):
        for epochs in rounds:
            words = ["train", "softmax", source, "-o", str(tmp_path / name), *options]
            words += ["--schedule", "constant", "--epochs", str(epochs), "--resume", "auto"]
            assert main(words) == 0
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("here", "there")]
    assert files[0].read_bytes() == files[1].read_bytes()
    capsys.readouterr()
    # A config file fetches nothing by itself.
    words = ["finetune", "torchvision:resnet18", "sklearn:digits"]
    (tmp_path / "run.yaml").write_text(f"test_data: {table}\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--config", str(tmp_path / "run.yaml")])
    assert "is an address that is fetched" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("memory://nowhere", r"^memory:///?nowhere: no such file or folder$"),
        ("memory://nowhere/x.npz", "no such file or folder"),
        ("http://127.0.0.1:9/x.npz", r"^http://127.0.0.1:9/x.npz: cannot be read: "),
        ("nonsense://x", r"^nonsense://x: cannot be read: "),
        ("zip://nowhere.zip", "nowhere.zip: no such file or folder"),
        ("s3://bucket/x.npz", r"^s3://bucket/x.npz: cannot be read: Install s3fs"),
    ],
)
def test_what_cannot_be_reached_is_one_sentence(
    source: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", source]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(TorchliftError, match=message) as caught:
        open_data(source)
    assert "\n" not in str(caught.value)


def test_a_table_elsewhere_names_files_beside_it_only() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("/etc/passwd", "../secret.png", "http://127.0.0.1:9/x.png"):
        memory.pipe("/tables/x.csv", f"path,label\n{name},cat\n".encode())
        said = r"^memory:///?tables/x\.csv: .*(in its own folder|nothing is fetched)"
        with pytest.raises(TorchliftError, match=said):
            open_data("memory://tables/x.csv")
    memory.rm("/tables", recursive=True)


class Unsized(Quiet):
    """Sends files without their length and in one piece, as servers that make them do."""

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Content-Length":
            super().send_header(keyword, value)


def test_an_archive_of_a_server_that_streams_is_to_be_downloaded(folder: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Unsized, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        with pytest.raises(DataError, match=r"the server gives no parts of files.*: download it"):
            open_data(f"{address}/train-0.tar")
        # What is copied as a whole needs no parts.
        same(open_data(f"{address}/data.npz"), open_data(folder / "data.npz"))
    finally:
        server.shutdown()
        server.server_close()


def test_a_folder_elsewhere_without_images_is_refused() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/texts/cat/1.txt", b"mine")
    memory.pipe("/texts/.hidden/1.png", b"mine")
    try:
        with pytest.raises(DataError, match=r"memory:///?texts: holds no images \(.*\.png"):
            open_data("memory://texts")
        file = io.BytesIO()
        Image.new("L", (2, 2)).save(file, "png")
        memory.pipe("/texts/cat/1.png", file.getvalue())
        assert open_data("memory://texts").names == ("cat",)
    finally:
        memory.rm("/texts", recursive=True)


def test_folders_of_archives_and_of_parquet_files_are_datasets(folder: Path) -> None:
    """Other files beside them are left alone."""
    memory = fsspec.filesystem("memory")
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    content = (folder / "images/train/cat/0.png").read_bytes()
    for name, label in (("train-00000", "cat"), ("test-00000", "dog")):
        table = pyarrow.table({"image": [{"bytes": content}], "label": [label]})
        file = io.BytesIO()
        parquet.write_table(table, file)
        memory.pipe(f"/kinds/parquet/data/{name}.parquet", file.getvalue())
    for name in ("train-0.tar", "test-0.tar"):
        memory.pipe(f"/kinds/tar/{name}", (folder / name).read_bytes())
    for name in ("parquet", "tar"):
        memory.pipe(f"/kinds/{name}/README.md", b"mine")
    found = {name: open_data(f"memory://kinds/{name}") for name in ("parquet", "tar")}
    memory.rm("/kinds", recursive=True)
    assert {name: data.names for name, data in found.items()} == {
        "parquet": ("cat", "dog"), "tar": ("cat", "dog")
    }  # fmt: skip
    assert found["parquet"].splits is not None
    assert found["parquet"].splits.tolist() == ["train", "test"]
    # The archives by their names: test before train.
    assert found["tar"].splits is not None
    assert found["tar"].splits.tolist() == ["test"] * 2 + ["train"] * 6


def test_a_single_file_without_a_known_suffix_is_told_by_its_content(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    t7.save(LuaTable({"data": np.zeros((2, 1, 4, 4), np.uint8)}), tmp_path / "x.t7")
    memory.pipe("/single/digits.dat", (tmp_path / "x.t7").read_bytes())
    assert len(open_data("memory://single/digits.dat")) == 2
    # What is below a folder is none, though it is one file.
    with pytest.raises(DataError, match="holds no images"):
        open_data("memory://single")
    memory.rm("/single", recursive=True)


@pytest.mark.parametrize("name", ["d.npz", "data.parquet"])
def test_what_is_wrong_with_a_file_elsewhere_names_its_address(name: str, tmp_path: Path) -> None:
    """And no copy, which is gone."""
    memory = fsspec.filesystem("memory")
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    memory.pipe(f"/damaged/{name}", b"PK\x03\x04 damaged")
    memory.pipe("/damaged/more/1.parquet", b"damaged")
    memory.pipe("/damaged/more/2.parquet", b"damaged")
    for address in (f"memory://damaged/{name}", "memory://damaged/more"):
        with pytest.raises(DataError) as error:
            open_data(address)
        assert str(error.value).startswith(address.replace("memory://", "memory:///"))
        assert "torchlift" not in str(error.value)
        assert "tmp" not in str(error.value)
    memory.rm("/damaged", recursive=True)


def test_an_error_of_a_file_elsewhere_is_said_once() -> None:
    """A sentence that was written further inside stays as it is."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/damaged.tar", b"x" * 2000)
    with pytest.raises(DataError) as error:
        open_data("memory://damaged.tar")
    memory.rm("/damaged.tar")
    assert str(error.value).count("cannot be read") == 1


def test_fsspec_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of the address."""

    def missing(feature: str, *packages: str) -> None:
        raise MissingPackageError(f"{feature} needs {packages[0]}")

    monkeypatch.setattr(remote_files, "require", missing)
    with pytest.raises(MissingPackageError, match=r"^reading memory://asked/for needs fsspec$"):
        open_data("memory://asked/for")


def test_images_of_no_class_and_suffixes_of_any_case_are_read_elsewhere_too() -> None:
    memory = fsspec.filesystem("memory")
    for index in range(2):
        file = io.BytesIO()
        Image.new("L", (2, 2), 90 * index).save(file, "png")
        memory.pipe(f"/loose/{index}.PNG", file.getvalue())
    arrays = io.BytesIO()
    np.savez(arrays, x=np.zeros((3, 1, 2, 2), np.uint8))
    memory.pipe("/data.NPZ", arrays.getvalue())
    try:
        found = open_data("memory://loose")
        assert (len(found), found.classes, found.names, found.notes) == (2, None, None, ())
        assert len(open_data("memory://data.NPZ")) == 3
    finally:
        memory.rm("/loose", recursive=True)
        memory.rm("/data.NPZ")
