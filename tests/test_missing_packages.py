"""Packages that are not installed: what does not need them works, and what does names the extra.

What is protected: an installation without one of the packages. They are hidden from the import
system of a new process, as if they had never been installed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import FIXTURES

#: Hides the packages in the first argument; runs the statements in the second.
HIDE = """
import importlib.machinery, sys
hidden, code = sys.argv[1].split(","), sys.argv[2]
finder = importlib.machinery.PathFinder

class Hiding:
    find_distributions = finder.find_distributions
    invalidate_caches = finder.invalidate_caches

    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else finder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(finder)] = Hiding
exec(code)
"""


def without(packages: str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", HIDE, packages, code]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


def command(packages: str, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return without(
        packages, f"from torchlift.cli.main import main; sys.exit(main({words}))", folder
    )


def test_features_are_inspected_without_pillow_and_zarr(tmp_path: Path) -> None:
    done = command("PIL,zarr,torch", ["inspect", str(FIXTURES / "0.1.0" / "features")], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "format version     1" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "name"), [("onnxruntime", "onnxruntime"), ("PIL", "pillow"), ("joblib", None)]
)
def test_doctor_works_without_what_it_looks_for(
    package: str, name: str | None, tmp_path: Path
) -> None:
    done = command(package, ["doctor"], tmp_path)
    assert done.returncode == (0 if name is None else 1), done.stderr
    assert done.stderr == ""
    if name is not None:
        assert f"onnx  {name} is not installed: pip install 'torchlift[cpu]'" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "name", "words"),
    [
        ("sklearn", "scikit-learn", ["train", "softmax", "sklearn:digits", "-o", "out"]),
        ("PIL", "pillow", ["predict", "x.onnx", "x.png"]),
        ("tensorboard,tensorboardX", "tensorboard", ["train", "softmax", "sklearn:digits"]),
        ("jinja2", "jinja2", ["lab", "lenet-pytorch", "-o", "out"]),
        ("torch", "torch", ["sweep", "train", "softmax", "sklearn:digits", "lr=1", "-o", "out"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_missing_package_is_named_as_pip_knows_it(
    package: str, name: str, words: list[str], tmp_path: Path
) -> None:
    done = command(package, words, tmp_path)
    assert done.returncode == 1
    needs = f"torchlift: {words[0]} needs {name}: pip install 'torchlift[cpu]'\n"
    assert (done.stdout, done.stderr) == ("", needs)
    assert not [*tmp_path.iterdir()]


def test_python_gets_an_error_of_torchlift(tmp_path: Path) -> None:
    code = (
        "from importlib import import_module\n"
        "from torchlift.converters import TorchliftError\n"
        "for name in ('converters.images', 'transfer.sweep', 'transfer.networks',\n"
        "             'transfer.summary'):\n"
        "    try: import_module(f'torchlift.{name}')\n"
        "    except TorchliftError as error: assert f'torchlift.{name} needs ' in str(error)\n"
        "    else: raise AssertionError(name)\n"
    )
    done = without("torch,PIL", code, tmp_path)
    assert done.returncode == 0, done.stderr
