"""A saved model's `model.py` needs only torch, gives the same outputs, and is formatted.

It runs in a process of its own in which neither torchlift nor safetensors can be imported.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import FIXTURES, ROOT
from torch import nn

from torchlift.converters import convert, saved, t7
from torchlift.converters.modules import registry
from torchlift.converters.saved import Provenance, SavedModel, SavedModelError
from torchlift.converters.saved.code_writer import Group, render
from torchlift.converters.saved.source_bundle import SourceBundle

#: Opens models where torchlift is not installed, and computes their outputs.
OUTSIDE = """
import importlib.abc, importlib.util, sys
import torch

class Forbidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in ("torchlift", "safetensors"):
            return None
        raise ImportError(f"{name} is not to be used")

sys.meta_path.insert(0, Forbidden())
for folder in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("model", f"{folder}/model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.load()
    assert not any(part.training for part in network.modules())
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
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def write(module: nn.Module, given: Any, folder: Path, **facts: Any) -> Any:
    """Save a module with an input beside it; what it gives here."""
    saved.save(SavedModel(module, "features", **facts), folder)
    torch.save(given, folder / "input.pt")
    torch.manual_seed(0)
    with torch.no_grad():
        return module(torch.load(folder / "input.pt"))


def flat(value: Any) -> list[torch.Tensor]:
    items = value.values() if isinstance(value, dict) else value
    return [value] if isinstance(value, torch.Tensor) else [t for item in items for t in flat(item)]


def assert_formatted(*files: Path) -> None:
    """As ruff would, with its own defaults and with our stricter rules."""
    ours = ["--config", str(ROOT / "pyproject.toml")]
    for arguments in (["format", "--check", "--diff"], ["check"], ["check", *ours]):
        command = [sys.executable, "-m", "ruff", *arguments, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_runs_without_torchlift(family: str, tmp_path: Path) -> None:
    expected = {}
    for case in t7.load(FIXTURES / "layers" / f"{family}.t7").values():
        module, given = convert(case["module"]).eval(), t7.to_torch(case["input"])
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and given.dim() in (1, 3):
            given = given[None]
        folder = tmp_path / case["name"].replace("/", "_")
        expected[folder] = write(module, given, folder)
    run_outside(*expected)
    for folder, output in expected.items():
        outside = torch.load(folder / "output.pt")
        for found, wanted in zip(flat(outside), flat(output), strict=True):
            assert torch.equal(found.nan_to_num(), wanted.nan_to_num()), folder.name
    assert_formatted(*(folder / "model.py" for folder in expected))


@pytest.mark.parametrize("name", ["digits/digits-lenet5-bn", "models/alexnetowtbn_small"])
def test_image_models_run_without_torchlift(name: str, tmp_path: Path) -> None:
    model = saved.open_model(FIXTURES / f"{name}.t7")
    assert model.input_shape is not None
    given = torch.randn(2, *model.input_shape)
    expected = write(model.module, given, tmp_path / "m", input_shape=model.input_shape)
    run_outside(tmp_path / "m")
    assert torch.equal(torch.load(tmp_path / "m" / "output.pt"), expected)
    assert_formatted(tmp_path / "m" / "model.py")


def test_it_reads_like_code_that_a_person_wrote(tmp_path: Path) -> None:
    model = saved.open_model(FIXTURES / "digits" / "digits-lenet5-bn.t7")
    text = (saved.save(model, tmp_path / "m") / "model.py").read_text()
    assert '"""digits-lenet5-bn.t7, as PyTorch' in text
    assert "It takes (N, 1, 32, 32) and gives log-probabilities." in text
    start = text.index("    return nn.Sequential(\n")
    assert text[start:].splitlines()[1:5] == [
        "        nn.Conv2d(1, 6, (5, 5)),",
        "        nn.BatchNorm2d(6, eps=0.001),",
        "        nn.ReLU(),",
        "        nn.MaxPool2d((2, 2), stride=(2, 2)),",
    ]
    assert "torchlift." not in text


def test_sharing_and_ties_survive(tmp_path: Path) -> None:
    first, second, relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
    second.weight = first.weight
    network = nn.Sequential(first, relu, nn.Sequential(second, relu), first)
    given = torch.randn(3, 4)
    expected = write(network, given, tmp_path / "m")
    run_outside(tmp_path / "m")
    assert torch.equal(torch.load(tmp_path / "m" / "output.pt"), expected)
    text = (tmp_path / "m" / "model.py").read_text()
    assert "    shared_1 = nn.Linear(4, 4)\n    shared_2 = nn.ReLU()\n" in text
    assert '"2.0.weight": "0.weight"' in text
    assert_formatted(tmp_path / "m" / "model.py")


def test_a_file_name_cannot_become_code(tmp_path: Path) -> None:
    source = Provenance('"""\nimport os\nos.abort()\n"""', "0" * 64)
    expected = write(nn.Linear(2, 2), torch.ones(1, 2), tmp_path / "m", source=source)
    run_outside(tmp_path / "m")
    assert torch.equal(torch.load(tmp_path / "m" / "output.pt"), expected)


def test_all_layers_of_ours_can_stand_in_one_file() -> None:
    """No two files of ours use one name for two things that layers need."""
    excerpt = SourceBundle()
    layers = [cls for cls in registry._LAYERS.values() if cls.__module__.startswith("torchlift.")]
    for cls in layers:
        excerpt.add(cls.__module__, cls.__name__)
    source = "\n\n".join([excerpt.import_lines(), *excerpt.definitions.values()])
    names: dict[str, Any] = {}
    exec(compile("from __future__ import annotations\n" + source, "all", "exec"), names)
    assert all(cls.__name__ in names for cls in layers)
    assert "torchlift" not in excerpt.import_lines()


def test_a_layer_without_a_source_file_is_refused(tmp_path: Path) -> None:
    names: dict[str, Any] = {"nn": nn, "__name__": "nowhere"}
    exec("class Nowhere(nn.Module):\n    pass", names)
    registry.layer(names["Nowhere"])
    try:
        with pytest.raises(SavedModelError, match="source of nowhere"):
            saved.save(SavedModel(names["Nowhere"](), "logits"), tmp_path / "m")
    finally:
        del registry._LAYERS["Nowhere"]
    assert list(tmp_path.iterdir()) == []


def test_calls_are_broken_where_they_are_too_long() -> None:
    short = Group("f(", ["a", "b=1"], ")")
    assert render(short, indent=4) == "f(a, b=1)"
    long = Group("function(", ["a" * 40, Group("[", ["b" * 40, "c" * 80], "]")], ")")
    assert render(long, indent=4).splitlines() == [
        "function(",
        f"        {'a' * 40},",
        "        [",
        f"            {'b' * 40},",
        f"            {'c' * 80},",
        "        ],",
        "    )",
    ]


def test_pt2_has_a_dynamic_batch_and_carries_its_labels(tmp_path: Path) -> None:
    model = saved.open_model(FIXTURES / "digits" / "digits-lenet5-bn_uncleared.t7")
    file = saved.save_pt2(model, tmp_path / "m.pt2")
    extra = {"config.json": ""}
    program = torch.export.load(file, extra_files=extra)
    for batch in (1, 2, 7):
        given = torch.randn(batch, 1, 32, 32)
        assert torch.allclose(program.module()(given), model.module(given), atol=1e-6)
    assert '"zero"' in extra["config.json"]
    with pytest.raises(SavedModelError, match="is there already"):
        saved.save_pt2(model, file)
    model.input_shape = None
    with pytest.raises(SavedModelError, match="size of the input"):
        saved.save_pt2(model, tmp_path / "other.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt2"]
