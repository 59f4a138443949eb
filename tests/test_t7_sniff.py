"""Other kinds of files are recognized, with advice on what to do with them.

What is protected: one sentence for each kind of file that users open as a `.t7` (collected from the
issue trackers of earlier readers), and that no real `.t7` is recognized as something else. If a
library can write the format, it writes the test's file.
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save
from support import FIXTURES, SHARED

from torchlift.converters import t7
from torchlift.converters.t7 import T7Error
from torchlift.converters.t7.reading.sniff import sniff, sniff_text
from torchlift.converters.t7.reading.stream_format import StreamFormat, possible_formats


def stream_bytes(write: Callable[[io.BytesIO], Any]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def archive(name: str) -> bytes:
    def write(stream: io.BytesIO) -> None:
        with zipfile.ZipFile(stream, "w") as file:
            file.writestr(name, b"x")

    return stream_bytes(write)


def tar(stream: io.BytesIO) -> None:
    with tarfile.open(fileobj=stream, mode="w") as file:
        file.addfile(tarfile.TarInfo("model.t7"))


def image(kind: str) -> bytes:
    return stream_bytes(lambda stream: Image.new("RGB", (9, 9)).save(stream, kind))


def onnx_model() -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [x], [y])
    model: bytes = helper.make_model(graph, producer_name="a test").SerializeToString()
    return model


def old_checkpoint(stream: io.BytesIO) -> None:
    torch.save({"a": 1}, stream, _use_new_zipfile_serialization=False)


LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:2f492ea43f04648a434d5f57733b0449bb55aa7bb52c356dacd2ec1fab6ba5004\n"
    b"size 155401927\n"
)

KINDS: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "is empty.* download or copy it again"),
    "zeros": (bytes(5000), "zero bytes.* download it again"),
    "LFS pointer": (LFS, r"Git LFS pointer.* 155,401,927 bytes with `git lfs pull`"),
    "HTML": (b"\n<!DOCTYPE html><html>Not Found", "HTML page.* open the URL in a browser"),
    "XML": (b'<?xml version="1.0"?><Error>', "XML document.* download the file again"),
    "JSON": (b'{"message": "Not Found"}', "JSON text"),
    "a list in JSON": (b'["cat", "dog"]', "JSON text"),
    "a link": (b"../../vgg_7/art/noise2_model.t7", "symbolic link.* open ../../vgg_7/art/noise2_"),
    "text": (
        b"This is a text file",
        r'plain text that begins with "This is a text file", not a .t7 file; name the .t7 file',
    ),
    "numbers": (b"3 4 5\n1 2 3\n", "plain text"),
    "PyTorch": (
        stream_bytes(lambda s: torch.save({"a": 1}, s)),
        r"PyTorch checkpoint.* torch\.load",
    ),
    "old PyTorch": (stream_bytes(old_checkpoint), r"old PyTorch checkpoint.* torch\.load"),
    "exported": (archive("archive/data/weights/weight_0"), r"\.pt2.* torch\.export\.load"),
    "TorchScript": (archive("model/constants.pkl"), r"PyTorch checkpoint.* torch\.load"),
    "zip": (archive("model.t7"), "zip archive.* unpack it"),
    "tar": (stream_bytes(tar), "tar archive.* unpack it"),
    **{
        f"pickle {protocol}": (pickle.dumps({"a": 1}, protocol), r"Python pickle.* torch\.load")
        for protocol in (2, 3, 4, 5)
    },
    "safetensors": (save({"a": torch.zeros(3)}), r"safetensors file.* safetensors\.torch"),
    "ONNX": (onnx_model(), r"ONNX model.* onnx\.load"),
    "npy": (stream_bytes(lambda s: np.save(s, np.zeros(3))), r"NumPy array.* numpy\.load"),
    "npz": (
        stream_bytes(lambda s: np.savez(s, x=np.zeros(3))),
        r"NumPy \.npz archive.* numpy\.load",
    ),
    **{
        kind: (image(kind), f"{name}.* use the model's file instead")
        for kind, name in {
            "PNG": "PNG image",
            "JPEG": "JPEG image",
            "GIF": "GIF image",
            "BMP": "BMP image",
            "TIFF": "TIFF image",
            "WEBP": "RIFF file",
        }.items()
    },
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5 file.* h5py"),
    "MATLAB": (b"MATLAB 5.0 MAT-file, Platform", r"MATLAB file.* scipy\.io\.loadmat"),
    "GGUF": (b"GGUF\x03\0\0\0", "GGUF model"),
    "PDF": (b"%PDF-1.4", "PDF document"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "7-Zip archive.* unpack it"),
    "rar": (b"Rar!\x1a\x07\x01", "RAR archive.* unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04", "Zstandard archive.* `zstd -d`"),
    "LuaJIT": (b"\x1bLJ\x02", "compiled Lua code.* never runs"),
    "Lua": (b"\x1bLua\x51", "compiled Lua code"),
    "ELF": (b"\x7fELF\x02", "program or library"),
    "noise": (bytes(range(50, 250)), r"expected a type tag from 0 to 8, found b'23456789'"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_recognized(kind: str, tmp_path: Path) -> None:
    data, sentence = KINDS[kind]
    path = tmp_path / "model.t7"
    path.write_bytes(data)
    with pytest.raises(T7Error, match=sentence) as error:
        t7.load(path)
    assert error.value.source == str(path)
    assert "\n" not in str(error.value)
    if kind != "noise":
        assert ", not a .t7 file; " in error.value.problem
    with pytest.raises(T7Error, match=sentence):
        t7.load_all(data)


T7_FILES = [path for path in FIXTURES.rglob("*.t7") if not path.stem.startswith("bad_")]


def test_no_t7_file_is_recognized_as_another_kind() -> None:
    for path in T7_FILES:
        data = path.read_bytes()
        assert sniff(data) is None, path
        assert sniff_text(data) is None or path.stem.endswith("_ascii"), path


def test_text_files_that_start_like_an_ascii_t7() -> None:
    """A number may be a type tag; a file that parses for some lines is a damaged `.t7`."""
    with pytest.raises(T7Error, match="plain text"):
        t7.loads(b"3\nbears and 4 wolves\n")
    data = (FIXTURES / "formats" / "module_ascii.t7").read_bytes()
    with pytest.raises(T7Error, match=r"truncated.*at modules\[1\]"):
        t7.loads(data[:700])


def test_a_text_is_recognized_wherever_its_file_stands(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(bytes(20) + b"3\nbears and 4 wolves\n")
    with file.open("rb") as stream:
        stream.seek(20)
        with pytest.raises(T7Error, match="plain text"):
            t7.load(stream)


def test_formats_that_begin_with_a_tag() -> None:
    """The header length of safetensors can be a type tag, and ONNX files start with 8."""
    header = b'{"__metadata__":{}}'.ljust(256, b" ")
    file = struct.pack("<Q", len(header)) + header
    assert "safetensors" in (sniff(file) or "")
    with pytest.raises(T7Error, match="ONNX"):
        t7.loads(b"\x08\x07\x12\x04test" + bytes(50))


@pytest.mark.skipif(not (SHARED / "wild").is_dir(), reason="needs other people's files")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cmusatyalab+openface", "Git LFS pointer.* 790 bytes"),
        ("maeda+neuralbot", "Git LFS pointer"),
        ("maeda+starwars", "Git LFS pointer"),
        ("zzj0402+opennmt", "Git LFS pointer"),
        ("malraharsh+style-transfer", "HTML page"),
        ("nagadomi+waifu2x", r"symbolic link.* open \.\./\.\./vgg_7/art/noise2_model\.t7"),
    ],
)
def test_published_files_of_other_kinds_are_recognized(name: str, sentence: str) -> None:
    (path,) = (SHARED / "wild" / "not_torch7").glob(f"{name}*")
    with pytest.raises(T7Error, match=sentence):
        t7.load(path)


def test_only_the_formats_that_a_beginning_allows_are_tried() -> None:
    little, big, text = (
        [StreamFormat("binary", size, "little") for size in (8, 4)],
        [StreamFormat("binary", size, "big") for size in (8, 4)],
        [StreamFormat("ascii", 8)],
    )
    assert possible_formats(b"\4\0\0\0\1") == little
    assert possible_formats(b"\0\0\0\4\1") == big
    assert possible_formats(b"4\n1\n3\nV 1") == text
    assert possible_formats(b"\x89PNG") == possible_formats(b"") == []
    assert possible_formats(b"\x89PNG", format="binary") == little + big
    assert possible_formats(b"\x89PNG", format="ascii", long_size=4) == [StreamFormat("ascii", 4)]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (bytes(8), None),
        (bytes(9), "filled with zero bytes"),
        (b"BM" + struct.pack("<I", 20) + bytes(14), "a BMP image"),
        (b"BM" + struct.pack("<I", 19) + bytes(14), None),
        (b"BM" + struct.pack("<I", 21) + bytes(14), None),
        (struct.pack("<Q", 12) + b"{" + bytes(11), "a safetensors file"),
        (struct.pack("<Q", 13) + b"{" + bytes(11), None),
        (struct.pack("<Q", 2) + b"{}", "a safetensors file"),
        (struct.pack("<Q", 1) + b"{}", None),
        (b"/" + b"x" * 1023, "a symbolic link"),
        (b"/" + b"x" * 1024, None),
        (b"\x08\x01\x12", "an ONNX model"),
        (b"\x08\x1f\x12", "an ONNX model"),
        (b"\x08\x20\x12", None),
        (b"\x80\x02", "a Python pickle"),
        (b"\x80\x05", "a Python pickle"),
        (b"\x80\x06", None),
    ],
)
def test_a_kind_is_recognized_by_its_sizes_too(data: bytes, kind: str | None) -> None:
    sentence = sniff(data)
    assert (sentence is None) if kind is None else (kind in (sentence or ""))
    assert sniff(b"in front" + data, 8) == sentence


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_text_whose_beginning_ends_within_a_letter_is_text(cut: int) -> None:
    """The first 2,048 bytes are looked at; a byte that is no text before is another kind."""
    text = ("Not found: " + "x" * 2048)[: 2048 - cut].encode() + "😀".encode()
    assert "plain text" in str(sniff_text(text))
    assert sniff_text(text[:100] + b"\xff" + text[100:]) is None


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xef\xbb\xbf <HTML lang='en'>", "an HTML page"),
        (b" \n<head>", "an HTML page"),
        (b"<BODY>", "an HTML page"),
        (b"\xef\xbb\xbf<rss>", "an XML document"),
        (b"x <html>", None),
        (b"{}", "JSON text"),
        (b'{ "a": 1}', "JSON text"),
        (b"[1, 2]", "JSON text"),
        (b'[ {"a": 1}]', "JSON text"),
        (b"[[1]]", "JSON text"),
        (b"{a}", None),
        (b'{"a\0": 1}', None),
        (b"[a]", None),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "fetch the file itself with"),
        (b"version 1 of https://git-lfs", None),
        (b"../a b/model.t7\n", "a symbolic link that was checked out as text"),
        (b"model.t7", None),
        (b"a/b\nc/d", None),
        (b"MM\0*", "a TIFF image"),
        (b"\x1f\x9d", "unpack it with `uncompress`"),
        (b"Rar!\x1a\x08", None),
        (bytes(257) + b"ustar", "a tar archive"),
        (bytes(256) + b"ustar ", None),
        (b"\x80\x02" + b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", "an old PyTorch"),
        (b"", "empty, not a .t7 file; download or copy it again"),
    ],
)
def test_a_kind_is_known_by_its_beginning(data: bytes, kind: str | None) -> None:
    sentence = sniff(data)
    assert (sentence is None) if kind is None else (kind in (sentence or ""))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("archive/version", "a PyTorch checkpoint"),
        ("archive/byteorder", "a PyTorch checkpoint"),
        ("m/data.pkl", "a PyTorch checkpoint"),
        ("m/archive_format", "a PyTorch program (.pt2)"),
        ("m/data/weights/w", "a PyTorch program (.pt2)"),
        ("x.npy", "a NumPy .npz archive"),
        ("version", "a zip archive"),
        ("x.npy.txt", "a zip archive"),
    ],
)
def test_a_zip_is_known_by_the_name_of_its_first_file(name: str, kind: str) -> None:
    assert f"is {kind}" in (sniff(archive(name)) or "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\n\n  first line\nsecond", '"first line"'),
        ("x" * 40, f'"{"x" * 40}"'),
        ("x" * 41, f'"{"x" * 40}…"'),
        ("é", '"é"'),
        ("tabs\tand\rreturns\x0c", '"tabs'),
        ("a\x00b", None),
        ("a\x0eb", None),
        ("a\x1fb", None),
        (" \n", None),
    ],
)
def test_a_text_is_shown_by_its_first_line(text: str, shown: str | None) -> None:
    sentence = sniff_text(text.encode())
    assert (sentence is None) if shown is None else (shown in (sentence or ""))
    assert sniff_text(b"\0\0" + text.encode(), 2) == sentence
    assert sniff_text(text.encode() + b"\xff" * 4 + b"more") is None


@pytest.mark.parametrize(
    ("head", "count"),
    [(b"\x08\0\0\0", 2), (b"\x09\0\0\0", 0), (b"\0\0\0\x08", 2), (b"\0\0\0\x09", 0), (b"\5", 2)],
)
def test_a_stream_begins_with_a_tag_of_lua(head: bytes, count: int) -> None:
    """From 0 to 8, in either byte order; the beginning of one may be all that there is."""
    assert len(possible_formats(head)) == count
    assert possible_formats(b" \n8 1") == [StreamFormat("ascii", 8)]
    for other in (b"9\n", b"31\n", b"3x"):
        assert possible_formats(other) == []
    assert len(possible_formats(b"\4\0\0\0", long_size=4)) == 1
    assert possible_formats(b"\4\0\0\0", byte_order="big") == []
    assert possible_formats(b"\4\0\0\0", format="ascii") == [StreamFormat("ascii", 8)]
