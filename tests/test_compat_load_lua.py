"""`load_lua`: values and modules as PyTorch 0.4's gave them, with Torch7's numbers.

No Python of today runs PyTorch 0.4. The numbers are compared with Torch7's; names and counts are
those of `torch/utils/serialization/read_lua_file.py`.
"""

from __future__ import annotations

import copy
import operator
from pathlib import Path

import numpy as np
import pytest
import torch
from support import FIXTURES, relative_error

from torchlift import compat
from torchlift.compat import load_lua
from torchlift.converters import TorchliftError, t7
from torchlift.converters.compat.legacy_pytorch import hashable_uniq_dict
from torchlift.converters.t7 import LuaObject, LuaTable

BRANCHES = FIXTURES / "compat" / "branches.t7"


def save(folder: Path, value: object) -> Path:
    t7.save(value, folder / "value.t7")
    return folder / "value.t7"


def layer(name: str, **fields: object) -> LuaObject:
    return LuaObject(f"nn.{name}", LuaTable(fields))


def test_torch7_agrees_in_both_modes() -> None:
    io = load_lua(FIXTURES / "compat" / "branches_io.t7")
    model = load_lua(BRANCHES)
    assert model.train is True
    torch.testing.assert_close(model.evaluate().forward(io.input), io.output, atol=2e-6, rtol=0)
    random = model.training().forward(io.input)
    assert (random - io.output).abs().max() > 1e-3, "nn.Dropout and the batch decide"
    torch.testing.assert_close(model.evaluate().forward(io.input), io.output, atol=2e-1, rtol=0)


def test_dimensions_count_from_zero(tmp_path: Path) -> None:
    parts = {
        "SplitTable": ("dimension", 2, 1),
        "JoinTable": ("dimension", 2, 1),
        "SelectTable": ("index", -1, -1),
        "Narrow": ("index", 3, 2),
        # Neither counts from 1: the start of a slice from the end, and no dimension.
        "Select": ("index", -2, -2),
        "Max": ("dimension", 0, 0),
        "Sum": ("dimension", 2, 1),
        "LookupTable": ("paddingValue", 0, -1),
    }
    for name, (field, lua, python) in parts.items():
        module = load_lua(save(tmp_path, layer(name, **{field: lua})))
        assert type(module).__name__ == name
        assert getattr(module, field) == python, name
    first = load_lua(save(tmp_path, layer("SelectTable", index=1)))
    assert (first.index, first.forward([torch.ones(1), torch.zeros(1)]).item()) == (0, 1)
    pairs = LuaTable.from_list([LuaTable.from_list([2, 3])])
    transpose = load_lua(save(tmp_path, layer("Transpose", permutations=pairs)))
    assert transpose.permutations == [[1, 2]]
    assert transpose.forward(torch.zeros(2, 3, 4)).shape == (2, 4, 3)
    # A number in a list is a setting as any other.
    transpose.permutations[0][0] = 0
    assert transpose.forward(torch.zeros(2, 3, 4)).shape == (4, 3, 2)


def test_classes_of_one_name_in_two_packages_stay_apart(tmp_path: Path) -> None:
    """`nn.SoftMax` sums over the channels of a pixel to 1, `cudnn.SoftMax` over a whole image."""
    packages = ["cudnn", "nn", "cudnn"]
    modules = load_lua(save(tmp_path, [LuaObject(f"{name}.SoftMax") for name in packages]))
    assert {type(module).__name__ for module in modules} == {"SoftMax"}
    sums = [module.forward(torch.zeros(1, 2, 3, 4))[0, :, 0, 0].sum().item() for module in modules]
    assert sums == pytest.approx([2 / 24, 1, 2 / 24])


def test_fields_have_pytorchs_names(tmp_path: Path) -> None:
    relu = load_lua(save(tmp_path, layer("Threshold", threshold=0.5, val=-1, inplace=False)))
    assert (relu.value, relu.threshold) == (-1, 0.5)
    assert relu.forward(torch.tensor([0.0, 1.0])).tolist() == [-1, 1]
    linear = load_lua(save(tmp_path, layer("Linear", weight=np.eye(2))))
    assert linear.bias is None
    assert linear.gradWeight is None
    with pytest.raises(AttributeError):
        _ = linear.nothing
    norm = layer("BatchNormalization", running_mean=np.zeros(2), running_std=np.full(2, 0.5))
    norm.fields["eps"] = 0.25
    loaded = load_lua(save(tmp_path, norm))
    assert loaded.running_var.tolist() == [3.75, 3.75]
    assert not hasattr(loaded, "running_std")


