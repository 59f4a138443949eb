"""Vocabularies beside or in a model are carried, byte by byte, into config.json and the .onnx."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from checkpoint_support import image_network, lua, lua_list, module, write

from torchlift.converters import saved, t7
from torchlift.converters.inference import InferenceError
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.inference.text.vocabulary_file import read_vocabulary_file
from torchlift.converters.onnx import check, export
from torchlift.converters.saved.beside import read_beside
from torchlift.converters.saved.vocabularies import is_vocabulary_key, vocabularies_in
from torchlift.converters.t7 import LuaObject, LuaTable
from torchlift.converters.vocabulary import Vocabulary

NET = image_network()
WORDS = lua_list("the", "sea", "é")

#: A character model of a text with é, which Lua takes apart: two tokens that are no characters.
BYTES = LuaTable({"a": 1, b"\xc3": 2, b"\xa9": 3, "\n": 4})


@pytest.mark.parametrize(
    ("beside", "path"),
    [
        ({"vocab": lua(the=1, sea=2, é=3)}, "vocab"),
        ({"vocab": LuaTable({"1": "the", "2": "sea", "3": "é"})}, "vocab"),
        ({"ivocab": WORDS}, "ivocab"),
        ({"word2id": lua(the=1, sea=2, é=3), "id2word": WORDS}, "word2id"),
        ({"opt": lua(idx_to_token=WORDS)}, "opt.idx_to_token"),
        ({"ix_to_word": LuaObject("tds.Vec", WORDS)}, "ix_to_word"),
        ({"dicts": lua(src=lua(words=LuaObject("Dict", lua(idxToLabel=WORDS))))}, None),
        ({"dictionary": LuaObject("Dictionary", lua(index_to_symbol=WORDS, cutoff=15))}, None),
    ],
)
def test_the_tokens_are_found_in_every_layout(
    beside: dict[str, Any], path: str | None, tmp_path: Path
) -> None:
    model = saved.open_model(write(lua(model=NET, **beside), tmp_path))
    [found] = model.vocabularies
    assert (found.tokens, found.first_index) == (("the", "sea", "é"), 1)
    assert found.lua_path == path or path is None
    assert not [note for note in model.notes if "left out" in note]


def test_a_model_may_keep_its_vocabulary_itself() -> None:
    """As torch-rnn's does, in both directions."""
    tokens = {"idx_to_token": lua_list("a", "b"), "token_to_idx": lua(a=1, b=2)}
    model = module("nn.LanguageModel", **tokens)
    for value, path in ((model, "model"), (lua(net=model), "net")):
        [found] = read_beside(value, path).vocabularies
        assert (found.lua_path, found.tokens) == (f"{path}.idx_to_token", ("a", "b"))


def test_a_list_without_names_has_its_vocabulary_by_its_shape() -> None:
    tokens = lua_list(*"abcdefghijkl")
    value = lua_list(NET, lua(rnn_size=20, num_layers=2), tokens, 7, lua_list("a", "b"))
    assert [one.lua_path for one in read_beside(value, "[1]").vocabularies] == ["[3]"]


def test_numbers_without_a_token_and_numbers_from_zero() -> None:
    value = lua(model=NET, vocab=lua(a=0, b=1, d=3), chars=lua(a=5, b=500))
    beside = read_beside(value, "model")
    assert beside.vocabularies == [Vocabulary("vocab", ("a", "b", None, "d"), 0)]
    assert beside.notes == ["chars beside the model is left out: no tokens with numbers"]


def test_tokens_that_are_bytes_survive_saving_and_exporting(tmp_path: Path) -> None:
    file = write(lua(model=NET, vocab=BYTES), tmp_path)
    expected = {1: b"a", 2: b"\xc3", 3: b"\xa9", 4: b"\n"}
    assert {number: t7.load(file)["vocab"][key] for number, key in ((2, b"\xc3"),)} == {2: 2}
    model = saved.open_model(file)
    saved.save(model, tmp_path / "saved")
    json.loads((tmp_path / "saved" / "config.json").read_bytes().decode("utf-8"))
    export(model, tmp_path / "net.onnx")
    props = {one.key: one.value for one in onnx.load(tmp_path / "net.onnx").metadata_props}
    kept = Metadata.from_props(props).vocabularies
    for vocabularies in (model.vocabularies, saved.load(tmp_path / "saved").vocabularies, kept):
        assert vocabularies is not None
        assert {number: vocabularies[0].as_bytes(number) for number in expected} == expected
    with pytest.raises(KeyError):
        model.vocabularies[0].as_bytes(5)


def test_texts_among_bytes_are_bytes_too() -> None:
    """The characters of a vocabulary of bytes stand for one byte each."""
    mixed = lua_list("a", b"\xc3", "é", *"bcdefghi")
    [found] = read_beside(lua(model=NET, vocab=mixed), "model").vocabularies
    assert (found.encoding, found.tokens[:3]) == ("latin-1", ("a", "Ã", "Ã©"))
    assert [found.as_bytes(number) for number in (2, 3)] == [b"\xc3", "é".encode()]


def test_check_compares_the_tokens(tmp_path: Path) -> None:
    model = saved.open_model(write(lua(model=NET, vocab=lua(a=1, b=2)), tmp_path))
    export(model, tmp_path / "net.onnx")
    assert check(model, tmp_path / "net.onnx").passed
    other = replace(model, vocabularies=[Vocabulary("vocab", ("b", "a"))])
    report = check(other, tmp_path / "net.onnx")
    assert [finding.name for finding in report.findings if not finding.passed] == ["vocabularies"]


