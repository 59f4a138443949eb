"""How language models are opened: their vocabulary, what they take, and where their states are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import t7
from torchlift.converters.inference import InferenceError
from torchlift.converters.inference.text import (
    onnx_language_model,
    open_language_model,
    torch_language_model,
)
from torchlift.converters.inference.text.language_model import choose_vocabulary
from torchlift.converters.inference.text.onnx_language_model import _interface
from torchlift.converters.inference.text.torch_language_model import _SequenceModel, _StepModel
from torchlift.converters.inference.text.vocabulary_file import read_vocabulary_file
from torchlift.converters.saved.token_steps import TokenStep
from torchlift.converters.t7 import LuaTable
from torchlift.converters.vocabulary import Vocabulary


def vocabulary(path: str, count: int) -> Vocabulary:
    return Vocabulary(path, tuple(chr(97 + number) for number in range(count)))


def test_the_vocabulary_has_as_many_tokens_as_the_network_tells_apart() -> None:
    """What the user names counts alone; of several the first that fits."""
    own = [vocabulary(".opt.two", 2), vocabulary("five", 5), vocabulary("three", 3)]
    own.append(vocabulary("other", 3))
    given = [vocabulary("mine", 2)]
    assert choose_vocabulary(None, own, 3) is own[2]
    assert choose_vocabulary(given, own, 2) is given[0]
    for candidates, count, said in (
        (given, 3, "tokens: the file of vocab=… has mine (2 tokens); vocab="),
        ([], 3, "tokens: the file of vocab=… has none; vocab="),
        (None, 1234, "network's 1,234 tokens: beside the model stands opt.two (2 tokens), five"),
    ):
        with pytest.raises(InferenceError) as caught:
            choose_vocabulary(candidates, own, count)
        assert said in str(caught.value)
    with pytest.raises(InferenceError, match="beside the model stands none"):
        choose_vocabulary(None, [], 2)


def runtime(token: tuple[str, list[Any]], **states: Any) -> Any:
    """A session that takes a token and states, and gives scores and new states."""

    def value(name: str, shape: list[Any], kind: str = "tensor(float)") -> Any:
        return SimpleNamespace(name=name, type=kind, shape=shape)

    kind, shape = token
    outputs = [value("scores", ["batch", 5])]
    outputs += [value(f"new_{name}", sizes) for name, sizes in states.items()]
    return SimpleNamespace(
        get_inputs=lambda: [
            value("token", shape, kind),
            *(value(name, sizes) for name, sizes in states.items()),
        ],
        get_outputs=lambda: outputs,
    )


@pytest.mark.parametrize(
    ("token", "encoded", "one_step"),
    [
        (("tensor(int64)", ["batch"]), [2, 1], False),
        (("tensor(float)", ["batch"]), [2, 1], False),
        (("tensor(int32)", ["batch", 1]), [[2, 1]], True),
        (("tensor(int64)", [1, "batch"]), [[2], [1]], True),
        (("tensor(int64)", ["batch", "steps"]), [[2, 1]], False),
        (("tensor(int64)", ["steps", "batch"]), [[2], [1]], False),
        (("tensor(int64)", ["batch", 7]), [[2, 1]], False),
        # Where no axis is called so, the batch is the first.
        (("tensor(int64)", ["n", "t"]), [[2, 1]], False),
        (("tensor(int64)", ["n", 1]), [[2, 1]], True),
        # A row with a 1 in the place of the token.
        (("tensor(float)", ["batch", 3]), [[0, 1, 0], [1, 0, 0]], False),
        (("tensor(double)", ["batch", 3]), [[0, 1, 0], [1, 0, 0]], False),
    ],
)
def test_tokens_are_numbers_from_1_or_rows_with_a_1(
    token: tuple[str, list[Any]], encoded: list[Any], one_step: bool
) -> None:
    found = _interface(runtime(token, h=["batch", 4], c=["batch", 2, 3]))
    tokens = found.encode([1, 0])
    assert tokens.tolist() == encoded
    kinds = {"int64": "int64", "int32": "int32", "float": "float32", "double": "float64"}
    assert tokens.dtype == kinds[token[0][7:-1]]
    assert found.is_one_step is one_step
    assert found.states == {"h": (1, 4), "c": (1, 2, 3)}
    assert found.outputs == ["scores", "new_h", "new_c"]


@pytest.mark.parametrize(
    ("token", "fed"),
    [
        (("tensor(int64)", ["batch"]), [[2], [1], [3]]),
        (("tensor(int64)", ["batch", 1]), [[[2]], [[1]], [[3]]]),
        (("tensor(float)", ["batch", 3]), [[[0, 1, 0]], [[1, 0, 0]], [[0, 0, 1]]]),
        (("tensor(int64)", ["batch", "steps"]), [[[2, 1, 3]]]),
        (("tensor(int64)", ["steps", "batch"]), [[[2], [1], [3]]]),
    ],
)
def test_a_step_gets_one_token_at_a_time_and_a_sequence_all(token: Any, fed: list[Any]) -> None:
    """Each with the states behind the one before."""
    seen: list[Any] = []

    def run(outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        seen.append(feeds)
        count = 3 if len(fed) == 1 else 1
        scores = [np.zeros((1, count, 5), np.float32), feeds["h"] + count]
        return [scores[outputs.index(name)] for name in ("scores", "new_h")]

    model = object.__new__(onnx_language_model.OnnxLanguageModel)
    model._interface, model._run = _interface(runtime(token, h=["batch", 1])), run
    rows, (state,) = model.read([1, 0, 2], [np.zeros((1, 1), np.float32)])
    assert [feeds["token"].tolist() for feeds in seen] == fed
    assert [feeds["h"].item() for feeds in seen] == list(range(len(fed)))
    assert (rows.shape, state.item()) == ((3, 5), 3)


@pytest.mark.parametrize(
    ("token", "states"),
    [
        (("tensor(int64)", ["batch", 1, 1]), {"h": ["batch", 4]}),
        (("tensor(string)", ["batch"]), {"h": ["batch", 4]}),
        # Of a state more than the batch is open, or there is none.
        (("tensor(int64)", ["batch"]), {"h": ["batch", "width"]}),
        (("tensor(int64)", ["batch"]), {"h": ["batch"]}),
        (("tensor(int64)", ["batch"]), {}),
    ],
)
def test_other_files_are_no_language_models(token: Any, states: Any) -> None:
    with pytest.raises(InferenceError, match="no language model: "):
        _interface(runtime(token, **states))


@pytest.mark.parametrize(
    ("outputs", "order"),
    [
        (["h", "c", "scores"], ["scores", "h", "c"]),
        (["new_c", "scores", "new_h"], ["scores", "new_h", "new_c"]),
        # One name alone tells nothing: the states come first, and the widths must be theirs.
        (["new_c", "c", "scores"], ["scores", "new_c", "c"]),
    ],
)
def test_new_states_have_their_names_or_come_first(outputs: list[str], order: list[str]) -> None:
    session = runtime(("tensor(int64)", ["batch"]), h=["batch", 4], c=["batch", 4])
    widths = {"scores": 9}
    values = [
        SimpleNamespace(name=name, type="tensor(float)", shape=["batch", widths.get(name, 4)])
        for name in outputs
    ]
    session.get_outputs = lambda: values
    assert _interface(session).outputs == order
    values[0].shape = ["batch", 5]
    if not {"new_h", "new_c"} <= set(outputs):
        with pytest.raises(InferenceError, match="no language model: "):
            _interface(session)


class Step(nn.Module):
    """Counts in its state; scores are the rows of its weight, at the places of its tokens."""

    def __init__(self, is_one_hot: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
        )
        self.is_one_hot = is_one_hot

    def forward(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        token, count = inputs
        rows = token @ self.weight if self.is_one_hot else self.weight[token - 1]
        return [count + 1, rows]


@pytest.mark.parametrize("is_one_hot", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_takes_its_tokens_one_by_one(is_one_hot: bool, dtype: torch.dtype) -> None:
    """Probabilities are what its network gives, in the dtype of its weights."""
    step = Step(is_one_hot).to(dtype)
    model = _StepModel(step, TokenStep((2,), 3, is_one_hot))
    assert model.token_count == 3
    assert [(state.tolist(), state.dtype) for state in model.start()] == [([[0, 0]], dtype)]
    rows, states = model.read([2, 0], model.start())
    np.testing.assert_allclose(np.exp(rows), [[0.2, 0.2, 0.6], [0.5, 0.2, 0.3]], atol=1e-6)
    assert rows.dtype == np.float64
    assert states[0].tolist() == [[2, 2]]
    assert model.start()[0].tolist() == [[0, 0]]


class Memory(nn.Module):
    """Keeps the sum of what it was given, as torch-rnn's layers keep their states."""

    num_states, memory = 1, None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.memory is None:
            return inputs
        before = self.memory[0] if self.memory else torch.zeros(1, 3)
        sums = inputs.cumsum(1) + before[:, None]
        self.memory = [sums[:, -1]]
        return sums


