"""Mutations of folders and files that describe themselves, for `fuzz_folders.py`.

An input is a zip archive of one of them, so that it is one file among the findings.
"""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import onnx
import yaml
from fuzz.mutations import mutate
from google.protobuf.message import DecodeError

#: Files by their paths.
Files = dict[str, bytes]

#: What may stand in place of any value.
_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 3, 7, 10**5, 10**9, 10**15, 2**63, 10**30),
    *(1.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), "", "a", "evil", "^9", "9" * 400),
    *("\x1b[2J", "../../x", "features", "torch.nn.Linear", [], {}, [[]], {"": None}, [1] * 1000),
)


def read_folder(folder: Path) -> Files:
    """Return all files of a folder."""
    entries = sorted(folder.rglob("[!.]*"))
    files = [file for file in entries if file.is_file() and ".ruff_cache" not in file.parts]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return files as the bytes of an archive."""
    stream = io.BytesIO()
    with ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """Write the files of an archive to a folder."""
    with ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder)


def mutate_files(files: Files, rng: random.Random) -> Files:
    """Return files of which one or a few were changed, cut or removed."""
    changed = dict(files)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(sorted(changed))
        if rng.random() < 0.03:
            del changed[name]
            return changed or files
        changed[name] = _mutate_file(name, changed[name], rng)
    return changed


def _mutate_file(name: str, content: bytes, rng: random.Random) -> bytes:
    kind = Path(name).suffix
    try:
        if rng.random() < 0.1:
            return mutate(content, rng, [content], limit=1 << 20)
        if kind == ".json":
            return json.dumps(_mutate_value(json.loads(content), rng)).encode()
        if kind == ".jsonl":
            rows = [json.loads(line) for line in content.splitlines()]
            return "\n".join(map(json.dumps, _mutate_value(rows, rng))).encode()
        if kind == ".yaml":
            return yaml.safe_dump(_mutate_value(yaml.safe_load(content), rng)).encode()
        if kind == ".onnx":
            return _mutate_properties(content, rng)
    except (ValueError, TypeError, RecursionError, DecodeError, yaml.YAMLError):
        pass  # It was mutated before.
    return mutate(content, rng, [content], limit=1 << 20)


def _mutate_properties(content: bytes, rng: random.Random) -> bytes:
    """Change one entry of the metadata of an ONNX file."""
    model = onnx.load_from_string(content)
    entry = rng.choice(model.metadata_props)
    value = json.loads(entry.value)
    entry.value = (
        mutate(entry.value.encode(), rng, [b"[" * 9]).decode(errors="replace")
        if rng.random() < 0.2
        else json.dumps(_mutate_value(value, rng))
    )
    serialized: bytes = model.SerializeToString()
    return serialized


def _mutate_value(value: Any, rng: random.Random) -> Any:
    """Return a JSON value in which one value was replaced, removed, copied or renamed."""
    root = [copy.deepcopy(value)]
    holders: list[Any] = []
    waiting: list[Any] = [root]
    while waiting:
        holder = waiting.pop()
        holders.append(holder)
        inner = holder.values() if isinstance(holder, dict) else holder
        waiting += [item for item in inner if isinstance(item, (dict, list)) and item]
    holder = rng.choice(holders)
    key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    action = rng.random()
    if action < 0.6:
        holder[key] = copy.deepcopy(rng.choice(_VALUES))
    elif action < 0.7:
        other = rng.choice(holders)
        holder[key] = copy.deepcopy(other)
    elif action < 0.8 and holder is not root:
        del holder[key]
    elif action < 0.9:
        deep: Any = holder[key]
        for _ in range(rng.choice((1, 5, 900, 5000))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
            if len(holders) > 50:
                break
        holder[key] = deep
    elif isinstance(holder, dict):
        holder[str(rng.choice(_VALUES))[:50]] = holder[key]
    else:
        holder[key:key] = [holder[key]] * rng.choice((1, 2, 1000))
    return root[0]
