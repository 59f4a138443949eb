"""The wheel holds every module of the tree, and works away from the checkout.

The repository's root is the package, so the list of packages in pyproject.toml is written by
hand: a package that is forgotten there would be missing for everybody who installs torchlift.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import FIXTURES, ROOT

#: Folders of the repository that are no part of the package.
OUTSIDE = {"tests", "benchmarks", "docs", "fixtures", "build", "dist", "demo-output"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Built from a copy: setuptools would put what an earlier build left behind into the wheel.
    left_out = {".*", "demo-output", "build", "fixtures", "docs"}
    copy = shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*left_out))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, copy]
    subprocess.run(command, check=True)
    return next(folder.glob("torchlift-*.whl"))


def tree() -> set[str]:
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    return {
        f"torchlift/{path.as_posix()}"
        for path in paths
        if path.parts[0] not in OUTSIDE and not path.parts[0].startswith(".")
    }


def test_the_wheel_holds_the_modules_of_the_tree_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name for name in names if name.endswith(".py")} == tree()
    assert "torchlift/py.typed" in names
    assert "torchlift/transfer/reports/templates/page.html" in names
    assert "torchlift/cli/serve/page/index.html" in names


def test_an_installed_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target]
    subprocess.run([*command, wheel], check=True)
    # -P keeps the working directory out of sys.path; the editable install must not answer either.
    code = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]\n"
        "import torchlift, torchlift.cli.main as cli\n"
        "assert torchlift.__file__.startswith(sys.argv[1]), torchlift.__file__\n"
        "sys.exit(cli.main(['inspect', sys.argv[2], '--json']))"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", code, target, FIXTURES / "models" / "lenet5.t7"],
        env=os.environ | {"PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "nn.SpatialConvolution" in result.stdout