class Sequence(nn.Sequential):
    """Logits of tokens are what its layer has summed up; `shown` says of which tokens."""

    shown: Any = slice(None)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = super().forward(inputs - 1)
        return rows[:, self.shown]


def test_states_are_the_callers_and_not_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.tensor([[0.0, -1, 2], [3, 0, 0], [0, 0, -4]])
    network = Sequence(nn.Embedding.from_pretrained(weight), Memory())
    shapes = SimpleNamespace(leaves=lambda: [SimpleNamespace(batch_axis=0)])
    monkeypatch.setattr(torch_language_model, "token_sequence", lambda _: shapes)
    model = _SequenceModel(network)
    assert model.token_count == 3
    first, states = model.read([0], model.start())
    rest, after = model.read([1, 2], states)
    logits = np.array([[0.0, -1, 2], [3, -1, 2], [3, -1, -2]])
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(np.concatenate([first, rest]), expected, atol=1e-6)
    # Those from before are as they were, and the network keeps none.
    assert (states[0][0].tolist(), after[0][0].tolist()) == ([[0, -1, 2]], [[3, -1, -2]])
    assert network[1].memory is None
    # A network that scores the last token alone reads no text token by token.
    network.shown = slice(-1, None)
    with pytest.raises(InferenceError, match="no model of a text's characters or words"):
        model.read([0, 1], model.start())
    assert network[1].memory is None


