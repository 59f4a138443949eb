"""Which runtimes are installed, in this Python, in another one or for node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...requirements import MissingPackageError
from ..errors import OnnxError
from ..page.runtime import find_runtime

_HERE = Path(__file__).parent

#: What each runtime of Python's is imported as, and installed as.
_PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "reference": ("onnx", "onnx"),
    "openvino": ("openvino", "openvino"),
    "opencv": ("cv2", "opencv-python-headless"),
}

#: The runtimes by name, in the order in which they are reported.
RUNTIMES = (*_PACKAGES, "web")

#: How long a Python may take to say what it has.
_SECONDS = 60.0

_ASK = (
    "import importlib.util, json, sys; "
    "print(json.dumps([importlib.util.find_spec(name) is not None for name in sys.argv[1:]]))"
)


@dataclass(frozen=True)
class InstalledRuntime:
    """A runtime, and how it is started.

    Attributes:
        name: Its name in `RUNTIMES`.
        command: What starts its worker; the file and a folder follow.
        is_elsewhere: Whether it is in another Python than this one.
        precision: What it computes in, in its own words; empty for its default.
    """

    name: str
    command: tuple[str, ...]
    is_elsewhere: bool = False
    precision: str = ""

    def environment(self) -> dict[str, str]:
        """Return the environment of its process: another Python has packages of its own."""
        own = ("PYTHONPATH", "PYTHONHOME") if self.is_elsewhere else ()
        return {name: value for name, value in os.environ.items() if name not in own}


def find_runtimes(
    names: Sequence[str],
    python: str | os.PathLike[str] | None = None,
    onnxruntime_web: str | os.PathLike[str] | None = None,
) -> list[InstalledRuntime]:
    """Find runtimes, without starting one.

    Args:
        names: Which, of `RUNTIMES`.
        python: Another Python interpreter, whose packages are taken where it has them.
        onnxruntime_web: The folder of the npm package; by default `node_modules/onnxruntime-web`
            in the current folder or above.

    Raises:
        MissingPackageError: If a runtime is not installed; the message says how to install it.
        OnnxError: If a name is unknown, the interpreter does not start, or node or onnxruntime-web
            is missing.

    Example:
        >>> [runtime.name for runtime in find_runtimes(["onnxruntime", "reference"])]
        ['onnxruntime', 'reference']
    """
    unknown = [name for name in names if name not in RUNTIMES]
    if unknown:
        raise OnnxError(f"no runtime {unknown[0]!r}: choose {', '.join(RUNTIMES)}")
    wanted = [name for name in _PACKAGES if name in names]
    there = _has(os.fspath(python), wanted) if python is not None else set()
    here = _has(sys.executable, [name for name in wanted if name not in there])
    found = []
    for name in dict.fromkeys(names):
        if name == "web":
            found.append(_web(onnxruntime_web))
            continue
        if name not in there | here:
            where = "here" if python is None else f"in {os.fspath(python)} or here"
            module, package = _PACKAGES[name]
            raise MissingPackageError(
                f"the runtime {name} is not installed {where}: {python or 'python'} -m pip "
                f"install {package}",
                name=module,
            )
        interpreter = os.fspath(python) if python is not None and name in there else sys.executable
        command = (interpreter, str(_HERE / "worker.py"), name)
        found.append(InstalledRuntime(name, command, is_elsewhere=name in there))
    return found


def _has(python: str, names: Sequence[str]) -> set[str]:
    """Return which runtimes a Python interpreter has.

    Raises:
        OnnxError: If it is no interpreter.
    """
    if not names:
        return set()
    is_elsewhere = python != sys.executable
    probe = InstalledRuntime("", (python, "-c", _ASK), is_elsewhere)
    try:
        answer = subprocess.run(
            [*probe.command, *(_PACKAGES[name][0] for name in names)],
            env=probe.environment(),
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
        is_there = zip(names, json.loads(answer.stdout), strict=True)
        return {name for name, there in is_there if there}
    except (OSError, TypeError, ValueError, subprocess.SubprocessError) as error:
        raise OnnxError(f"{python} is no Python interpreter that starts: {error}") from None


def _web(folder: str | os.PathLike[str] | None) -> InstalledRuntime:
    node = shutil.which("node")
    if node is None:
        raise OnnxError("the runtime web needs node, version 20 or newer, which is not installed")
    package = find_runtime(folder).folder
    return InstalledRuntime("web", (node, str(_HERE / "web_worker.mjs"), str(package)))
