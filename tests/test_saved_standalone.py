"""A saved model's `model.py` needs torch alone, computes equal outputs, and is readable.

It runs in a process of its own, in which neither torchlift nor safetensors can be imported.
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import FIXTURES
from torch import nn

from torchlift.converters import convert, saved, t7
from torchlift.converters.errors import WriteError
from torchlift.converters.modules import registry
from torchlift.converters.modules.packages.nngraph import GModule
from torchlift.converters.saved import Provenance, SavedModel, SavedModelError
from torchlift.converters.saved.source_bundle import SourceBundle

#: Loads models by their `model.py` where torchlift cannot be imported, and computes their outputs.
OUTSIDE = """
import importlib.abc, importlib.util, sys
import torch

class Forbidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in ("torchlift", "safetensors"):
            return None
        raise ImportError(f"{name} must not be used")

sys.meta_path.insert(0, Forbidden())
for folder in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("model", f"{folder}/model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load()
    assert not any(module.training for module in network.modules())
    torch.manual_seed(0)
    with torch.no_grad():
        output = network(torch.load(f"{folder}/input.pt"))
    torch.save(output, f"{folder}/output.pt")
"""

FAMILIES = sorted(
    path.stem for path in (FIXTURES / "layers").glob("*.t7") if path.stem != "criterions"
)


def run_outside(*folders: Path) -> None:
    command = [sys.executable, "-I", "-c", OUTSIDE, *map(str, folders)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def write(module: nn.Module, input: Any, folder: Path, **metadata: Any) -> Any:
    """Save a module and an input beside it, and return its output in this process."""
    saved.save(SavedModel(module, "features", **metadata), folder)
    torch.save(input, folder / "input.pt")
    torch.manual_seed(0)
    with torch.no_grad():
        return module(torch.load(folder / "input.pt"))


def flat(value: Any) -> list[torch.Tensor]:
    items = value.values() if isinstance(value, dict) else value
    return [value] if isinstance(value, torch.Tensor) else [t for item in items for t in flat(item)]


def assert_no_ruff_errors(*files: Path) -> None:
    """Check files with ruff's default rules, such as unused imports."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", *map(str, files)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_runs_without_torchlift(family: str, tmp_path: Path) -> None:
    expected = {}
    for case in t7.load(FIXTURES / "layers" / f"{family}.t7").values():
        module, input = convert(case["module"]).eval(), t7.to_torch(case["input"])
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and input.dim() in (1, 3):
            input = input[None]
        folder = tmp_path / case["name"].replace("/", "_")
        expected[folder] = write(module, input, folder)
    run_outside(*expected)
    for folder, outputs in expected.items():
        outside = torch.load(folder / "output.pt")
        for actual, output in zip(flat(outside), flat(outputs), strict=True):
            assert torch.equal(actual.nan_to_num(), output.nan_to_num()), folder.name
    assert_no_ruff_errors(*(folder / "model.py" for folder in expected))


@pytest.mark.parametrize("name", ["digits/digits-lenet5-bn", "models/alexnetowtbn_small"])
def test_image_models_run_without_torchlift(name: str, tmp_path: Path) -> None:
    model = saved.open_model(FIXTURES / f"{name}.t7")
    assert model.input_shape is not None
    input = torch.randn(2, *model.input_shape)
    expected = write(model.module, input, tmp_path / "m", input_shape=model.input_shape)
    run_outside(tmp_path / "m")
    assert torch.equal(torch.load(tmp_path / "m" / "output.pt"), expected)
    assert_no_ruff_errors(tmp_path / "m" / "model.py")


def test_it_is_readable(tmp_path: Path) -> None:
    model = saved.open_model(FIXTURES / "digits" / "digits-lenet5-bn.t7")
    text = (saved.save(model, tmp_path / "m") / "model.py").read_text(encoding="utf-8")
    assert '"""digits-lenet5-bn.t7 as a PyTorch network.' in text
    assert "Input: (N, 1, 32, 32). Output: log-probabilities." in text
    assert 'class View(nn.Module):\n    """`View.lua`:' in text
    assert max(map(len, text.splitlines())) <= 100
    start = text.index("    return nn.Sequential(\n")
    assert text[start:].splitlines()[1:5] == [
        "        nn.Conv2d(1, 6, (5, 5)),",
        "        BatchNorm2d(6, eps=0.001),",
        "        nn.ReLU(),",
        "        nn.MaxPool2d((2, 2), stride=(2, 2)),",
    ]
    assert "torchlift." not in text


def test_sharing_and_ties_survive(tmp_path: Path) -> None:
    first, second, relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
    second.weight = first.weight
    network = nn.Sequential(first, relu, nn.Sequential(second, relu), first)
    input = torch.randn(3, 4)
    expected = write(network, input, tmp_path / "m")
    run_outside(tmp_path / "m")
    assert torch.equal(torch.load(tmp_path / "m" / "output.pt"), expected)
    text = (tmp_path / "m" / "model.py").read_text(encoding="utf-8")
    assert "    shared_1 = nn.Linear(4, 4)\n    shared_2 = nn.ReLU()\n" in text
    assert "'2.0.weight': '0.weight'" in text
    assert_no_ruff_errors(tmp_path / "m" / "model.py")


def test_a_file_name_cannot_become_code(tmp_path: Path) -> None:
    source = Provenance('"""\nimport os\nos.abort()\n"""', "0" * 64)
    expected = write(nn.Linear(2, 2), torch.ones(1, 2), tmp_path / "m", source=source)
    run_outside(tmp_path / "m")
    assert torch.equal(torch.load(tmp_path / "m" / "output.pt"), expected)


def test_one_file_can_contain_all_registered_layers() -> None:
    """No two source files of torchlift use one name for two definitions that layers need."""
    bundle = SourceBundle(reserved=("TIED", "build", "load"))
    layers = [cls for cls in registry._layers.values() if cls.__module__.startswith("torchlift.")]
    for cls in layers:
        bundle.add(cls.__module__, cls.__name__)
    source = "\n\n".join([bundle.import_lines(), *bundle.definitions.values()])
    names: dict[str, Any] = {}
    exec(compile("from __future__ import annotations\n" + source, "all", "exec"), names)
    assert all(cls.__name__ in names for cls in layers)
    assert "torchlift" not in bundle.import_lines()


def test_a_name_of_model_py_itself_is_refused() -> None:
    bundle = SourceBundle(reserved=("save",))
    with pytest.raises(SavedModelError, match=r"defines 'save', a name that model\.py uses"):
        bundle.add("torchlift.converters.saved.folder", "save")


def test_a_layer_without_a_source_file_is_refused(tmp_path: Path) -> None:
    names: dict[str, Any] = {"nn": nn, "__name__": "nowhere"}
    exec("class Nowhere(nn.Module):\n    pass", names)
    registry.layer(names["Nowhere"])
    try:
        with pytest.raises(SavedModelError, match="source of nowhere cannot be found"):
            saved.save(SavedModel(names["Nowhere"](), "logits"), tmp_path / "m")
    finally:
        registry.unregister_module("nowhere")
    assert list(tmp_path.iterdir()) == []


def test_long_lists_and_special_values_are_written_as_readable_code(tmp_path: Path) -> None:
    long = [[0, [[index]]] for index in range(30)]
    graph = GModule(nn.Identity(), steps=[[0, [[0]]], *long], outputs=[[31]])
    clip = nn.Hardtanh(-math.inf, 2.5)
    # The size of an nn.Unflatten has to be a tuple, of one number too.
    network = nn.Sequential(graph, clip, nn.AvgPool3d((1, 1, 1)), nn.Unflatten(3, (1,)))
    input = torch.randn(1, 1, 1, 1)
    expected = write(network, input, tmp_path / "m")
    run_outside(tmp_path / "m")
    assert torch.equal(torch.load(tmp_path / "m" / "output.pt"), expected)
    text = (tmp_path / "m" / "model.py").read_text(encoding="utf-8")
    lines = text[text.index("    return nn.Sequential(") :].splitlines()
    assert lines[1:8] == [
        "        GModule(",
        "            nn.Identity(),",
        "            steps=[",
        "                [0, [[0]]],",
        "                [0, [[0]]],",
        "                [0, [[1]]],",
        "                [0, [[2]]],",
    ]
    assert '        nn.Hardtanh(min_val=float("-inf"), max_val=2.5),' in lines
    assert "        nn.AvgPool3d((1, 1, 1), stride=(1, 1, 1))," in lines
    assert "        nn.Unflatten(3, (1,))," in lines


def test_pt2_has_a_dynamic_batch_and_carries_its_labels(tmp_path: Path) -> None:
    model = saved.open_model(FIXTURES / "digits" / "digits-lenet5-bn_uncleared.t7")
    file = saved.save_pt2(model, tmp_path / "m.pt2")
    extra = {"config.json": ""}
    program = torch.export.load(file, extra_files=extra)
    for batch in (1, 2, 7):
        input = torch.randn(batch, 1, 32, 32)
        assert torch.allclose(program.module()(input), model.module(input), atol=1e-6)
    assert '"zero"' in extra["config.json"]
    with pytest.raises(WriteError, match="already exists; overwrite=True replaces it"):
        saved.save_pt2(model, file)
    model.input_shape = None
    with pytest.raises(SavedModelError, match=r"input size is not known: give input_size=\(H, W\)"):
        saved.save_pt2(model, tmp_path / "other.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt2"]
