"""What stands beside a model never makes its conversion fail: it is used, or named in a note."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_support import (
    image_network,
    linear,
    lua,
    lua_list,
    module,
    numbers,
    sequential,
    write,
)

from torchlift.converters import saved
from torchlift.converters.errors import LabelsError
from torchlift.converters.images import PreprocessingError
from torchlift.converters.labels import read_labels
from torchlift.converters.saved.beside import read_beside
from torchlift.converters.t7 import LuaObject, LuaTable

NET = image_network()
VECTORS = sequential(linear(8, 3), module("nn.LogSoftMax"))


@pytest.mark.parametrize(
    "classes",
    [
        lua(cat=1, dog=2, owl=3),
        lua(cat=0, dog=1, owl=2),
        lua_list("cat", "dog", "owl"),
        LuaTable({"1": "cat", "2": "dog", "3": "owl"}),
        LuaTable({0: "cat", 1: "dog", 2: "owl"}),
        LuaObject("tds.Vec", lua_list("cat", "dog", "owl")),
        LuaObject("tds.Hash", lua(dog=2, cat=1, owl=3)),
    ],
)
@pytest.mark.parametrize("key", ["classes", "labels", "class_to_idx", "synset", "synset_words"])
def test_class_names_of_every_shape_are_used(key: str, classes: Any, tmp_path: Path) -> None:
    for value in (lua(model=NET, **{key: classes}), lua(state=lua(model=NET, **{key: classes}))):
        assert saved.open_model(write(value, tmp_path)).labels == ["cat", "dog", "owl"]


@pytest.mark.parametrize(
    "beside",
    [
        {"labels": LuaTable()},
        {"labels": lua_list(*range(49))},
        {"labels": np.arange(49)},
        {"classes": lua_list("cat", "dog")},
        {"classes": lua(cat=1, dog=1, owl=2)},
        {"mean": numbers(3, 8, 8), "std": numbers(3, 8, 8)},
        {"mean": numbers(8), "std": numbers(8)},
        {"mean": lua(y=1, u=2, v=3)},
        {"mean": lua(y=lua_list(1), u=2, v=3), "std": lua(y=1, u=2, v=3)},
        {"mean": 0, "std": 1},
        {"mean": lua_list(1, 2, 3), "std": lua_list(1, 0, 1)},
        {"mean_file": "mean.t7"},
        {"opt": lua(preprocessing="whitened")},
        {"zca": numbers(8, 8)},
        {"vocab": lua(a=1, b=1)},
        {"idx_to_token": lua_list(0.5, 1.5)},
        {"dicts": lua(src=lua(size=3))},
        {"opt": lua(std=0.02)},
        {"labels": lua_list(1, 1, 2)},
    ],
)
@pytest.mark.parametrize("network", [NET, VECTORS])
def test_what_is_not_understood_is_named_in_a_note(
    beside: dict[str, Any], network: LuaObject, tmp_path: Path
) -> None:
    model = saved.open_model(write(lua(model=network, **beside), tmp_path))
    assert model.labels is None
    assert model.preprocessing is None
    key = next(iter(beside))
    assert [note for note in model.notes if key in note or "mean and std" in note], model.notes


def test_an_unnamed_vocabulary_has_a_token_for_each_number(tmp_path: Path) -> None:
    """A list of ten tokens and more is one, unless a number between them means nothing."""
    tokens = {f"token {number}": number for number in range(1, 13)}
    found = saved.open_model(write(lua_list(NET, lua(**tokens)), tmp_path)).vocabularies
    assert [len(one.tokens) for one in found] == [12]
    tokens["token 12"] = 13
    assert not saved.open_model(write(lua_list(NET, lua(**tokens)), tmp_path)).vocabularies


@pytest.mark.parametrize(
    ("checkpoint", "mean", "labels"),
    [
        (lua(model=NET, transform=lua(mean=0.5, std=0.25)), (0.5,), None),
        (lua(model=NET, preproc=lua(mean=0.5, std=0.25)), (0.5,), None),
        (lua(model=NET, t=LuaObject("my.T", lua(mean=0.5, std=0.25))), (0.5,), None),
        (lua(model=NET, dataset=lua(classes=lua_list("a", "b", "c"))), None, ["a", "b", "c"]),
        (lua_list(NET, lua(mean=0.5, std=0.25, labels=np.arange(9))), (0.5,), None),
        (lua_list(NET, lua_list("a", "b", "c")), None, ["a", "b", "c"]),
        (lua(model=NET, log=lua(avg=0.9)), None, None),
    ],
)
def test_tables_of_any_name_are_looked_into(
    checkpoint: LuaTable, mean: tuple[float, ...] | None, labels: list[str] | None, tmp_path: Path
) -> None:
    model = saved.open_model(write(checkpoint, tmp_path))
    assert (None if model.preprocessing is None else model.preprocessing.mean) == mean
    assert model.labels == labels


@pytest.mark.parametrize(
    ("checkpoint", "path"),
    [
        (lua(model=NET, data=lua(mean=lua_list(0.4, 0.5, 0.6))), "data.mean"),
        (lua(model=NET, data=lua(mean=numbers(3, 8, 8), std=0.5)), "data "),
        (lua_list(NET, lua_list(0.4, 0.5, 0.6)), "[2]"),
        (lua_list(NET, lua_list("a", "b")), "[2]"),
    ],
)
def test_what_such_tables_hold_and_is_not_used_is_named(
    checkpoint: LuaTable, path: str, tmp_path: Path
) -> None:
    model = saved.open_model(write(checkpoint, tmp_path))
    assert [note for note in model.notes if note.startswith(f"{path}")], model.notes


CAFFE = (103.939, 116.779, 123.68)


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({"mean": lua_list(0.4, 0.5, 0.6)}, ((0.4, 0.5, 0.6), (1.0,), "RGB", 1)),
        ({"mean": 117.0}, ((117.0,), (1.0,), "RGB", 255)),
        ({"meanstd": lua(mean=0.5, std=0.25)}, ((0.5,), (0.25,), "RGB", 1)),
        ({"mean_std": lua_list(0.5, 0.25)}, ((0.5,), (0.25,), "RGB", 1)),
        ({"stat": lua(mean=0.5, std=0.25)}, ((0.5,), (0.25,), "RGB", 1)),
        ({"normalize_mean": 0.45, "normalize_std": 0.25}, ((0.45,), (0.25,), "RGB", 1)),
        ({"pixelMeans": lua_list(0.4, 0.5, 0.6)}, ((0.4, 0.5, 0.6), (1.0,), "RGB", 1)),
        ({"img_mean": np.array([1.0, 2, 3])}, ((1.0, 2.0, 3.0), (1.0,), "RGB", 255)),
        ({"mean": lua_list(*CAFFE)}, (CAFFE, (1.0,), "BGR", 255)),
        ({"opt": lua(preprocessing="vgg")}, (CAFFE, (1.0,), "BGR", 255)),
        ({"opt": lua(mean=lua_list(0.5), std=lua_list(0.5))}, ((0.5,), (0.5,), "RGB", 1)),
    ],
)
def test_mean_and_std_of_every_spelling_are_used(
    beside: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    model = saved.open_model(write(lua(model=NET, **beside), tmp_path))
    found = model.preprocessing
    assert found is not None, model.notes
    assert (found.mean, found.std, found.color, found.value_range) == expected


def test_a_network_of_no_images_has_no_mean(tmp_path: Path) -> None:
    """A generator takes noise; the mean beside it is of what it makes."""
    model = saved.open_model(write(lua(G=VECTORS, normalize_mean=0.45), tmp_path))
    assert model.preprocessing is None
    assert "mean and std beside the model are left out: it takes no images" in model.notes


@pytest.mark.parametrize("said", [{"mean": "0.5"}, {"color": "BGR"}])
def test_what_is_said_of_the_images_of_a_network_of_vectors_is_refused(
    said: dict[str, Any], tmp_path: Path
) -> None:
    """It is not kept for images that no command could give to the network."""
    with pytest.raises(PreprocessingError, match="takes 8, no images"):
        saved.open_model(write(lua(model=VECTORS), tmp_path), **said)


def test_labels_of_examples_beside_class_names_do_not_take_their_place(tmp_path: Path) -> None:
    examples = lua_list(*("cat" if number % 2 else "dog" for number in range(49)))
    for key in ("classes", "class_names", "labelNames"):
        checkpoint = LuaTable({"labels": examples, "model": NET, key: lua_list("a", "b", "c")})
        assert saved.open_model(write(checkpoint, tmp_path)).labels == ["a", "b", "c"]


def test_class_names_that_are_digits_are_the_names(tmp_path: Path) -> None:
    digits = LuaTable({"7": 1, "8": 2, "9": 3})
    assert saved.open_model(write(lua(model=NET, classes=digits), tmp_path)).labels == [
        *("7", "8", "9")
    ]


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_mean_std_file_may_be_json_or_yaml(suffix: str, tmp_path: Path) -> None:
    network, file = write(NET, tmp_path), tmp_path / f"pixels.{suffix}"
    texts = {
        "json": '{"mean": [0.4, 0.5, 0.6], "std": 0.25}',
        "yaml": "mean: [0.4, 0.5, 0.6]\nstd: 0.25\n",
    }
    file.write_text(texts[suffix])
    found = saved.open_model(network, mean_std=file).preprocessing
    assert found is not None
    assert (found.mean, found.std) == ((0.4, 0.5, 0.6), (0.25,))
    for damaged in ("{", "[1, 2, 3]", '{"std": 1}', '{"mean": "x"}', '{"mean": [1, {}]}'):
        file.write_text(damaged)
        with pytest.raises(PreprocessingError, match=f"pixels.{suffix}: "):
            saved.open_model(network, mean_std=file)


def test_a_table_with_a_mean_alone_has_a_std_of_1(tmp_path: Path) -> None:
    network = write(NET, tmp_path)
    for table in (lua(mean=lua_list(100, 110, 120)), lua_list(lua_list(100, 110, 120), 1)):
        found = saved.open_model(network, mean_std=write(table, tmp_path, "s.t7")).preprocessing
        assert found is not None
        assert (found.mean, found.std) == ((100.0, 110.0, 120.0), (1.0,))


def test_a_lua_file_of_names_is_read_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "imagenet.lua"
    file.write_text(
        '-- The classes.\nlocal list = {\n  \'tench, Tinca tinca\',\n  "cock\'s \\"comb\\"",\n'
        "  [3] = [[owl]], --[[ the\n last ]]\n}\nreturn {'fox'}\n"
    )
    assert read_labels(file) == ["tench, Tinca tinca", 'cock\'s "comb"', "owl", "fox"]
    file.write_text("return { [1] = {[2] = 'b', [1] = 'a'}, [2] = {'c'}, 'd' }\n")
    assert read_labels(file) == ["a", "b", "c", "d"]
    file.write_text("return {\n 'cat',\n os.execute('rm'),\n}\n")
    with pytest.raises(LabelsError, match=r"imagenet\.lua: line 3: a Lua table of names"):
        read_labels(file)


def test_a_t7_of_names_is_known_by_its_content(tmp_path: Path) -> None:
    assert read_labels(write(lua_list("cat", "dog"), tmp_path, "names.t7b")) == ["cat", "dog"]


def test_of_several_numbers_the_nearest_and_those_of_one_table_count() -> None:
    network, numbers = LuaObject("nn.Tanh"), {"mean": 0.5, "std": 0.25}
    others = {"mean": 0.1, "std": 0.2}
    inner = LuaTable({"net": network, **numbers})
    found = read_beside(LuaTable({"inner": inner, **others}), "inner.net").normalization
    assert found is not None
    assert (found.mean, found.std) == ((0.5,), (0.25,))
    found = read_beside(LuaTable({"net": network, "stats": LuaTable(numbers), **others}), "net")
    assert found.normalization is not None
    assert found.normalization.mean == (0.5,)
    # Whether there is one is no mean.
    found = read_beside(LuaTable({"net": network, "mean": True, "classes": False}), "net")
    assert (found.normalization, found.notes) == (None, [])