def test_tables_and_numbers(tmp_path: Path) -> None:
    listed = LuaTable.from_list([1, 2.5, "x"])
    file = save(tmp_path, LuaTable({"list": listed, "n": 3, "inner": LuaTable({1: 1, 3: 3})}))
    table = load_lua(file)
    assert table.list == [1, 2.5, "x"]
    assert (table.n, type(table.n)) == (3, int)
    assert table["inner"][3] == 3
    assert table.missing is None
    assert table != {}
    # Compared and hashed by reference, as in Lua.
    for compare, same in ((operator.eq, True), (operator.ne, False)):
        assert compare(table, table) is same
        assert compare(table, load_lua(file)) is not same
    one, other = hashable_uniq_dict(n=3), hashable_uniq_dict(n=3)
    assert (one == other, one != other, one == one, one != one) == (False, True, True, False)
    assert {table: 1}[table] == 1
    assert copy.copy(table).n == 3
    assert type(load_lua(file, int_heuristic=False).n) is float
    assert isinstance(load_lua(file, list_heuristic=False)["list"], dict)
    with pytest.raises(TypeError):
        load_lua(file, True)  # type: ignore[misc]


def test_the_size_of_longs_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    """By default it is what fits the file."""
    t7.save(np.arange(3.0), tmp_path / "longs.t7", long_size=4)
    for options in ({}, {"long_size": 4}):
        assert load_lua(tmp_path / "longs.t7", **options).tolist() == [0, 1, 2]
    with pytest.raises(TorchliftError):
        load_lua(tmp_path / "longs.t7", long_size=8)


def test_booleans_and_sizes_keep_their_types(tmp_path: Path) -> None:
    sizes = np.array([2, 3]).view(t7.TorchArray)
    sizes.torch_class = "torch.LongStorage"
    table = load_lua(save(tmp_path, LuaTable({"yes": True, "no": False, "sizes": sizes})))
    assert (table.yes, table.no) == (True, False)
    assert table.sizes == torch.Size([2, 3])


def test_a_graph_computes_and_needs_no_option(tmp_path: Path) -> None:
    """Its nodes are of classes without a converter, whose fields nobody asks for."""
    case = next(
        case
        for case in t7.load(FIXTURES / "layers" / "graph.t7").values()
        if not case.get("random") and case["module"].class_name == "nn.gModule"
    )
    found = load_lua(save(tmp_path, case["module"]))
    found.training() if case["mode"] == "train" else found.evaluate()
    values = load_lua(save(tmp_path, LuaTable({"in": case["input"], "out": case["output"]})))
    assert relative_error(found.forward(values["in"]), values["out"]) < 1e-4


def test_tables_of_tds_are_lists_and_tables(tmp_path: Path) -> None:
    vector = LuaObject("tds.Vec", LuaTable.from_list([3, "a"]))
    mapping = LuaObject("tds.Hash", LuaTable({"b": vector, "a": 1}))
    assert load_lua(save(tmp_path, vector)) == [3, "a"]
    assert dict(load_lua(save(tmp_path, mapping)).items()) == {"b": [3, "a"], "a": 1}


def test_a_module_with_a_table_that_holds_itself_computes(tmp_path: Path) -> None:
    options = LuaTable({"size": 3})
    options["options"] = options
    module = load_lua(save(tmp_path, layer("Tanh", options=options)))
    assert module.options.options is module.options
    assert module.forward(torch.zeros(2)).tolist() == [0, 0]


def test_unknown_classes_need_the_option(tmp_path: Path) -> None:
    file = save(tmp_path, LuaTable({"layer": LuaObject("my.Layer", LuaTable({"size": 3}))}))
    with pytest.raises(TorchliftError, match=r"value\.t7.*my\.Layer.*unknown_classes=True"):
        load_lua(file)
    unknown = load_lua(file, unknown_classes=True).layer
    assert (unknown.torch_typename(), unknown.size, unknown["size"]) == ("my.Layer", 3, 3)


def test_tensors_of_cutorch_are_on_the_cpu() -> None:
    model = load_lua(FIXTURES / "formats" / "cuda_model.t7").module
    weights = [vars(m)["weight"] for m in model.listModules() if "weight" in vars(m)]
    assert weights
    assert all(weight.device.type == "cpu" for weight in weights)