@pytest.mark.parametrize(
    "change",
    [
        {"entries": ["a", 5]},
        {"entries": ["ā"], "encoding": "latin-1"},
        {"encoding": "utf-16"},
        {"first_index": -1},
        {"lua_path": None},
    ],
)
def test_a_damaged_vocabulary_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    model = saved.open_model(write(lua(model=NET, vocab=lua(a=1, b=2)), tmp_path))
    saved.save(model, tmp_path / "saved")
    file = tmp_path / "saved" / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["vocabularies"][0] |= change
    file.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(saved.SavedModelError, match=r"config\.json: damaged: vocabularies\[0\]"):
        saved.load(tmp_path / "saved")


@pytest.mark.parametrize(
    ("count", "first", "is_taken"), [(10, 1, True), (10, 0, True), (9, 1, False), (10, 2, False)]
)
def test_a_list_without_a_name_is_a_vocabulary_if_it_cannot_be_options(
    count: int, first: int, is_taken: bool
) -> None:
    words = LuaTable({f"word {number}": first + number for number in range(count)})
    checkpoint = LuaTable({1: LuaObject("nn.Tanh"), 2: words})
    found = read_beside(checkpoint, "[1]").vocabularies
    assert [len(one.tokens) for one in found] == [count] * is_taken


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("v.json", "{1", "v.json: no JSON: "),
        ("v.json", "[" * 100_000, "v.json: no JSON: "),
        ("v.json", "5", "v.json: no vocabulary: a table of tokens with numbers was expected"),
        ("v.json", "[1, 2]", "v.json: no vocabulary"),
        ("v.t7", {"a": 1.5}, "v.t7: no vocabulary"),
        ("v.t7:a", {"a": 1.5}, "v.t7:a: no vocabulary"),
        ("v.t7:b", {"a": 1.5}, r"v.t7: there is no \.b here; it has \.a"),
    ],
)
def test_a_file_without_a_vocabulary_is_named(
    name: str, content: Any, problem: str, tmp_path: Path
) -> None:
    file = tmp_path / name.partition(":")[0]
    if isinstance(content, str):
        file.write_text(content, encoding="utf-8")
    else:
        t7.save(LuaTable(content), file)
    kind = t7.T7Error if "there is no" in problem else InferenceError
    with pytest.raises(kind, match=problem):
        read_vocabulary_file(str(tmp_path / name))


def test_a_vocabulary_is_a_file_or_a_value_in_one(tmp_path: Path) -> None:
    two = t7.LuaTable({"a": t7.LuaTable.from_list(["x", "y"]), "b": t7.LuaTable({"z": 1, "w": 2})})
    for name in ("two.t7", "with:colon.t7"):
        t7.save(two, tmp_path / name)
        found = read_vocabulary_file(str(tmp_path / name))
        assert [(one.lua_path.lstrip("."), one.tokens) for one in found] == [
            ("a", ("x", "y")),
            ("b", ("z", "w")),
        ]
    (inner,) = read_vocabulary_file(f"{tmp_path}/two.t7:b")
    assert (inner.lua_path, inner.tokens) == ("b", ("z", "w"))
    (tmp_path / "v.JSON").write_text('{"idx_to_token": {"1": "p", "2": "q"}}', encoding="utf-8")
    (tmp_path / "list.json").write_text('[1, {"itoc": {"1": "p", "2": "q"}}]', encoding="utf-8")
    for file in ("v.JSON", "list.json"):
        (named,) = read_vocabulary_file(f"{tmp_path}/{file}")
        assert named.tokens == ("p", "q")


@pytest.mark.parametrize(
    "key",
    [
        *("vocab", "Vocabulary", "ivocab", "nvvocab", "vocab_map", "dict", "dicts", "dictionaries"),
        *("alphabet", "charset", "words", "chars", "characters", "tokens", "symbols", "itow"),
        *("wtoi", "itoc", "ctoi", "idx_to_token", "ix2word", "word2id", "char_to_index"),
        *("ans_to_ix", "i2w", "c2i", "token2n"),
    ],
)
def test_a_vocabulary_is_known_by_its_key(key: str) -> None:
    assert is_vocabulary_key(key)


@pytest.mark.parametrize("key", ["epoch", "word", "dictum", "words_seen", "to_token", "idx", 5])
def test_other_keys_are_those_of_no_vocabulary(key: Any) -> None:
    assert not is_vocabulary_key(key)


def test_so_many_vocabularies_are_taken_and_those_inside_a_network_are_not() -> None:
    tables = {f"t{number:03}": lua_list("a", "b", f"c{number}") for number in range(101)}
    found = vocabularies_in(LuaTable(tables), "dicts")
    assert len(found) == 100
    assert (found[0].lua_path, found[99].lua_path) == ("dicts.t000", "dicts.t099")
    inside = lua(net=module("nn.Tanh", words=WORDS), words=WORDS)
    assert [one.lua_path for one in vocabularies_in(inside, "dicts")] == ["dicts.words"]
    # The two directions of one are one.
    both = lua(idx_to_token=WORDS, token_to_idx=lua(the=1, sea=2, é=3))
    assert [one.tokens for one in vocabularies_in(both, "dicts")] == [("the", "sea", "é")]
    # A table that stands in itself has an end.
    inside["self"] = inside
    assert len(vocabularies_in(inside, "dicts")) == 1
