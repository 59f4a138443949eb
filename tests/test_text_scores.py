"""Scores of language models: what they mean, how they are drawn, and whose error names the file.

Small graphs made by hand stand for exported steps.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support import FIXTURES
from torch import nn

from torchlift.cli.evaluate import evaluate_text
from torchlift.cli.model_options import FILE_DEFAULTS
from torchlift.converters import t7
from torchlift.converters.inference import InferenceError
from torchlift.converters.inference import text as inference_text
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.inference.text import (
    TextLoss,
    Tokenizer,
    open_language_model,
    sample_tokens,
    text_loss,
    torch_language_model,
)
from torchlift.converters.inference.text.language_model import log_softmax
from torchlift.converters.inference.text.onnx_language_model import (
    OnnxLanguageModel,
    _Interface,
    _interface,
)
from torchlift.converters.inference.text.sampling import _draw
from torchlift.converters.inference.text.torch_language_model import _log_probabilities
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.vocabulary import BYTES, UTF_8, Vocabulary

TOKENS = ("a", "b", "c")


def test_scores_are_logits_unless_they_are_probabilities() -> None:
    logits = np.array([[1.0, -2.0, 0.5]])
    expected = logits - math.log(sum(map(math.exp, logits[0])))
    for scores in (logits, logits + 1000, expected, np.exp(expected)):
        assert np.abs(log_softmax(scores) - expected).max() < 1e-12
    # Numbers that only nearly add up to 1, and such with a negative one, are logits.
    for scores in ([[0.5, 0.3, 0.15]], [[1.5, -0.7, 0.2]]):
        found = log_softmax(np.array(scores))
        assert np.exp(found).sum() == pytest.approx(1)
        assert np.diff(found[0]) == pytest.approx(np.diff(scores[0]))
    impossible = log_softmax(np.array([[1.0, 0.0, 0.0]]))
    assert impossible.tolist() == [[0.0, -math.inf, -math.inf]]
    with pytest.raises(InferenceError, match="not a number"):
        log_softmax(np.array([[0.0, math.nan]]))


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 4.0])
def test_a_temperature_divides_the_logarithms(temperature: float) -> None:
    """The middle of each class's share of the numbers from 0 to 1 draws it."""

    class Drawn:
        def __init__(self, number: float) -> None:
            self.number = number

        def random(self) -> float:
            return self.number

    logs = np.log([0.5, 0.2, 0.3])
    shares = np.exp(logs / temperature) / np.exp(logs / temperature).sum()
    middles = shares.cumsum() - shares / 2
    drawn = [_draw(logs, temperature, Drawn(one)) for one in middles]  # type: ignore[arg-type]
    assert drawn == [0, 1, 2]
    # However small the temperature is: then the logarithms are those of no number.
    for number in (0.0, 0.999):
        assert _draw(logs, temperature * 1e-5, Drawn(number)) == 0  # type: ignore[arg-type]


def test_a_perplexity_that_is_too_large_is_infinite() -> None:
    assert TextLoss(2, 3.0).perplexity == pytest.approx(math.exp(3))
    assert TextLoss(2, 709.0).perplexity < math.inf
    assert TextLoss(2, 710.0).perplexity == math.inf


