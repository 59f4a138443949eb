"""The base install: small, without torch, and it says which extra a command lacks.

What is protected: `pip install torchlift` brings what reading and writing `.t7`, `inspect` and
`cat` need and nothing else; every other command names its extra in one line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
from support import FIXTURES
from test_wheel import wheel  # noqa: F401  # a fixture

DIGITS = FIXTURES / "digits"

#: What comes with a venv or is allowed beside the 30 MB.
NOT_COUNTED = ("numpy", "pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils")
ALLOWED = 30e6


def size_of(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The Python of a venv that has the base alone."""
    folder = tmp_path_factory.mktemp("base") / "venv"
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    began = time.perf_counter()
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--no-compile", wheel]
    result = subprocess.run(install, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"the base's dependencies cannot be installed here: {result.stderr[-200:]}")
    print(f"the base was installed in {time.perf_counter() - began:.1f} s")
    return python


def run(python: Path, folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, "-P", "-m", "torchlift.cli", *words]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)


def test_the_base_is_small_and_has_no_torch(python: Path) -> None:
    (site,) = (python.parent.parent / "lib").glob("python*/site-packages")
    counted = {
        entry.name: size_of(entry)
        for entry in site.iterdir()
        if not entry.name.startswith(NOT_COUNTED)
    }
    total = sum(counted.values())
    largest = sorted(counted.items(), key=lambda item: -item[1])[:5]
    print(f"{total / 1e6:.1f} MB beside numpy; largest: {largest}")
    assert total <= ALLOWED, largest
    names = {name.lower() for name in counted}
    for absent in ("torch", "onnx", "onnxruntime", "sklearn", "matplotlib", "PIL"):
        assert absent.lower() not in names


def test_reading_inspect_and_cat_work(python: Path, tmp_path: Path) -> None:
    done = run(python, tmp_path, "inspect", DIGITS / "digits-lenet5-bn.t7", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parameters"] == 61_750
    words = ("cat", DIGITS / "digits-lenet5-bn.t7", "modules[1].weight", "-o", "weight.npy")
    done = run(python, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "weight.npy").is_file()
    done = run(python, tmp_path, "inspect", FIXTURES / "0.1.0" / "model", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parameters"] == 61_750


def test_every_command_is_in_the_help(python: Path, tmp_path: Path) -> None:
    from torchlift.cli.commands import COMMANDS

    done = run(python, tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert f" {command} " in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("convert", DIGITS / "digits-lenet5-bn.t7", "out"),
        ("export", DIGITS / "digits-lenet5-bn.t7"),
        ("check", FIXTURES / "0.1.0" / "model", FIXTURES / "0.1.0" / "model.onnx"),
        ("predict", FIXTURES / "0.1.0" / "model.onnx", "x.png"),
        ("inspect", FIXTURES / "0.1.0" / "model.onnx"),
        ("train", "softmax", "digits"),
        ("finetune", DIGITS / "digits-lenet5-bn.t7", "digits"),
        ("sweep", "train", "softmax", "digits", "lr=0.1"),
        ("runs", FIXTURES / "0.1.0"),
        ("split", "digits", "out.npz"),
        ("extract", DIGITS / "digits-lenet5-bn.t7", "digits", "out"),
        ("probe", FIXTURES / "0.1.0" / "features"),
        ("plot", "filters", DIGITS / "digits-lenet5-bn.t7"),
        ("lab", "lenet-pytorch"),
        ("serve", FIXTURES / "0.1.0" / "model.onnx"),
        ("demo",),
    ],
    ids=lambda words: words[0],
)
def test_a_command_that_lacks_a_part_names_its_extra(
    python: Path, tmp_path: Path, words: tuple[str | Path, ...]
) -> None:
    done = run(python, tmp_path, *words)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"torchlift: {words[0]} needs " in done.stderr
    extra = "serve" if words[0] == "serve" else "cpu"
    assert f"pip install 'torchlift[{extra}]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_from_python_it_is_an_error_of_ours_that_is_an_import_error(
    python: Path, tmp_path: Path
) -> None:
    code = (
        "from importlib import import_module\n"
        "from torchlift.converters import TorchliftError\n"
        "for name in ('converters.modules', 'converters.saved.open_model',\n"
        "             'converters.inference', 'converters.onnx', 'transfer.data.open_data',\n"
        "             'convert'):\n"
        "    try:\n"
        "        parent, _, leaf = ('torchlift.' + name).rpartition('.')\n"
        "        getattr(import_module(parent), leaf)\n"
        "        import_module('torchlift.' + name)\n"
        "    except TorchliftError as error:\n"
        "        assert isinstance(error, ImportError)\n"
        "        assert \"pip install 'torchlift[cpu]'\" in str(error), str(error)\n"
        "    except AttributeError:\n"
        "        try: import_module('torchlift.' + name)\n"
        "        except TorchliftError as error: assert isinstance(error, ImportError)\n"
        "        else: raise AssertionError(name)\n"
        "    else: raise AssertionError(name)\n"
    )
    done = subprocess.run([python, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_doctor_works_and_lists_what_is_missing(python: Path, tmp_path: Path) -> None:
    done = run(python, tmp_path, "doctor", "--json")
    assert done.returncode == 1, done.stderr  # no runtime for exported models
    found = json.loads(done.stdout)
    assert {"package": "torch", "version": None} in found["packages"]


def test_the_converters_t7_imports_numpy_alone() -> None:
    code = (
        # Some versions of numpy import modules with names of Cython's.
        "import sys, numpy; before = set(sys.modules); import torchlift.converters.t7\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - {'numpy', *sys.stdlib_module_names}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "['torchlift']", done.stdout + done.stderr
