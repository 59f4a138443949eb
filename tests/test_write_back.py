"""Networks written back to `.t7`: object for object what Torch7 itself wrote.

The truth are files that Torch7 wrote. Buffers and gradients, which a network does not keep, are
left out on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES, SHARED, wild_files
from torch import nn

from torchlift.converters import TorchliftError, convert, t7
from torchlift.converters.modules import load_model
from torchlift.converters.modules.errors import ConversionError
from torchlift.converters.modules.to_torch7 import to_torch7, torch7_skeleton
from torchlift.converters.modules.torch7_source import part_of
from torchlift.converters.saved import SavedModel, load, save, save_t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable

#: What `clearState` empties, and what the backward pass fills.
BUFFERS = {"output", "gradInput", "finput", "fgradInput", "noise", "save_mean", "save_std"}

FILES = sorted(
    file
    for folder in ("layers", "fuzz", "digits", "models", "projects", "0.1.0")
    for root in (FIXTURES, SHARED / "fixtures")
    for file in (root / folder).glob("*.t7")
    if root == FIXTURES or not (FIXTURES / folder / file.name).exists()
)


def modules_in(value: Any) -> list[LuaObject]:
    """Return the modules that a file holds: itself, or those in the cases of a list."""
    if isinstance(value, LuaObject):
        return [value] if ".Tensor" not in value.class_name else []
    if not isinstance(value, LuaTable):
        return []
    found = [value[key] for key in ("module", "model", "net") if key in value]
    if found:
        return [module for module in found if isinstance(module, LuaObject)]
    return [module for entry in value.values() for module in modules_in(entry)]


def difference(ours: Any, theirs: Any) -> str | None:
    """Return where two Torch7 values differ first, None if they are the same."""
    return _difference(ours, theirs, "model", set())


def _difference(ours: Any, theirs: Any, path: str, seen: set[tuple[int, int]]) -> str | None:
    if (id(ours), id(theirs)) in seen:
        return None
    seen.add((id(ours), id(theirs)))
    if type(ours) is not type(theirs):
        return f"{path}: {type(ours).__name__}, Torch7 wrote {type(theirs).__name__}"
    if isinstance(theirs, LuaObject):
        if (ours.class_name, ours.version) != (theirs.class_name, theirs.version):
            return f"{path}: {ours.class_name}, Torch7 wrote {theirs.class_name}"
        pairs = zip(ours.body, theirs.body, strict=True)
        found = (_difference(*pair, path, seen) for pair in pairs)
        return next((text for text in found if text), None)
    if isinstance(theirs, LuaTable):
        if len(ours) != len(theirs):
            return f"{path}: fields {ours.keys()}, Torch7 wrote {theirs.keys()}"
        for (our_key, our_value), (key, value) in zip(ours.items(), theirs.items(), strict=True):
            if text := _difference(our_key, key, f"{path}'s key", seen):
                return text
            if key in BUFFERS and not isinstance(value, (LuaObject, float, int)):
                if type(our_value) is not type(value):
                    return f"{path}.{key}: {type(our_value)}, Torch7 wrote {type(value)}"
            elif text := _difference(our_value, value, f"{path}.{key}", seen):
                return text
        return None
    if isinstance(theirs, np.ndarray):
        if ours.torch_class != theirs.torch_class or ours.shape != theirs.shape:
            return (
                f"{path}: {ours.torch_class} {ours.shape}, "
                f"Torch7 wrote {theirs.torch_class} {theirs.shape}"
            )
        is_gradient = path.rpartition(".")[2].startswith("grad")
        same = is_gradient or np.array_equal(ours, theirs, equal_nan=theirs.dtype.kind == "f")
        return None if same else f"{path}: values"
    if isinstance(theirs, LuaFunction):
        return None if ours.bytecode == theirs.bytecode else f"{path}: bytecode"
    same = ours == theirs or (ours != ours and theirs != theirs)  # NaN equals NaN
    return None if same else f"{path}: {ours}, Torch7 wrote {theirs}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_what_torch7_wrote_is_written_back_as_it_was(file: Path) -> None:
    for source in modules_in(t7.load(file)):
        try:
            module = convert(source)
        except TorchliftError:
            continue  # Files that are not to be converted; other tests say which.
        written = t7.loads(t7.dumps(to_torch7(module)))
        assert difference(written, source) is None


@pytest.mark.parametrize("file", wild_files(), ids=lambda file: file.stem)
def test_files_from_the_wild_are_written_back_as_they_were(file: Path) -> None:
    try:
        module = load_model(file)
    except TorchliftError:
        pytest.skip("holds no model that can be converted")
    source = module.torch7_source.value
    assert isinstance(source, LuaObject)
    written = t7.loads(t7.dumps(to_torch7(module)))
    if source.class_name in ("nn.DataParallelTable", "nn.DataParallel"):
        source = source["modules"][1]  # Written without its replicas.
    assert difference(written, source) is None


def case(name: str) -> Any:
    return t7.load(FIXTURES / "fuzz" / f"{name}.t7")


@pytest.mark.parametrize("name", ["written_residual", "bn_spatial_single_view", "inplace_graph"])
def test_a_saved_model_is_written_back_too(name: str, tmp_path: Path) -> None:
    """A saved model keeps what its weights do not say, beside them."""
    source = case(name)["module"]
    save(SavedModel(convert(source), "features"), tmp_path / "model")
    save_t7(load(tmp_path / "model"), tmp_path / "model.t7")
    assert difference(t7.load(tmp_path / "model.t7"), source) is None
    # It is opened and saved a second time without a loss.
    save(load(tmp_path / "model"), tmp_path / "again")
    save_t7(load(tmp_path / "again"), tmp_path / "again.t7")
    assert difference(t7.load(tmp_path / "again.t7"), source) is None


def test_trained_weights_and_a_new_head_are_written() -> None:
    source = t7.load(FIXTURES / "digits" / "digits-lenet5-bn.t7")
    network = convert(source)
    last = max(i for i, layer in enumerate(network) if isinstance(layer, nn.Linear))
    head = nn.Linear(network[last].in_features, 3)
    with torch.no_grad():
        network[0].weight.mul_(2)
    network[last] = head
    written = t7.loads(t7.dumps(to_torch7(network)))
    assert np.array_equal(written["modules"][1]["weight"], 2 * source["modules"][1]["weight"])
    assert np.array_equal(written["modules"][last + 1]["weight"], head.weight.detach())
    assert difference(written["modules"][2], source["modules"][2]) is None
    again, images = convert(written), torch.randn(2, 1, 32, 32)
    assert torch.equal(again.eval()(images), network.eval()(images))


def test_layers_may_be_added_and_taken_away() -> None:
    network = convert(case("written_residual")["module"])
    shorter = network[:-1]
    shorter.torch7_source = network.torch7_source
    written = to_torch7(shorter)
    assert len(written["modules"]) == len(network) - 1
    network.append(nn.Dropout(0.25))
    written = to_torch7(network)
    assert written["modules"][len(network)].class_name == "nn.Dropout"
    assert written["modules"][len(network)]["p"] == 0.25


def test_a_changed_argument_is_written_or_refused() -> None:
    """What the file would not say is never written in silence."""
    network = nn.Sequential(nn.Dropout(0.5))
    source = to_torch7(network)
    network = convert(source)
    network[0].p = 0.1
    assert to_torch7(network)["modules"][1]["p"] == 0.1
    network = convert(case("k_max_after_relu")["module"])
    for layer in network.modules():
        if hasattr(layer, "min_k"):
            layer.min_k += 1
    with pytest.raises(ConversionError, match="DynamicKMaxPool has no Torch7 counterpart"):
        to_torch7(network)


def test_doubles_stay_doubles() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).double()
    written = t7.loads(t7.dumps(to_torch7(network)))
    assert written["modules"][1]["weight"].torch_class == "torch.DoubleTensor"
    assert written["modules"][2]["output"].torch_class == "torch.DoubleTensor"
    assert written["_type"] == "torch.DoubleTensor"
    assert np.array_equal(written["modules"][1]["weight"], network[0].weight.detach())


@pytest.mark.parametrize(
    ("key", "value"),
    [("offset", -1), ("offset", 10**6), ("shape", [10**9]), ("strides", [10**6]), ("name", None)],
)
def test_a_damaged_skeleton_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    """A stranger's file is data: nothing outside a storage is read or written."""
    save(SavedModel(convert(case("bn_single")["module"]), "features"), tmp_path / "model")
    damaged = t7.load(tmp_path / "model" / "torch7.t7", writable=True)
    place = next(
        storage["places"][1] for storage in damaged["storages"].to_list() if storage["places"]
    )
    place[key] = LuaTable.from_list(value) if isinstance(value, list) else value
    t7.save(damaged, tmp_path / "model" / "torch7.t7")
    with pytest.raises(ConversionError, match="damaged"):
        save_t7(load(tmp_path / "model"), tmp_path / "model.t7")
    assert not (tmp_path / "model.t7").exists()


