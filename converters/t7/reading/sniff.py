"""Recognize other kinds of files that are often named `.t7`, and say how to proceed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

#: Number of first bytes to examine.
_HEAD_SIZE = 2048

#: The kind of a file, and what to do with it.
Match: TypeAlias = tuple[str, str]
#: Recognizes a kind of file by its first bytes and its size; returns None for other files.
Detector: TypeAlias = Callable[[bytes, int], Match | None]


def sniff(buffer: Any, start: int = 0) -> str | None:
    """Describe a file that is not a `.t7`, and what to do with it, in one sentence.

    Args:
        buffer: The whole stream.
        start: Offset of its first byte.

    Returns:
        The sentence, or None if the kind of file is not recognized.
    """
    head, size = buffer[start : start + _HEAD_SIZE], len(buffer) - start
    matches = (match for detect in _DETECTORS if (match := detect(head, size)))
    return next((_sentence(*match) for match in matches), None)


def sniff_text(buffer: Any, start: int = 0) -> str | None:
    """Describe a file of plain text; return None for any other file."""
    head: bytes = buffer[start : start + _HEAD_SIZE]
    if not _is_text(head):
        return None
    line = head.decode(errors="replace").strip().splitlines()[0]
    shown = line if len(line) <= 40 else f"{line[:40]}…"
    advice = "name the .t7 file instead, or download it again if this is an error message"
    return _sentence(f'plain text that begins with "{shown}"', advice)


def _sentence(kind: str, advice: str) -> str:
    return f"is {kind}, not a .t7 file; {advice}"


def _empty(head: bytes, size: int) -> Match | None:
    return None if size else ("empty", "download or copy it again")


def _zeros(head: bytes, size: int) -> Match | None:
    # Four zero bytes are a nil: a valid file.
    if size <= 8 or head.strip(b"\0"):
        return None
    return "filled with zero bytes", "the download or the disk failed: download it again"


def _lfs_pointer(head: bytes, size: int) -> Match | None:
    if not head.startswith(b"version https://git-lfs"):
        return None
    size_line = re.search(rb"\nsize (\d+)", head)
    target = f"the file of {int(size_line[1]):,} bytes" if size_line else "the file itself"
    return "a Git LFS pointer", f"fetch {target} with `git lfs pull`"


def _web_page(head: bytes, size: int) -> Match | None:
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)", head, re.IGNORECASE):
        return (
            "an HTML page",
            "the server sent a web page instead: open the URL in a browser to get the file",
        )
    if re.match(rb"(\xef\xbb\xbf)?\s*<", head):
        return "an XML document, possibly a server's error message", "download the file again"
    return None


def _json(head: bytes, size: int) -> Match | None:
    if re.match(rb"\s*(\{\s*[\"}]|\[\s*[\[{\"\d])", head) and _is_text(head):
        return "JSON text", "read it as JSON, or download it again if it is an error message"
    return None


def _symbolic_link(head: bytes, size: int) -> Match | None:
    path = head.decode(errors="replace").strip()
    if size > 1024 or not re.fullmatch(r"[\w.@+~ -]*(/[\w.@+~ -]+)+", path):
        return None
    return "a symbolic link that was checked out as text", f"open {path} instead"


def _zip(head: bytes, size: int) -> Match | None:
    if not head.startswith(b"PK\x03\x04"):
        return None
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.endswith((b"data.pkl", b"/version", b"/byteorder", b"constants.pkl")):
        return "a PyTorch checkpoint (a zip file)", "open it with torch.load"
    if b"/data/weights/" in name or name.endswith(b"/archive_format"):
        return "a PyTorch program (.pt2)", "open it with torch.export.load"
    if name.endswith(b".npy"):
        return "a NumPy .npz archive", "open it with numpy.load"
    return "a zip archive", "unpack it and open the .t7 inside (or use torch.load if it is a .pth)"


def _pickle(head: bytes, size: int) -> Match | None:
    if not re.match(rb"\x80[\x02-\x05]", head):
        return None
    # The magic number of torch.save before PyTorch 1.6.
    if head[2:].startswith(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"):
        return "an old PyTorch checkpoint (a pickle)", "open it with torch.load"
    return "a Python pickle, as PyTorch's .pth files are", "open it with torch.load"


def _tar(head: bytes, size: int) -> Match | None:
    if head[257:262] != b"ustar":
        return None
    return "a tar archive", "unpack it and open the .t7 inside (or use torch.load if it is a .pth)"


def _safetensors(head: bytes, size: int) -> Match | None:
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= size - 8:
        return "a safetensors file", "open it with safetensors.torch.load_file"
    return None


def _onnx(head: bytes, size: int) -> Match | None:
    # Field 1 (ir_version), then any field of ModelProto up to 20 with wire type bytes or varint.
    if re.match(rb"\x08[\x01-\x1f][\x12\x1a\x22\x2a\x32\x3a\x42\x72\x9a]", head):
        return "an ONNX model", "open it with onnx.load or onnxruntime"
    return None


_USE_MODEL_FILE = "use the model's file instead"
_UNPACK = "unpack it and open the .t7 inside"

_SIGNATURES: dict[bytes, Match] = {
    b"\x93NUMPY": ("a NumPy array", "open it with numpy.load"),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file (Keras, or MATLAB 7.3)", "open it with h5py"),
    b"MATLAB 5.0 MAT-file": ("a MATLAB file", "open it with scipy.io.loadmat"),
    b"GGUF": ("a GGUF model", "open it with llama.cpp"),
    b"\x89PNG\r\n\x1a\n": ("a PNG image", _USE_MODEL_FILE),
    b"\xff\xd8\xff": ("a JPEG image", _USE_MODEL_FILE),
    b"GIF8": ("a GIF image", _USE_MODEL_FILE),
    b"II*\0": ("a TIFF image", _USE_MODEL_FILE),
    b"MM\0*": ("a TIFF image", _USE_MODEL_FILE),
    b"RIFF": ("a RIFF file (WebP image, audio or video)", _USE_MODEL_FILE),
    b"%PDF": ("a PDF document", _USE_MODEL_FILE),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", _UNPACK),
    b"Rar!\x1a\x07": ("a RAR archive", _UNPACK),
    b"\x28\xb5\x2f\xfd": (
        "a Zstandard archive",
        "unpack it with `zstd -d` and open the .t7 inside",
    ),
    b"\x1f\x9d": ("a compressed file (.Z)", "unpack it with `uncompress` and open the .t7 inside"),
    b"\x1bLJ": ("compiled Lua code, which torchlift never runs", _USE_MODEL_FILE),
    b"\x1bLua": ("compiled Lua code, which torchlift never runs", _USE_MODEL_FILE),
    b"\x7fELF": ("a program or library", _USE_MODEL_FILE),
}


def _signature(head: bytes, size: int) -> Match | None:
    matches = (match for start, match in _SIGNATURES.items() if head.startswith(start))
    return next(matches, None)


def _bmp(head: bytes, size: int) -> Match | None:
    is_bmp = head.startswith(b"BM") and int.from_bytes(head[2:6], "little") == size
    return ("a BMP image", _USE_MODEL_FILE) if is_bmp else None


def _is_text(head: bytes) -> bool:
    """Return whether bytes are UTF-8 without control characters; the last one may be cut off."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode()
    return bool(text.strip()) and not re.search(r"[\x00-\x08\x0e-\x1f]", text)


_DETECTORS: tuple[Detector, ...] = (
    _empty,
    _zeros,
    _lfs_pointer,
    _web_page,
    _json,
    _symbolic_link,
    _zip,
    _pickle,
    _tar,
    _safetensors,
    _onnx,
    _signature,
    _bmp,
)
