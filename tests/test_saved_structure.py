"""How a network becomes JSON and code: its arguments, others' definitions, files of tensors."""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from torchlift.converters.modules.registry import layer, unregister_module
from torchlift.converters.saved import (
    SavedModel,
    SavedModelError,
    UpToLayer,
    save,
    tensor_files,
)
from torchlift.converters.saved.loader import DTYPES, fill, read_tensors
from torchlift.converters.saved.source_bundle import SourceBundle
from torchlift.converters.saved.standalone import _bracketed, _literal, standalone_source
from torchlift.converters.saved.structure import build, class_of, describe


@pytest.fixture
def module_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes the text of a module of somebody's, by its name."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names: list[str] = []

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        names.append(name)
        return name

    yield write
    for name in names:
        unregister_module(name)
        sys.modules.pop(name, None)


OWN = '''"""Layers of somebody's."""
from __future__ import annotations

import math
import os
from collections import OrderedDict
from typing import Any, final

from torch import nn
from torchlift.converters.modules.registry import layer, register

UNUSED = 5
SIZE: int = 3
DEFAULT = SIZE + 1


def helper(x: Any) -> float:
    return math.pi * x


class Base(nn.Module):
    pass


# Two lines
# about the layer.
@layer
@final
class Own(Base):
    """A layer."""

    start = DEFAULT

    def forward(self, x: OrderedDict[str, float], size: int = SIZE) -> Any:
        def inner(y: float) -> float:
            return helper(y)

        return inner(x)
'''


def test_a_definition_is_copied_with_all_that_it_uses_and_nothing_else(module_of: Any) -> None:
    bundle = SourceBundle()
    bundle.add(module_of("somebodys_own", OWN), "Own")
    order = list(bundle.definitions)
    assert set(order) == {"SIZE", "DEFAULT", "helper", "Base", "Own"}
    assert order[-1] == "Own"
    assert order.index("SIZE") < order.index("DEFAULT")
    text = bundle.definitions["Own"]
    # The comment above it and other decorators stay; what registers it with torchlift does not.
    assert text.startswith("# Two lines\n# about the layer.\n@final\nclass Own(Base):\n")
    assert text.endswith("        return inner(x)")
    assert bundle.definitions["SIZE"] == "SIZE: int = 3"
    assert bundle.definitions["helper"] == "def helper(x: Any) -> float:\n    return math.pi * x"
    # The standard library first, and no import of what is not used.
    assert bundle.import_lines() == (
        "import math\nfrom collections import OrderedDict\nfrom typing import Any, final\n\n"
        "from torch import nn"
    )


def test_definitions_of_one_file_may_use_each_other(module_of: Any) -> None:
    even = "def even(n):\n    return n == 0 or odd(n - 1)\n"
    text = even + "\n\ndef odd(n):\n    return n and even(n - 1)"
    bundle = SourceBundle()
    bundle.add(module_of("somebodys_turns", text), "even")
    names: dict[str, Any] = {}
    exec("\n\n".join(bundle.definitions.values()), names)
    assert names["even"](4)
    assert not names["even"](5)


def test_imports_of_modules_and_of_names_are_sorted_and_grouped() -> None:
    bundle = SourceBundle()
    for module, name in (
        *(("torch", "nn"), ("torch", ""), ("numpy", ""), ("math", "pi"), ("math", "e")),
        *(("os.path", "join"), ("json", "")),
    ):
        bundle.imports[module].add(name)
    assert bundle.import_lines() == (
        "import json\nfrom math import e, pi\nfrom os.path import join\n\n"
        "import numpy\nimport torch\nfrom torch import nn"
    )


def test_of_a_builtin_there_is_no_source() -> None:
    for module in ("itertools", "no_such_module_anywhere"):
        with pytest.raises(SavedModelError, match=f"the source of {module} cannot be found: "):
            SourceBundle().add(module, "chain")


@pytest.mark.parametrize(
    ("value", "tuples", "code"),
    [
        ([2], True, "(2,)"),
        ([2, [3]], True, "(2, (3,))"),
        ([2], False, "[2]"),
        ([], True, "()"),
        (float("inf"), True, 'float("inf")'),
        (float("nan"), False, 'float("nan")'),
        (1.5, True, "1.5"),
        ("it's", True, '"it\'s"'),
        (None, True, "None"),
        (True, False, "True"),
    ],
)
def test_a_value_is_written_as_it_would_be_typed(value: Any, tuples: bool, code: str) -> None:
    assert _literal(value, tuples) == code


