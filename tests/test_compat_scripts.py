"""Scripts of the usual forms run with one import changed, and print what the originals print.

`compat_scripts/READER/*.py` are scripts as people wrote them for torchfile, for PyTorch's
`load_lua` and for OpenCV 4; `expected.json` beside them holds what they printed there: torchfile
0.1.0 (patched for NumPy 2, see below) and OpenCV 4.14. For `load_lua`, which no Python of today
runs, it holds what its source says. The scripts run in `fixtures`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import opencv_stand_in
import pytest
from PIL import Image
from support import FIXTURES

SCRIPTS = Path(__file__).parent / "compat_scripts"
#: What a script has in the original → what it has here.
CHANGES = {
    "torchfile": [
        ("import torchfile\n", "from torchlift.compat import torchfile\n"),
        ("from torchfile import", "from torchlift.compat.torchfile import"),
    ],
    "load_lua": [("from torch.utils.serialization import", "from torchlift.compat import")],
    "opencv": [
        ("import cv2\n", "import cv2\nfrom torchlift.compat import readNetFromTorch\n"),
        ("cv2.dnn.readNetFromTorch", "readNetFromTorch"),
    ],
}
ALL = sorted(f"{path.parent.name}/{path.stem}" for path in SCRIPTS.glob("*/*.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the scripts run in: the fixtures and two images."""
    folder = tmp_path_factory.mktemp("scripts")
    for name in ("digits", "cifar", "compat", "projects"):
        (folder / name).symlink_to(FIXTURES / name)
    y, x = np.mgrid[:32, :32]
    photo = np.stack([x * 8, y * 8, (x + y) * 4], 2).astype(np.uint8)
    Image.fromarray(photo).save(folder / "photo.png")
    digit = np.where((abs(x - 16) < 3) & (abs(y - 16) < 11), 255, 0).astype(np.uint8)
    Image.fromarray(digit).save(folder / "digit.png")
    return folder


def test_there_are_ten_scripts_a_reader() -> None:
    for reader in CHANGES:
        assert sum(name.startswith(reader) for name in ALL) == 10


@pytest.mark.parametrize("name", ALL)
def test_a_script_prints_what_the_original_prints(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, script = name.split("/")
    text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
    for old, new in CHANGES[reader]:
        text = text.replace(old, new)
    monkeypatch.chdir(folder)
    if "cv2" not in sys.modules:
        monkeypatch.setitem(sys.modules, "cv2", opencv_stand_in)  # type: ignore[arg-type]
    exec(compile(text, name, "exec"), {"__name__": "__main__"})
    expected = json.loads((SCRIPTS / reader / "expected.json").read_text(encoding="utf-8"))
    assert capsys.readouterr().out == expected[script]


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("torchfile")])
def test_the_original_prints_what_is_expected_of_it(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torchfile = pytest.importorskip("torchfile")
    # NumPy 2 asks a dict that answers None to everything for its array.
    monkeypatch.setattr(torchfile.hashable_uniq_dict, "__array_ufunc__", None, raising=False)
    monkeypatch.chdir(folder)
    text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
    exec(compile(text, name, "exec"), {"__name__": "__main__"})
    expected = json.loads((SCRIPTS / "torchfile" / "expected.json").read_text(encoding="utf-8"))
    assert capsys.readouterr().out == expected[name.split("/")[1]]
