"""How a network becomes JSON and code: its arguments, others' definitions, files of tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from torchlift.converters.modules.layers.shape import Collapse, Reshape, View
from torchlift.converters.modules.layers.squeeze import Squeeze
from torchlift.converters.modules.registry import layer, unregister_module
from torchlift.converters.saved import (
    Provenance,
    SavedModel,
    SavedModelError,
    UpToLayer,
    save,
)
from torchlift.converters.saved.standalone import _bracketed, _literal, standalone_source
from torchlift.converters.saved.structure import (
    _as_argument,
    _is_misplaced,
    build,
    class_of,
    describe,
)


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
        shift: bool = False,
        _private: int = 0,
    ) -> None:
        super().__init__()
        self.inner, self.sizes, self.factor, self.name = inner, sizes, factor, name
        self.bias = nn.Parameter(torch.zeros(2)) if bias else None
        self.shift = nn.Parameter(torch.zeros(2)) if shift else None


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
    assert describe(Scaled(nn.Tanh(), [], shift=True))["arguments"]["shift"] is True
    other = describe(Scaled(nn.Linear(2, 3), [1], 2, bias=False, name="a"))
    assert other["arguments"] == {
        "inner": linear,
        "sizes": [1],
        "factor": 2,
        "bias": False,
        "name": "a",
    }
    # torch keeps two numbers where one was given.
    sizes = {"in_channels": 1, "out_channels": 6, "kernel_size": (5, 5)}
    assert describe(nn.Conv2d(1, 6, 5))["arguments"] == sizes
    assert describe(nn.Conv2d(1, 6, 5, (1, 2)))["arguments"] == sizes | {"stride": (1, 2)}
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


class Around(nn.Sequential):
    def __init__(self, *modules: nn.Module, beside: nn.Module) -> None:
        super().__init__(*modules)
        self.beside = beside


def test_a_type_or_a_device_is_an_argument_of_somebodys_layer_alone() -> None:
    """Those of torch's layers say where tensors are when they are made."""

    class Placed(nn.Module):
        def __init__(self, dtype: str = "float32", device: str = "cpu") -> None:
            super().__init__()
            self.dtype, self.device = dtype, device

    layer(Placed)
    try:
        described = describe(nn.Sequential(Placed("int64", "cuda"), nn.Linear(2, 3).double()))
    finally:
        unregister_module(__name__)
    assert [one["arguments"] for one in described["children"]] == [
        {"dtype": "int64", "device": "cuda"},
        {"in_features": 2, "out_features": 3},
    ]


def test_an_argument_that_may_be_a_module_is_no_plain_value() -> None:
    class Either(nn.Module):
        def __init__(self, inner: int | nn.Module = 0, size: int | None = None) -> None:
            super().__init__()

    for name, misplaced in (("inner", False), ("size", True), ("other", False)):
        assert _is_misplaced(Either, name, {"class": "torch.nn.Tanh"}) is misplaced
        assert not _is_misplaced(Either, name, 3)


def test_a_child_that_is_an_argument_is_no_child_of_the_rest() -> None:
    layer(Around)
    try:
        described = describe(Around(nn.Tanh(), beside=nn.Linear(2, 3)))
        assert [one["class"] for one in described["children"]] == ["torch.nn.Tanh"]
        again: Any = build(described)
        assert again.beside.out_features == 3
        network = Around(nn.Tanh(), beside=nn.Linear(2, 3))
        code = standalone_source(SavedModel(network, "features"), described, {})
        assert "return Around(nn.Tanh(), beside=nn.Linear(2, 3))" in code
    finally:
        unregister_module(__name__)


def test_tuples_of_torch_are_tuples_again() -> None:
    for module in (
        nn.Conv2d(2, 4, (3, 1), padding=(1, 0), padding_mode="circular", bias=False, groups=2),
        nn.MaxPool2d((2, 3), stride=(1, 2), ceil_mode=True),
        nn.LayerNorm((4, 5), elementwise_affine=False),
        nn.Unflatten(1, (2, 3)),
        nn.Hardtanh(-1, 2.5),
        nn.Upsample(scale_factor=(2.0, 3.0), mode="bilinear", align_corners=True),
    ):
        again = build(json.loads(json.dumps(describe(module))))
        assert repr(again) == repr(module)
        for name in ("kernel_size", "stride", "padding", "normalized_shape", "unflattened_size"):
            assert getattr(again, name, None) == getattr(module, name, None)
    assert _as_argument(nn.Unflatten, [1, [2, [3]]]) == (1, (2, (3,)))
    assert _as_argument(View, [1, [2]]) == [1, [2]]


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


def test_definitions_stand_in_the_same_order_each_time() -> None:
    network = nn.Sequential(View([2]), Squeeze(), Reshape([2]), Collapse(1))
    code = standalone_source(SavedModel(network, "features"), describe(network), {})
    places = [code.index(f"class {name}(") for name in ("Collapse", "Reshape", "Squeeze", "View")]
    assert places == sorted(places)


def test_a_layer_that_is_called_as_a_part_of_the_code_is_refused() -> None:
    class Load(nn.Module):
        pass

    Load.__name__ = Load.__qualname__ = "load"
    layer(Load)
    try:
        with pytest.raises(SavedModelError, match=r"defines 'load', a name that model\.py uses"):
            standalone_source(SavedModel(Load(), "features"), describe(Load()), {})
    finally:
        unregister_module(__name__)


def test_what_stands_twice_is_made_once_and_a_name_of_a_file_is_no_code() -> None:
    relu = nn.ReLU()
    network = nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu)
    model = SavedModel(network, "features", source=Provenance('""" x.t7', "0" * 64))
    code = standalone_source(model, describe(network), {})
    assert code.startswith('"""____x.t7 as a PyTorch network. ')
    assert (
        "    shared_1 = nn.ReLU()\n"
        "    return nn.Sequential(nn.Linear(2, 2), shared_1, nn.Linear(2, 2), shared_1)\n"
    ) in code


def test_entries_of_a_list_are_values_too() -> None:
    pool = nn.MaxPool2d(2)
    # No number at all is not the number that is left out.
    pool.padding = ()  # type: ignore[assignment]
    assert describe(pool)["arguments"] == {"kernel_size": 2, "stride": 2, "padding": ()}
    pool.padding = (0, 0)  # type: ignore[assignment]
    assert describe(pool)["arguments"] == {"kernel_size": 2, "stride": 2}
    for sizes, wrong in (((2, [3, None]), ""), ((2, [3, 1j]), "complex"), ([nn.Tanh()], "Tanh")):
        pool.kernel_size = sizes  # type: ignore[assignment]
        if wrong:
            with pytest.raises(SavedModelError, match=f"kernel_size is {wrong}, not a number"):
                describe(pool)
        else:
            assert describe(pool)["arguments"]["kernel_size"] == sizes


def test_a_class_that_is_called_as_a_registered_layer_is_none() -> None:
    own = type("View", (nn.Module,), {"__module__": View.__module__})
    with pytest.raises(SavedModelError, match="View is neither a class of torch"):
        describe(nn.Sequential(own()))


def test_a_class_that_is_called_as_one_of_torch_is_none_of_torch() -> None:
    with pytest.raises(SavedModelError, match=r"^0: Tanh is neither a class of torch"):
        describe(nn.Sequential(type("Tanh", (nn.Module,), {})()))