def step(
    path: Path,
    scale: float = 1.0,
    axes: list[Any] | None = None,
) -> Path:
    """Write a step whose scores are a state plus a row a token, which is the new state too."""
    axes = axes or ["batch", 1]
    rows = np.array([[0, 0, 0], [0.0, 1, 2], [3, 0, 0], [0, 0, 4]], np.float32) * scale
    # In Torch7's networks of one step the states come first.
    outputs = [
        helper.make_tensor_value_info(f"out_{name}", TensorProto.FLOAT, ["batch", 3])
        for name in ("state", "scores")
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Squeeze", ["token", "axis"], ["flat"]),
            helper.make_node("Gather", ["rows", "flat"], ["row"]),
            helper.make_node("Add", ["row", "h"], ["out_state"]),
            helper.make_node("Identity", ["out_state"], ["out_scores"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("token", TensorProto.INT64, axes),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", 3]),
        ],
        outputs,
        [
            numpy_helper.from_array(rows, "rows"),
            numpy_helper.from_array(np.array([1 - axes.index("batch")]), "axis"),
        ],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    metadata = Metadata(output_kind="logits", vocabularies=[Vocabulary("vocab", TOKENS)])
    helper.set_model_props(model, metadata.to_props())
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("axes", [["batch", 1], [1, "batch"]])
def test_a_step_reads_one_token_at_a_time_and_keeps_its_state(
    axes: list[Any], tmp_path: Path
) -> None:
    model = open_language_model(step(tmp_path / "s.onnx", axes=axes), "cpu")
    assert model.vocabulary.tokens == TOKENS
    rows, states = model.read([0, 1, 2], model.start())
    logits = np.array([[0.0, 1, 2], [3, 1, 2], [3, 1, 6]])
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert np.abs(rows - expected).max() < 1e-6
    assert states[0].tolist() == [[3, 1, 6]]
    found = text_loss(model, [0, 1, 2])
    assert found.loss == pytest.approx(-(expected[0, 1] + expected[1, 2]) / 2, rel=1e-6)
    counted: list[int] = []
    long = [0, 1] * 200
    assert text_loss(model, long, counted.append).tokens == 400
    assert sum(counted) == 399
    # Each token counts alike, and what was read before counts at any length.
    assert text_loss(model, long[:257]).tokens == 257, "whole chunks, and nothing behind them"
    whole, _ = model.read(long[:-1], model.start())
    loss = -whole[np.arange(399), long[1:]].mean()
    assert text_loss(model, long).loss == pytest.approx(loss, rel=1e-9)


def test_each_of_several_states_goes_back_to_its_own_input() -> None:
    model = object.__new__(OnnxLanguageModel)
    states = {"state_1": (1, 1), "state_2": (1, 1)}
    model._interface = _Interface(
        "x", np.dtype(np.int64), 1, 0, True, 0, states, ["y", "new_state_1", "new_state_2"]
    )
    asked: list[Any] = []

    def run(outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        asked.append((outputs, feeds["x"].tolist()))
        return [np.zeros((1, 2)), feeds["state_1"] + 1, feeds["state_2"] * 3]

    model._run = run
    rows, after = model.read([0, 1, 0], [np.zeros((1, 1)), np.ones((1, 1))])
    assert rows.shape == (3, 2)
    assert [state.tolist() for state in after] == [[[3]], [[27]]]
    assert asked == [(["y", "new_state_1", "new_state_2"], [token]) for token in (1, 2, 1)]


def test_the_vocabulary_that_is_given_counts_over_that_of_the_file(tmp_path: Path) -> None:
    t7.save(t7.LuaTable({"vocab": t7.LuaTable.from_list(["x", "y", "z"])}), tmp_path / "v.t7")
    file = step(tmp_path / "s.onnx")
    model = open_language_model(file, "cpu", vocab=str(tmp_path / "v.t7"))
    assert model.vocabulary.tokens == ("x", "y", "z")
    assert (model.token_count, model.provider) == (3, "CPUExecutionProvider")


def test_what_is_no_model_of_a_text_names_its_file_once(tmp_path: Path) -> None:
    file = step(tmp_path / "s.onnx", scale=math.nan)
    with pytest.raises(Exception, match=r"s\.onnx is damaged, or its training diverged"):
        open_language_model(file, "cpu")
    file = step(tmp_path / "s.onnx")
    with pytest.raises(InferenceError, match=r"s\.onnx: at=… is for \.t7 files"):
        open_language_model(file, "cpu", at="model")
    other = FIXTURES / "0.1.0" / "model.onnx"
    with pytest.raises(InferenceError, match="no language model: it takes input ") as caught:
        open_language_model(other, "cpu")
    assert str(caught.value).startswith(str(other))
    assert str(caught.value).count("model.onnx") == 1


@pytest.mark.parametrize(("count", "more"), [(20, ""), (21, " and 1 more")])
def test_so_many_unknown_characters_are_listed(count: int, more: str) -> None:
    tokenizer = Tokenizer(Vocabulary("vocab", ("a", "b")))
    text = "".join(chr(ord("A") + number) for number in range(count))
    with pytest.raises(InferenceError, match=f"'T'{more}$"):
        tokenizer.encode(text.encode())


def test_a_low_temperature_still_draws_among_equals() -> None:
    """Only 0 takes the first of them."""
    equal: Any = SimpleNamespace(
        token_count=3,
        start=lambda: None,
        read=lambda tokens, states: (np.log([[0.45, 0.45, 0.1]]), states),
    )
    for temperature, drawn in ((0, {0}), (0.01, {0, 1})):
        assert set(sample_tokens(equal, [0], 40, temperature=temperature)) == drawn


def test_a_text_is_drawn_as_it_is_by_default() -> None:
    """With the temperature 1 and the seed 0."""
    uneven: Any = SimpleNamespace(
        token_count=3,
        start=lambda: None,
        read=lambda tokens, states: (np.log([[0.5, 0.3, 0.2]]), states),
    )
    drawn = list(sample_tokens(uneven, [0], 60))
    assert drawn == list(sample_tokens(uneven, [0], 60, temperature=1.0, seed=0))
    assert drawn != list(sample_tokens(uneven, [0], 60, seed=1))
    # 60 draws with these shares; a lower temperature would draw the last one half as often.
    expected = np.random.default_rng(0).random(60)
    assert drawn == np.searchsorted([0.5, 0.8], expected, side="right").tolist()


@pytest.mark.parametrize(
    ("tokens", "encoding", "is_words"),
    [
        (("a", "é", None, "\n"), UTF_8, False),
        (("a", "ab"), UTF_8, True),
        (("\xc3", "\xe2\x82", "\xf0\x9f\x98"), BYTES, False),
        # As many bytes as no character has, and a byte behind a whole character.
        (("\xf0\x9f\x98\x80\x80",), BYTES, True),
        (("\xff\xff\xff\xff",), BYTES, True),
        (("a\xff",), BYTES, True),
    ],
)
def test_words_have_more_than_one_character(
    tokens: tuple[str | None, ...], encoding: str, is_words: bool
) -> None:
    """A part of a character is none of its own."""
    assert Tokenizer(Vocabulary("vocab", tokens, encoding=encoding)).is_words is is_words


def test_words_are_joined_by_blanks_and_characters_by_nothing() -> None:
    for tokens, text in ((("the", "sea"), "the sea the"), (("a", "b"), "aba")):
        assert "".join(Tokenizer(Vocabulary("vocab", tokens)).texts([0, 1, 0])) == text


def test_a_loss_is_the_mean_over_all_tokens_but_the_first() -> None:
    """Also where the text is read in pieces of 256 tokens: none is left out, none counts twice."""
    logs = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.25, 0.5]]))
    model: Any = SimpleNamespace(start=lambda: 0, read=lambda read, n: (logs[read], n + len(read)))
    for count in (2, 3, 256, 257, 258, 513):
        tokens = np.random.default_rng(count).integers(0, 3, count).tolist()
        expected = -np.mean([logs[a, b] for a, b in pairwise(tokens)])
        found = text_loss(model, tokens)
        assert (found.tokens, found.loss) == (count, pytest.approx(expected, rel=1e-12))
    for tokens in ([], [0]):
        with pytest.raises(InferenceError, match="needs two tokens at least"):
            text_loss(model, tokens)


