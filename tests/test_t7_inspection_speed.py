"""`inspect` takes no time on large and hostile files: it reads no tensor and needs no torch."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support import FIXTURES

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable, T7Error
from torchlift.converters.t7.inspection import inspect, inspect_value
from torchlift.converters.t7.model import find_model

ALEXNET = FIXTURES / "models" / "alexnetowtbn_small.t7"


def test_torch_is_not_imported() -> None:
    code = (
        "import sys; from torchlift.converters.t7.inspection import inspect;"
        f"inspect({str(ALEXNET)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_tensors_are_not_read(tmp_path: Path) -> None:
    """A sparse file of 500 MB takes no time, because no element is read."""
    path = tmp_path / "large.t7"
    count = 125_000_000
    body = struct.pack("<iii", 4, 1, 3) + b"V 1" + struct.pack("<i", 18) + b"torch.FloatStorage"
    with path.open("wb") as file:
        file.write(body + struct.pack("<q", count))
        file.truncate(file.tell() + 4 * count)
    start = time.process_time()
    result = inspect(path)
    assert time.process_time() - start < 0.5
    assert result.bytes.other == 4 * count
    assert result.bytes.total == path.stat().st_size


def test_the_time_is_linear_in_the_number_of_modules() -> None:
    """Ten times as many modules take about ten times as long."""
    seconds = []
    for count in (400, 4000):
        weight = np.zeros((4, 4), np.float32)
        layers = [LuaObject("nn.Linear", LuaTable({"weight": weight})) for _ in range(10)]
        parts = [
            LuaObject("nn.Sequential", LuaTable({"modules": LuaTable.from_list(layers)}))
            for _ in range(count // 10)
        ]
        model = LuaObject("nn.Sequential", LuaTable({"modules": LuaTable.from_list(parts)}))
        turns = []
        # What earlier tests have left is collected in one of them.
        for _ in range(3):
            start = time.process_time()
            layout = inspect_value(t7.loads(t7.dumps(model)), 10**6)
            turns.append(time.process_time() - start)
        seconds.append(min(turns))
        assert len(layout.layers) > count // 10
    # Quadratic time would be a hundred times as long.
    assert seconds[1] < 30 * max(seconds[0], 0.01)


def test_nested_repetition_takes_no_time() -> None:
    """A hostile file: tables whose 1,000 entries are all one table, four levels deep."""
    inner: LuaTable = LuaTable()
    for _ in range(4):
        inner = LuaTable.from_list([inner] * 1000)
    start = time.process_time()
    with pytest.raises(T7Error):
        find_model(inner)
    inspect_value(inner, 10**6)
    assert time.process_time() - start < 1