def test_a_line_holds_72_characters_and_no_line_within() -> None:
    items = ["a" * 34, "b" * 34]  # With brackets, a comma and a blank 72.
    assert _bracketed("[", items, "]") == f"[{items[0]}, {items[1]}]"
    longer = [items[0], items[1] + "b"]
    assert _bracketed("[", longer, "]") == f"[\n    {longer[0]},\n    {longer[1]},\n]"
    assert _bracketed("(", ["a\nb"], ",)") == "(\n    a\n    b,\n)"
    assert _bracketed("{", [], "}") == "{}"


@pytest.mark.parametrize(
    ("shape", "kind", "said"),
    [
        ((3, 4, 5), "log_probabilities", "Input: (N, 3, 4, 5). Output: log-probabilities."),
        (None, "features", "Input: (N, …). Output: features."),
    ],
)
def test_the_first_lines_of_the_code_say_what_it_is(shape: Any, kind: str, said: str) -> None:
    network = nn.Sequential(nn.LayerNorm((5,)), nn.ModuleList([nn.Tanh()]))
    text = standalone_source(SavedModel(network, kind, shape), describe(network), {"b": "a"})
    assert text.startswith('"""A network as a PyTorch network. Written by torchlift ')
    assert said in text
    assert "TIED: dict[str, str] = {'b': 'a'}" in text
    assert "nn.LayerNorm((5,))" in text
    assert "nn.ModuleList([nn.Tanh()])" in text
    assert "from pathlib import Path" in text


class Scaled(nn.Module):
    """A layer with arguments of every kind."""

    def __init__(
        self,
        inner: nn.Module,
        sizes: list[int],
        factor: float = 1.0,
        bias: bool = True,
        name: str | None = None,
        _private: int = 0,
    ) -> None:
        super().__init__()
        self.inner, self.sizes, self.factor, self.name = inner, sizes, factor, name
        self.bias = nn.Parameter(torch.zeros(2)) if bias else None


@pytest.fixture
def scaled() -> Iterator[None]:
    layer(Scaled)
    yield
    unregister_module(__name__)


@pytest.mark.usefixtures("scaled")
def test_arguments_are_described_unless_they_are_the_defaults() -> None:
    linear = {"class": "torch.nn.Linear", "arguments": {"in_features": 2, "out_features": 3}}
    plain = describe(Scaled(nn.Linear(2, 3), [1, 2]))
    assert plain["arguments"] == {"inner": linear, "sizes": [1, 2]}
    other = describe(Scaled(nn.Linear(2, 3), [1], 2, bias=False, name="a"))
    assert other["arguments"] == {
        "inner": linear,
        "sizes": [1],
        "factor": 2,
        "bias": False,
        "name": "a",
    }
    # 1 is not 1.0, nor True: a layer may tell them apart.
    assert describe(Scaled(nn.Tanh(), [], 1))["arguments"]["factor"] == 1
    again = build(json.loads(json.dumps(other)))
    assert isinstance(again, Scaled)
    assert (again.sizes, again.factor, again.bias, again.name) == ([1], 2, None, "a")
    assert isinstance(again.inner, nn.Linear)
    assert again.inner.weight.is_meta
    assert not again.training


@pytest.mark.usefixtures("scaled")
def test_a_layer_that_stands_twice_is_described_once_also_as_an_argument() -> None:
    shared = nn.Linear(2, 2)
    network = nn.Sequential(shared, Scaled(shared, []), nn.Sequential(shared))
    described = describe(network)
    assert described["children"][1]["arguments"]["inner"] == {"same_as": "0"}
    assert described["children"][2]["children"] == [{"same_as": "0"}]
    again: Any = build(described)
    assert again[0] is again[1].inner is again[2][0]
    inner_first = nn.Sequential(Scaled(shared, []), shared)
    assert describe(inner_first)["children"][1] == {"same_as": "0.inner"}
    (built, second) = build(describe(inner_first)).children()
    assert built.inner is second


@pytest.mark.usefixtures("scaled")
def test_a_module_stands_only_where_a_constructor_takes_one() -> None:
    tanh = {"class": "torch.nn.Tanh"}
    for name, message in (("factor", "factor"), ("sizes", "sizes"), ("name", "name")):
        arguments = {"inner": tanh, "sizes": [1], name: tanh}
        with pytest.raises(
            SavedModelError, match=f"the model: {message} is a module; a plain value was expected"
        ):
            build({"class": describe(Scaled(nn.Tanh(), []))["class"], "arguments": arguments})