def test_a_small_skeleton_cannot_request_much_memory(tmp_path: Path) -> None:
    save(SavedModel(convert(case("bn_single")["module"]), "features"), tmp_path / "model")
    damaged = t7.load(tmp_path / "model" / "torch7.t7", writable=True)
    for storage in damaged["storages"].to_list():
        storage["size"] = 10**15
        storage["content"] = None
    t7.save(damaged, tmp_path / "model" / "torch7.t7")
    with pytest.raises(ConversionError, match="damaged"):
        save_t7(load(tmp_path / "model"), tmp_path / "model.t7")


def test_many_small_storages_cannot_request_much_memory(tmp_path: Path) -> None:
    """Each of them alone would be allowed."""
    save(SavedModel(convert(case("bn_single")["module"]), "features"), tmp_path / "model")
    damaged = t7.load(tmp_path / "model" / "torch7.t7", writable=True)
    for storage in damaged["storages"].to_list()[:2]:
        storage["size"], storage["content"] = 3 * 2**20, None
    t7.save(damaged, tmp_path / "model" / "torch7.t7")
    with pytest.raises(ConversionError, match="a storage of 3145728 elements"):
        save_t7(load(tmp_path / "model"), tmp_path / "model.t7")


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "expected"),
    [
        (0, [2, 3], [3, 1], [[0, 1, 2], [3, 4, 5]]),
        (2, [2], [3], [2, 5]),
        (5, [1], [100], [5]),
        (3, [2], [3], None),
        (6, [1], [1], None),
        (-1, [1], [1], None),
        (0, [-1], [1], None),
        (5, [2], [-1], None),
    ],
)
def test_a_tensor_of_a_skeleton_lies_inside_its_storage(
    offset: int, shape: list[int], strides: list[int], expected: Any
) -> None:
    sizes = {"shape": LuaTable.from_list(shape), "strides": LuaTable.from_list(strides)}
    place = LuaTable({"offset": offset, **sizes})
    if expected is None:
        with pytest.raises(ValueError, match="outside its storage"):
            part_of(np.arange(6.0), place)
    else:
        assert part_of(np.arange(6.0), place).tolist() == expected


