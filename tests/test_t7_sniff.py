"""Files that are no `.t7`: each is named as what it is, with the next step.

What is protected: one plain sentence for everything that people meet under the name of a `.t7`
(the kinds and their links are in the issue trackers of earlier readers), and that no real `.t7` is
ever taken for something else. Where a library can write the format, it writes the file.
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


def written(write: Callable[[io.BytesIO], Any]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def archive(name: str) -> bytes:
    def write(stream: io.BytesIO) -> None:
        with zipfile.ZipFile(stream, "w") as file:
            file.writestr(name, b"x")

    return written(write)


def tar(stream: io.BytesIO) -> None:
    with tarfile.open(fileobj=stream, mode="w") as file:
        file.addfile(tarfile.TarInfo("model.t7"))


def image(kind: str) -> bytes:
    return written(lambda stream: Image.new("RGB", (9, 9)).save(stream, kind))


def onnx_model() -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [x], [y])
    return helper.make_model(graph, producer_name="a test").SerializeToString()


def old_checkpoint(stream: io.BytesIO) -> None:
    torch.save({"a": 1}, stream, _use_new_zipfile_serialization=False)


LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:2f492ea43f04648a434d5f57733b0449bb55aa7bb52c356dacd2ec1fab6ba5004\n"
    b"size 155401927\n"
)

KINDS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty.* download or copy it again"),
    "zeros": (bytes(5000), "zero bytes.* download it again"),
    "LFS pointer": (LFS, r"Git LFS pointer.* 155,401,927 bytes with `git lfs pull`"),
    "HTML": (b"\n<!DOCTYPE html><html>Not Found", "HTML page.* open the address in a browser"),
    "XML": (b'<?xml version="1.0"?><Error>', "XML document.* download the file again"),
    "JSON": (b'{"message": "Not Found"}', "JSON text"),
    "a list in JSON": (b'["cat", "dog"]', "JSON text"),
    "a link": (b"../../vgg_7/art/noise2_model.t7", "symbolic link.* open ../../vgg_7/art/noise2_"),
    "text": (b"This is a text file", r'plain text that begins with "This is a text file"'),
    "numbers": (b"3 4 5\n1 2 3\n", "plain text"),
    "PyTorch": (written(lambda s: torch.save({"a": 1}, s)), r"PyTorch checkpoint.* torch\.load"),
    "old PyTorch": (written(old_checkpoint), r"old PyTorch checkpoint.* torch\.load"),
    "TorchScript": (archive("model/constants.pkl"), r"PyTorch checkpoint.* torch\.load"),
    "zip": (archive("model.t7"), "zip archive.* unpack it"),
    "tar": (written(tar), "tar archive.* unpack it"),
    **{
        f"pickle {protocol}": (pickle.dumps({"a": 1}, protocol), r"Python pickle.* torch\.load")
        for protocol in (2, 3, 4, 5)
    },
    "safetensors": (save({"a": torch.zeros(3)}), r"safetensors file.* safetensors\.torch"),
    "ONNX": (onnx_model(), r"ONNX model.* onnx\.load"),
    "npy": (written(lambda s: np.save(s, np.zeros(3))), r"NumPy array.* numpy\.load"),
    "npz": (written(lambda s: np.savez(s, x=np.zeros(3))), r"NumPy \.npz archive.* numpy\.load"),
    **{
        kind: (image(kind), f"{name}.* name the model's file instead")
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
    "noise": (bytes(range(50, 250)), r"type tag from 0 to 8 was expected, not b'23456789'"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_is(kind: str, tmp_path: Path) -> None:
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


ALL = [path for path in FIXTURES.rglob("*.t7") if not path.stem.startswith("bad_")]


def test_no_real_file_is_taken_for_another() -> None:
    for path in ALL:
        data = path.read_bytes()
        assert sniff(data) is None, path
        assert sniff_text(data) is None or path.stem.endswith("_ascii"), path


def test_a_text_that_begins_like_a_file_is_text() -> None:
    """Numbers may be tags; what makes sense for some lines and then stops is a damaged file."""
    with pytest.raises(T7Error, match="plain text"):
        t7.loads(b"3\nbears and 4 wolves\n")
    data = (FIXTURES / "formats" / "module_ascii.t7").read_bytes()
    with pytest.raises(T7Error, match=r"truncated.*at modules\[1\]"):
        t7.loads(data[:700])


def test_formats_that_begin_with_a_tag() -> None:
    """The header of safetensors may have a length that is a tag, and ONNX begins with 8."""
    header = b'{"__metadata__":{}}'.ljust(256, b" ")
    file = struct.pack("<Q", len(header)) + header
    assert "safetensors" in (sniff(file) or "")
    with pytest.raises(T7Error, match="ONNX"):
        t7.loads(b"\x08\x07\x12\x04test" + bytes(50))


@pytest.mark.skipif(not (SHARED / "wild").is_dir(), reason="other people's files are not here")
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
def test_files_that_people_published(name: str, sentence: str) -> None:
    (path,) = (SHARED / "wild" / "not_torch7").glob(f"{name}*")
    with pytest.raises(T7Error, match=sentence):
        t7.load(path)