def test_tuples_of_torch_are_tuples_again() -> None:
    for module in (
        nn.Conv2d(2, 4, (3, 1), padding=(1, 0), padding_mode="circular", bias=False, groups=2),
        nn.MaxPool2d((2, 3), stride=(1, 2), ceil_mode=True),
        nn.LayerNorm((4, 5), elementwise_affine=False),
        nn.Unflatten(1, (2, 3)),
        nn.Upsample(scale_factor=(2.0, 3.0), mode="bilinear", align_corners=True),
    ):
        again = build(json.loads(json.dumps(describe(module))))
        assert repr(again) == repr(module)
        for name in ("kernel_size", "stride", "padding", "normalized_shape", "unflattened_size"):
            assert getattr(again, name, None) == getattr(module, name, None)


@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        ("torch.nn.Conv2d", True),
        ("torch.nn.LSTM", False),
        ("torch.nn.GRUCell", False),
        ("torch.nn.TransformerEncoder", False),
        ("torch.nn.functional", False),
        ("torch.nn.Parameter", False),
        ("torch.nn.NoSuch", False),
        ("View", True),
        ("nn.View", False),
    ],
)
def test_a_description_names_classes_whose_constructors_are_bounded(
    name: str, is_known: bool
) -> None:
    assert (class_of(name) is not None) is is_known


def test_outputs_of_no_known_kind_are_not_saved(tmp_path: Path) -> None:
    match = "output_kind is 'scores'; one of logits, log_probabilities, probabilities, features"
    with pytest.raises(SavedModelError, match=match):
        save(SavedModel(nn.Linear(2, 2).eval(), "scores"), tmp_path / "m")
    assert [*tmp_path.iterdir()] == []


def test_a_network_up_to_a_layer_says_where_it_ends() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
    cut = UpToLayer(network, "1", before=True, unused=["2"])
    assert "layer=1, before=True" in repr(cut)
    # What is left out is gone, and not saved.
    assert isinstance(network[2], nn.Identity)
    again = build(json.loads(json.dumps(describe(cut))))
    assert list(again.state_dict()) == ["network.0.weight", "network.0.bias"]


def test_every_type_of_a_tensor_file_is_read_as_safetensors_writes_it(tmp_path: Path) -> None:
    """Also what other programs say of a file in its header."""
    numbers = torch.tensor([[0, 1, 2], [3, 100, 7]])
    tensors = {name: numbers.to(dtype) for name, dtype in DTYPES.items()}
    tensors["empty"], tensors["scalar"] = torch.zeros(0, 4), torch.tensor(-2.5)
    save_file(tensors, tmp_path / "t.safetensors", metadata={"format": "pt"})
    found = read_tensors(tmp_path / "t.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_tensors_are_filled_in_with_ties_and_statistics_in_evaluation_mode() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)).train()
    names = list(network.state_dict())
    tensors = {
        name: torch.full(value.shape, float(number)).to(value.dtype)
        for number, (name, value) in enumerate(network.state_dict().items())
    }
    del tensors["2.weight"]
    filled: Any = fill(network, dict(tensors), {"2.weight": "0.weight"})
    assert filled[2].weight is filled[0].weight
    assert isinstance(filled[0].weight, nn.Parameter)
    assert not isinstance(filled[1].running_mean, nn.Parameter)
    assert not filled.training
    assert [float(filled.state_dict()[name].flatten()[0]) for name in names] == [
        *(0, 1, 2, 3, 4, 5, 6, 0, 8)
    ]


@pytest.mark.parametrize(
    ("text", "number", "said"),
    [
        ("Error: No space left on device (os error 28)", errno.ENOSPC, os.strerror(28)),
        ("Error: Read-only file system (os error 30)", errno.EROFS, os.strerror(30)),
        ("Error of another kind", None, "Error of another kind"),
    ],
)
def test_a_tensor_file_that_cannot_be_written_is_an_error_of_the_system(
    text: str, number: int | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise SafetensorError(text)

    monkeypatch.setattr(tensor_files, "save_file", refuse)
    with pytest.raises(OSError, match=said) as caught:
        tensor_files.write_tensors({"a": torch.zeros(1)}, tmp_path / "t")
    assert caught.value.errno == number


def test_what_torch_saves_is_written_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "t.bin"

    def save(stream: BinaryIO) -> None:
        stream.write(b"a part")
        assert not file.exists()
        stream.seek(0)
        stream.write(b"A")

    tensor_files.write_buffered(save, file)
    assert file.read_bytes() == b"A part"
    with pytest.raises(IsADirectoryError):
        tensor_files.write_buffered(lambda stream: None, tmp_path)