def test_gradients_are_written_as_zeros_and_kept_nowhere() -> None:
    """The file of a saved model does not hold a second network."""
    source = reread(linear(torch.eye(2), gradWeight=torch.ones(2, 2), gradBias=torch.ones(2)))
    network = convert(source)
    storages = torch7_skeleton(network)["storages"].to_list()
    assert [storage.get("content") for storage in storages] == [None] * 4
    written = to_torch7(network)["modules"][1]
    assert np.array_equal(written["weight"], np.eye(2))
    for name in ("gradWeight", "gradBias"):
        assert not written[name].any()
        assert written[name].shape == source["modules"][1][name].shape


def test_an_object_made_in_python_is_written_with_its_values() -> None:
    fields = LuaTable({"weight": np.ones((2, 3), "f4"), "bias": np.zeros(2, "f4")})
    module = convert(LuaObject("nn.Linear", fields))
    with torch.no_grad():
        module.weight.mul_(3)
    written = t7.loads(t7.dumps(to_torch7(module)))
    assert np.array_equal(written["weight"], np.full((2, 3), 3, "f4"))


def linear(weight: torch.Tensor, **fields: Any) -> LuaObject:
    return LuaObject("nn.Linear", LuaTable({"weight": weight, "bias": torch.zeros(2), **fields}))


def reread(*layers: LuaObject) -> LuaObject:
    modules = LuaTable({"modules": LuaTable.from_list(layers)})
    source: LuaObject = t7.loads(t7.dumps(LuaObject("nn.Sequential", modules)))
    return source


def test_the_rest_of_a_storage_that_two_weights_share_is_kept(tmp_path: Path) -> None:
    """Two weights over the same elements do not make up for those that neither has."""
    memory = torch.arange(8.0)
    weight = memory[:4].view(2, 2)
    source = reread(linear(weight), linear(weight.t(), mask=memory[4:]))
    save(SavedModel(convert(source), "features"), tmp_path / "model")
    save_t7(load(tmp_path / "model"), tmp_path / "model.t7")
    assert difference(t7.load(tmp_path / "model.t7"), source) is None


@pytest.mark.parametrize(
    "change", [lambda weight: weight.add_(1), lambda weight: weight.mul_(1 + 2**-20)]
)
def test_tied_weights_that_were_trained_apart_are_refused(
    change: Callable[[torch.Tensor], Any],
) -> None:
    weight = torch.arange(4.0).view(2, 2)
    network = convert(reread(linear(weight), linear(weight.t())))
    with torch.no_grad():
        network[0].weight.mul_(2)
        network[1].weight.mul_(2)
    # Both have changed alike: they are still one memory.
    assert np.array_equal(to_torch7(network)["modules"][1]["weight"], 2 * weight)
    with torch.no_grad():
        change(network[1].weight)
    with pytest.raises(ConversionError, match=r"weight: shares memory with another tensor"):
        to_torch7(network)


def test_a_tensor_that_is_more_than_a_buffer_is_kept() -> None:
    """Torch7 writes one tensor for `output` and another field; only the buffer is emptied."""
    shared = torch.ones(3)
    source = reread(linear(torch.eye(2), output=shared, target=shared, gradScale=shared))
    written = to_torch7(convert(source))["modules"][1]
    assert written["output"].size == 0
    assert np.array_equal(written["target"], shared)
    assert np.array_equal(written["gradScale"], shared)


def test_a_buffer_over_the_memory_of_a_weight_is_kept() -> None:
    """`nn.Constant` returns its value itself: what is emptied there would be no longer shared."""
    weight = torch.eye(2)
    network = convert(reread(linear(weight, output=weight)))
    with torch.no_grad():
        network[0].weight.mul_(3)
    written = t7.loads(t7.dumps(to_torch7(network)))["modules"][1]
    assert np.array_equal(written["output"], 3 * weight)
    assert written["output"].storage is written["weight"].storage