def test_weights_are_those_that_compute() -> None:
    """Whether they are changed in place, replaced, or moved to another type."""
    model = load_lua(FIXTURES / "digits" / "digits-lenet5.t7").evaluate()
    x = torch.rand(2, 1, 32, 32)
    before = model.forward(x).clone()
    model.get(0).weight.numpy()[:] *= 2
    changed = model.forward(x).clone()
    assert (changed - before).abs().max() > 1e-3
    model.get(0).weight = model.get(0).weight / 2
    torch.testing.assert_close(model.forward(x), before)
    model.double()
    assert model.forward(x.double()).dtype == torch.float64
    torch.testing.assert_close(model.forward(x.double()).float(), before, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"torch\.LongTensor"):
        model.type("torch.LongTensor")


def test_children_may_be_taken_out_and_put_back() -> None:
    model = load_lua(FIXTURES / "digits" / "digits-lenet5.t7").evaluate()
    x = torch.rand(2, 1, 32, 32)
    whole = model.forward(x).clone()
    last = model.modules[-1]
    model.remove()
    assert model.size() == len(model.modules) == 12
    torch.testing.assert_close(model.forward(x).log_softmax(1), whole)
    torch.testing.assert_close(model.get(11).output, model.output)
    model.add(last)
    torch.testing.assert_close(model.forward(x), whole)
    twin = model.clone()
    twin.get(0).weight.zero_()
    torch.testing.assert_close(model.forward(x), whole)
    assert copy.deepcopy(model).forward(x).equal(model.forward(x))
    weights, _ = model.parameters()
    assert [tuple(w.shape) for w in weights[:2]] == [(6, 1, 5, 5), (6,)]
    assert len(model.findModules("nn.Linear")) == 3
    assert "(0): nn.SpatialConvolution" in repr(model)


def test_a_shared_weight_stays_shared(tmp_path: Path) -> None:
    weight = np.eye(2)
    layers = [layer("Linear", weight=weight, bias=np.zeros(2)) for _ in range(2)]
    model = load_lua(save(tmp_path, layer("Sequential", modules=LuaTable.from_list(layers))))
    model.get(0).weight.mul_(3)
    assert model.get(1).weight[0, 0] == 3
    assert model.forward(torch.ones(1, 2).double()).tolist() == [[9, 9]]
    model.float()
    assert model.get(0).weight is model.get(1).weight
    assert model.get(0).weight.dtype == torch.float32


def test_an_instance_that_wrote_no_table_is_what_it_wrote(tmp_path: Path) -> None:
    """A class with a `write` of its own; an instance of several parts is its last table."""
    one, several = LuaObject("my.Word"), LuaObject("my.Pair", LuaTable({"size": 3}))
    one.body, several.body = ["hello"], [7, several.fields]
    table = load_lua(save(tmp_path, LuaTable({"a": one, "b": several})), unknown_classes=True)
    assert table.a._obj == "hello"
    assert table.b.size == 3


@pytest.mark.parametrize("name", ["my.Part", "nn.Tanh"])
def test_an_object_may_hold_itself(name: str, tmp_path: Path) -> None:
    """As a layer does that knows its parent."""
    part = LuaObject(name, LuaTable({"size": 3}))
    part.fields["parent"] = LuaTable({"of": part})
    found = load_lua(save(tmp_path, part), unknown_classes=True)
    assert found.parent.of is found
    assert found.parent.of.size == 3


def test_a_function_is_its_code(tmp_path: Path) -> None:
    """It is never run, and no error."""
    function = t7.LuaFunction(b"\x1bLJ code")
    function.upvalues = LuaTable()
    found = load_lua(save(tmp_path, LuaTable({"f": function, "g": function})))
    assert found.f.bytecode == b"\x1bLJ code"
    assert found.g is found.f


def test_the_package_has_its_readers_and_no_other_names() -> None:
    for name in compat.__all__:
        assert getattr(compat, name).__name__.endswith(name)
    with pytest.raises(AttributeError, match="has no attribute 'load_python'"):
        _ = compat.load_python


FAMILIES = (
    "container",
    "convolution",
    "graph",
    "linear",
    "nn",
    "normalization",
    "pooling",
    "shape",
)


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, "legacy", "rnn", "shape", "table"])
def test_layers_compute_torch7s_numbers(family: str) -> None:
    """Fields that are renamed and counted anew on the way in are Torch7's again when they compute.

    Allowed is 1e-4 of the largest number, as for converted layers in single precision.
    """
    count = 0
    for case in load_lua(FIXTURES / "layers" / f"{family}.t7", unknown_classes=True):
        if not case.get("random"):
            module = case["module"]
            module.training() if case.mode == "train" else module.evaluate()
            found = module.forward(case["input"])
            assert relative_error(found, case["output"]) < 1e-4, case["name"]
            count += 1
    assert count >= 4