def test_a_line_ends_with_its_own_token_where_there_is_no_line_break() -> None:
    words = ("the", "<eos>", "sea")
    for tokens, text, places in (
        (words, b"the sea\nthe", [0, 2, 1, 0]),
        ((*words, "\n"), b"the sea", [0, 2]),
        # Of two equal tokens the first one counts, as in a search from the start.
        (("the", "sea", "the"), b"the sea the", [0, 1, 0]),
        (("a", "b", "a"), b"aba", [0, 1, 0]),
    ):
        assert Tokenizer(Vocabulary("vocab", tokens)).encode(text) == places
    with_break = Tokenizer(Vocabulary("vocab", (*words, "\n")))
    assert 1 not in with_break.encode(b"the sea\nthe\n")


@pytest.mark.parametrize("inputs", ["?:int64", "?xN:int64"])
def test_several_tokens_are_one_text_wherever_the_batch_is(
    inputs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(1, T) where the batch is in front, (T, 1) behind the steps; never T texts of one token."""
    shapes: list[tuple[int, ...]] = []

    class Network(nn.Embedding):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(input.shape))
            return super().forward(input)

    monkeypatch.setattr(torch_language_model, "token_sequence", lambda _: parse_inputs(inputs))
    model = torch_language_model._SequenceModel(Network(4, 3))
    rows, states = model.read([0, 2, 1], model.start())
    assert shapes[-1] == ((3, 1) if "N" in inputs else (1, 3))
    assert (rows.shape, states, model.token_count) == ((3, 3), [], 3)


@pytest.mark.parametrize(
    ("text", "problem"), [("abcab", ""), ("abxab", "x"), ("a", "at least"), ("", "")]
)
def test_what_is_wrong_with_a_text_names_it(
    text: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is a good one: it is the text that it does not know."""
    opened = SimpleNamespace(vocabulary=Vocabulary(TOKENS, "vocab"), provider="here")
    place = tmp_path / "t.txt"
    place.write_text(text, encoding="utf-8")
    monkeypatch.setattr(inference_text, "open_language_model", lambda *_, **__: opened)
    monkeypatch.setattr(inference_text, "text_loss", refuses_short)
    if text == "abcab":
        result = evaluate_text("m.t7", str(place), "cpu", None, FILE_DEFAULTS)
        assert result.data == {"tokens": 4, "loss": 0.5, "perplexity": pytest.approx(math.exp(0.5))}
    else:
        with pytest.raises(InferenceError, match=rf"t\.txt: .*{problem}"):
            evaluate_text("m.t7", str(place), "cpu", None, FILE_DEFAULTS)


def refuses_short(model: Any, tokens: np.ndarray, advance: Any) -> TextLoss:
    if len(tokens) < 2:
        raise InferenceError("at least two tokens were expected")
    return TextLoss(len(tokens) - 1, 0.5)


@pytest.mark.parametrize(
    ("prime", "length"), [([], 1), ([], 3), ([4, 2], 1), ([4, 2], 3), ([1], 0)]
)
def test_a_token_is_read_once_and_the_last_one_not_at_all(prime: list[int], length: int) -> None:
    """What nobody asks for is not computed: a step of a large network takes a second."""
    read: list[tuple[list[int], Any]] = []

    def expect(tokens: list[int], states: int) -> tuple[np.ndarray, int]:
        read.append((tokens, states))
        return np.eye(5)[[(token + 1) % 5 for token in tokens]], states + len(tokens)

    model = SimpleNamespace(token_count=5, start=lambda: 0, read=expect)
    written = list(sample_tokens(model, prime, length, temperature=0))
    first = (prime[-1] + 1) % 5 if prime else 0
    assert written == [(first + number) % 5 for number in range(length)]
    begin = [(prime, 0)] if prime else []
    assert read == begin + [
        ([token], len(prime) + number) for number, token in enumerate(written[:-1])
    ]


@pytest.mark.parametrize(
    ("outputs", "order"),
    [
        # By name, whatever their order, and otherwise the states first, as in Torch7's networks.
        ({"scores": [9], "new_s": [4]}, ["scores", "new_s"]),
        ({"new_s": [4], "scores": [9]}, ["scores", "new_s"]),
        ({"a": [4], "b": [9]}, ["b", "a"]),
        ({"a": [9], "b": [4]}, None),
        ({"a": [4]}, None),
        ({"a": [4], "b": [4], "c": [9]}, None),
    ],
)
def test_states_behind_a_step_are_told_by_name_or_by_their_sizes(
    outputs: dict[str, list[int]], order: list[str] | None
) -> None:
    def value(name: str, sizes: list[int], kind: str = "float") -> Any:
        return SimpleNamespace(name=name, type=f"tensor({kind})", shape=["batch", *sizes])

    runtime: Any = SimpleNamespace(
        get_inputs=lambda: [value("token", [], "int64"), value("s", [4])],
        get_outputs=lambda: [value(name, sizes) for name, sizes in outputs.items()],
    )
    if order is None:
        with pytest.raises(InferenceError, match="no language model: it takes token"):
            _interface(runtime)
        return
    found = _interface(runtime)
    assert (found.outputs, found.states) == (order, {"s": (1, 4)})


@pytest.mark.parametrize("row", [[0.1, 7.3, 2.0], [-0.1, 7.3, 2.0], [-4.0, -1.5, -9.0]])
def test_a_network_of_single_precision_gives_logarithms_of_double(row: list[float]) -> None:
    """Whatever the sign of its scores is, which decides who computes them."""
    scores = torch.tensor([row, row[::-1]])
    found = _log_probabilities(scores)
    assert found.dtype == np.float64
    exact = scores.numpy().astype(np.float64)
    expected = exact - np.log(np.exp(exact).sum(1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