def test_a_step_runs_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its operators are too small to share."""
    asked: list[Any] = []

    def refuse(*given: Any, **named: Any) -> None:
        asked.append((given, named))
        raise InferenceError("seen")

    monkeypatch.setattr(onnx_language_model, "open_session", refuse)
    for name in ("m.onnx", "M.ONNX"):
        with pytest.raises(InferenceError, match=f"^{re.escape(name)}: seen$"):
            open_language_model(name, "cuda:1")
        assert asked.pop() == ((name, "cuda:1"), {"threads": 1})


def test_a_file_with_a_colon_in_its_name_is_not_taken_apart(tmp_path: Path) -> None:
    tokens = LuaTable.from_list(["a", "b"])
    t7.save(LuaTable({"vocab": tokens}), tmp_path / "a:vocab.t7")
    for name, places in (("a:vocab.t7", "vocab"), ("a:vocab.t7:vocab", "vocab")):
        (found,) = read_vocabulary_file(str(tmp_path / name))
        assert (found.tokens, found.lua_path.lstrip(".")) == (("a", "b"), places)
    with pytest.raises(t7.T7Error, match=r"a:vocab\.t7"):
        read_vocabulary_file(str(tmp_path / "a:vocab.t7:nothing"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", r"v\.json: no JSON: "),
        ("[" * 100_000, r"v\.json: no JSON: "),
        ('{"epoch": 3}', r"v\.json: no vocabulary: a table of tokens with numbers was expected"),
        ("5", "v.json: no vocabulary: "),
        ('"ab"', "v.json: no vocabulary: "),
    ],
)
def test_json_without_a_vocabulary_is_named(content: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "v.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InferenceError, match=problem):
        read_vocabulary_file(str(file))
    file.write_text(json.dumps({"words": ["é", "b"]}), encoding="utf-8")
    assert read_vocabulary_file(str(file))[0].tokens == ("é", "b")
    file = file.rename(tmp_path / "V.JSON")
    file.write_text(json.dumps({"in": {"vocab": {"a": 1, "b": 2}}}), encoding="utf-8")
    (found,) = read_vocabulary_file(f"{file}:in.vocab")
    assert (found.tokens, found.lua_path) == (("a", "b"), "in.vocab")


def test_a_file_that_is_no_t7_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "m.t7").write_bytes(b"no object at all")
    with pytest.raises(t7.T7Error, match=r"m\.t7"):
        open_language_model(tmp_path / "m.t7", "cpu")


def test_what_is_said_of_a_file_is_passed_on_and_errors_name_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v.json").write_text('{"words": ["a", "b"]}', encoding="utf-8")
    asked: list[Any] = []

    def fail(path: Path, provider: str, given: Any, at: str | None) -> None:
        asked.append((path, provider, [one.tokens for one in given or ()], at))
        raise InferenceError("no model" if at is None else f"{path}: no model")

    monkeypatch.setattr(torch_language_model, "open_torch_language_model", fail)
    file = tmp_path / "m.t7"
    for options, expected in (
        ({"vocab": str(tmp_path / "v.json"), "at": "nets[2]"}, ([("a", "b")], "nets[2]")),
        ({}, ([], None)),
    ):
        with pytest.raises(InferenceError) as caught:
            open_language_model(file, "cuda:1", **options)
        assert str(caught.value) == f"{file}: no model"
        assert asked.pop() == (file, "cuda:1", *expected)
    with pytest.raises(InferenceError, match=r"at=… is for \.t7 files$"):
        open_language_model(tmp_path / "m.ONNX", at="a")
