"""Texts of converted language models: Lua's own characters, its losses, in PyTorch and ONNX.

What is protected: that states are carried from token to token, that tokens are spelled as the file
spells them, that draws follow the softmax, and that nothing unknown is passed over.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from project_support import folders
from support import SHARED
from torch import nn

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.inference import InferenceError, ProviderError
from torchlift.converters.inference.text import (
    Tokenizer,
    open_language_model,
    sample_tokens,
    text_loss,
)
from torchlift.converters.inference.text.sampling import _draw
from torchlift.converters.inference.text.torch_language_model import language_model_of
from torchlift.converters.saved import SavedModel
from torchlift.converters.saved.token_steps import memory_layers
from torchlift.converters.vocabulary import BYTES, Vocabulary

#: The mean of float32 losses, computed in another order of summation.
LOSS = 1e-5


def project(name: str) -> Path:
    """Return a checkpoint of the fixtures; the test is skipped where it is not at hand."""
    for folder in folders():
        if (folder / f"{name}.t7").exists():
            return folder / f"{name}.t7"
    pytest.skip("the shared fixtures are not here")


def records(file: Path, kind: str) -> list[Any]:
    values = t7.load(file.with_name(f"{file.stem}_io.t7")).to_list()
    return [record for record in values if record.get("kind") == kind]


def check_records(name: str, model_file: Path, length: int = 500) -> None:
    """Compare what a model writes and its loss with what Torch7 wrote."""
    file = project(name)
    model = open_language_model(model_file, "cpu")
    tokenizer = Tokenizer(model.vocabulary)
    for record in records(file, "sampled"):
        prime = tokenizer.encode(record["prime"].encode())
        written = "".join(tokenizer.texts(sample_tokens(model, prime, length, temperature=0)))
        # torch-rnn's begins with the prime.
        assert record["output"].removeprefix(record["prime"])[:length] == written
    for record in records(file, "loss"):
        expected = record["output"]
        expected = expected["loss"] if isinstance(expected, t7.LuaTable) else expected
        tokens = tokenizer.encode(record["text"].encode())
        assert text_loss(model, tokens).loss == pytest.approx(expected, abs=LOSS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["charrnn_lstm", "torchrnn_lstm"])
def test_texts_and_losses_are_those_of_torch7(name: str, tmp_path: Path) -> None:
    check_records(name, project(name))
    assert main(["export", str(project(name)), str(tmp_path / "step.onnx")]) == 0
    check_records(name, tmp_path / "step.onnx")


@pytest.mark.parametrize("name", ["charrnn_lstm", "torchrnn_lstm"])
def test_a_network_of_steps_or_of_sequences_writes_what_torch7_wrote(name: str) -> None:
    check_records(name, project(name), length=40)


def read_one_by_one(model: Any, places: Sequence[int]) -> np.ndarray:
    """Return the scores behind each token, which is read alone with the states before it."""
    states, rows = model.start(), []
    for place in places:
        row, states = model.read([place], states)
        rows.append(row)
    return np.concatenate(rows)


def test_what_a_model_has_read_is_in_its_states_alone() -> None:
    """Token by token it gives what it gives for all at once; the network itself begins anew."""
    model = open_language_model(project("torchrnn_lstm"), "cpu")
    places = [0, 3, 1, 2]
    whole, _ = model.read(places, model.start())
    np.testing.assert_allclose(read_one_by_one(model, places), whole, atol=1e-5)
    layers = memory_layers(vars(model)["_module"])
    assert layers
    assert all(layer.memory is None for layer in layers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnn_lm_lstm", "rnn_lm_gru", "rnn_lm_recurrence"])
def test_a_model_of_words_carries_its_states(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One word at a time gives what the whole prefix at once gives, in PyTorch and ONNX."""
    file = project(name)
    model = open_language_model(file, "cpu")
    places = Tokenizer(model.vocabulary).encode(b"Day N .\nThe ship Cedar came to the new quay")
    whole, _ = model.read(places, model.start())
    np.testing.assert_allclose(read_one_by_one(model, places), whole, atol=1e-5)
    assert main(["export", str(file), str(tmp_path / "words.onnx")]) == 0
    exported = open_language_model(tmp_path / "words.onnx", "cpu")
    np.testing.assert_allclose(exported.read(places, exported.start())[0], whole, atol=1e-5)
    capsys.readouterr()
    words = ["--prime", "The wind", "--length", "3", "--temperature", "0"]
    assert main(["sample", str(file), *words]) == 0
    assert len(capsys.readouterr().out.split(" ")) == 5


@pytest.mark.slow
def test_checkpoints_of_others_have_the_losses_and_texts_computed_elsewhere() -> None:
    truths = sorted((SHARED / "wild").glob("*.truth.json")) if SHARED is not None else []
    found = 0
    for truth in truths:
        expected = json.loads(truth.read_text())
        if "greedy_tokens" not in expected:
            continue
        model = open_language_model(str(truth).removesuffix(".truth.json"), "cpu")
        tokenizer = Tokenizer(model.vocabulary)
        tokens = tokenizer.encode(bytes.fromhex(expected["text"]))
        assert [place + 1 for place in tokens] == expected["tokens"]
        assert text_loss(model, tokens).loss == pytest.approx(expected["loss"], abs=LOSS)
        prime, length = tokenizer.encode(expected["prime"].encode()), len(expected["greedy_tokens"])
        written = list(sample_tokens(model, prime, length, temperature=0))
        assert [place + 1 for place in written] == expected["greedy_tokens"]
        text = bytes.fromhex(expected["greedy"]).decode(errors="replace")
        assert "".join(tokenizer.texts(written)) == text
        found += 1
    if not found:
        pytest.skip("the checkpoints are not here")


class Step(nn.Module):
    """A step that expects each token with a fixed probability, and one after token `b`."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, 1.0, 2.0, -1.0]))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 4) to (N, 4)."""
        return input * 0 + self.logits


def small_model() -> SavedModel:
    """Return a char-rnn of four characters: [row with a 1, h] → [h, scores]."""
    from torchlift.converters.modules.layers.container import ConcatTable, ParallelTable
    from torchlift.converters.modules.layers.table_arithmetic import CAddTable

    torch.manual_seed(0)
    scores = nn.Sequential(nn.Linear(5, 4), Step())
    network = nn.Sequential(
        ParallelTable(nn.Linear(4, 5), nn.Linear(5, 5)),
        CAddTable(),
        nn.Tanh(),
        ConcatTable(nn.Identity(), scores),
    )
    vocabulary = Vocabulary("vocab", ("a", "b", "c", "\n"))
    return SavedModel(network.eval(), "logits", vocabularies=[vocabulary])


class Constant:
    """A language model that always expects the same."""

    token_count = 4

    def start(self) -> None:
        return None

    def read(self, tokens: Sequence[int], states: None) -> tuple[np.ndarray, None]:
        return np.log([[0.1, 0.2, 0.6, 0.1]]).repeat(len(tokens), axis=0), states


def test_draws_follow_the_softmax_of_the_temperature() -> None:
    """A chi-squared test over 10,000 draws; its 0.1 % quantile with 3 degrees of freedom."""
    model: Any = Constant()
    for temperature in (0.5, 1.0, 2.0):
        scaled = np.array([0.1, 0.2, 0.6, 0.1]) ** (1 / temperature)
        expected = 10_000 * scaled / scaled.sum()
        drawn = list(sample_tokens(model, [1], 10_000, temperature=temperature, seed=7))
        counts = np.bincount(drawn, minlength=4)
        assert float(((counts - expected) ** 2 / expected).sum()) < 16.27
    assert drawn == list(sample_tokens(model, [1], 10_000, temperature=temperature, seed=7))
    assert drawn != list(sample_tokens(model, [1], 10_000, temperature=temperature, seed=8))


def test_temperature_0_takes_the_first_of_the_most_probable() -> None:
    model = language_model_of(small_model(), "cpu")
    assert list(sample_tokens(model, [1], 3, temperature=0)) == [2, 2, 2]
    assert next(sample_tokens(model, [], 1, temperature=0)) == 0


def test_a_model_runs_where_it_is_asked_to() -> None:
    assert language_model_of(small_model(), "cpu").provider == "PyTorch (cpu)"
    with pytest.raises(ProviderError, match=r"tensorrt is for \.onnx files"):
        language_model_of(small_model(), "tensorrt")


def test_the_loss_is_the_mean_of_what_is_read() -> None:
    model = language_model_of(small_model(), "cpu")
    logits = np.array([0.0, 1.0, 2.0, -1.0])
    log_p = logits - np.log(np.exp(logits).sum())
    result = text_loss(model, [0, 2, 1])
    assert result.tokens == 3
    assert result.loss == pytest.approx(-(log_p[2] + log_p[1]) / 2)
    assert result.perplexity == pytest.approx(np.exp(result.loss))
    with pytest.raises(InferenceError, match="two tokens at least"):
        text_loss(model, [0])


def test_bytes_are_put_together_and_replaced_only_in_the_output() -> None:
    tokenizer = Tokenizer(Vocabulary("vocab", ("a", "\xc3", "\xa9", "\xff"), 1, BYTES))
    assert not tokenizer.is_words
    assert tokenizer.encode("aé".encode()) == [0, 1, 2]
    assert list(tokenizer.texts([0, 1, 2, 1, 0, 3])) == ["a", "é", "\ufffda", "\ufffd"]
    # A text may end within a character.
    assert list(tokenizer.texts([0, 1])) == ["a", "\ufffd"]


def test_unknown_tokens_are_listed() -> None:
    characters = Tokenizer(Vocabulary("vocab", ("a", "b", "\xc3"), 1, BYTES))
    with pytest.raises(InferenceError, match=r"lacks these characters: 'é', 'z'$"):
        characters.encode("aébzé".encode())
    words = Tokenizer(Vocabulary("vocab", ("the", "sea", "<eos>")))
    assert words.encode(b"the  sea\nsea") == [0, 1, 2, 1]
    assert list(words.texts([0, 1, 2, 0])) == ["the", " sea", " <eos>", " the"]
    with pytest.raises(InferenceError, match=r"lacks these words: 'ship'$"):
        words.encode(b"the ship")
    # Twenty are listed, each once.
    many = " ".join(f"w{number}" for number in range(22)).encode()
    for text, end in ((many, " and 2 more"), (many[: many.index(b"w20")] * 2, "")):
        with pytest.raises(InferenceError) as caught:
            words.encode(text)
        listed = ", ".join(repr(f"w{number}") for number in range(20))
        assert str(caught.value).endswith(f"lacks these words: {listed}{end}")


@pytest.mark.parametrize(
    ("token", "is_word"),
    [
        ("é".encode(), False),
        ("éa".encode(), True),
        (b"\xf0\x9f\x98", False),
        (b"a\xff", True),
        (b"\xff\xff\xff\xff", True),
    ],
)
def test_the_first_bytes_of_a_character_are_no_word(token: bytes, is_word: bool) -> None:
    """No character has more than four bytes, and none begins within a token."""
    vocabulary = Vocabulary("vocab", ("a", token.decode("latin-1")), 1, BYTES)
    assert Tokenizer(vocabulary).is_words is is_word


def test_the_command_prints_the_prime_and_then_the_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = str(project("torchrnn_lstm"))
    options = ["--prime", "The ship ", "--length", "9", "--seed", "5"]
    assert main(["sample", file, *options]) == 0
    printed = capsys.readouterr().out
    assert main(["sample", file, *options, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"prime", "text"}
    assert len(document["text"]) == 9
    assert printed == document["prime"] + document["text"] + "\n"
    assert main(["sample", file, "--prime", "Zürich"]) == 1
    error = capsys.readouterr().err
    assert "'Z', 'ü'" in error
    assert len(error.splitlines()) == 1


def test_the_temperature_and_the_seed_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(project("torchrnn_lstm"))
    texts = []
    for options in (["--temperature", "0"], ["--temperature", "0", "--seed", "1"], []):
        assert main(["sample", file, "--length", "30", *options]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_a_terminal_obeys_nothing_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchlift.cli.result import CommandResult, show

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    show(CommandResult(None, stream=["a\x1b[2J\tb", "\n"]), as_json=False)
    assert shown.getvalue() == "a\\x1b[2J\tb\n"


@pytest.mark.parametrize("name", ["neuraltalk2", "seq2seqattn", "neuralconvo", "fairseq_fconv"])
def test_captions_and_translations_are_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(project(name)), "--prime", "a"]) == 1
    error = capsys.readouterr().err
    assert "--at PATH" in error
    assert len(error.splitlines()) == 1


def test_a_vocabulary_in_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(project("torchrnn_lstm"))
    tokens = t7.load(file)["model"]["idx_to_token"]
    renamed = [token.upper() if token.islower() else token.lower() for token in tokens.to_list()]
    t7.save(t7.LuaTable({"inner": t7.LuaTable.from_list(renamed)}), tmp_path / "v.t7")
    (tmp_path / "v.json").write_text(
        json.dumps({"idx_to_token": {i + 1: t for i, t in enumerate(renamed)}})
    )
    texts = []
    for options in ([], ["--vocab", f"{tmp_path}/v.t7:inner"], ["--vocab", f"{tmp_path}/v.json"]):
        assert main(["sample", file, "--length", "20", *options]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[1] == texts[2] == texts[0].swapcase()
    t7.save(t7.LuaTable({"vocab": t7.LuaTable.from_list(["a", "b"])}), tmp_path / "two.t7")
    assert main(["sample", file, "--vocab", f"{tmp_path}/two.t7"]) == 1
    assert "42 tokens" in capsys.readouterr().err


class Drawn:
    """Random numbers that are always the same."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


@pytest.mark.parametrize(("number", "place"), [(0.0, 1), (0.5, 2), (1.0, 2)])
def test_no_draw_takes_an_impossible_token_or_one_behind_the_last(
    number: float, place: int
) -> None:
    """0 is an edge, and so is 1, which rounding may reach."""
    expected = np.array([-np.inf, 0.0, 0.0])
    assert _draw(expected, 1.0, Drawn(number)) == place  # type: ignore[arg-type]


def test_the_longest_and_of_equals_the_first_token_is_taken() -> None:
    parts = Vocabulary("vocab", ("Ã", "©", "Ã©", "a", "a"), encoding=BYTES)
    assert Tokenizer(parts).encode("aéa".encode()) == [3, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["charrnn_lstm", "torchrnn_lstm"])
def test_2000_characters_are_the_same_in_onnx(name: str, tmp_path: Path) -> None:
    """States carried over a long text do not drift apart: the same most probable characters.

    The text is drawn, not the most probable one, which soon repeats itself.
    """
    assert main(["export", str(project(name)), str(tmp_path / "step.onnx")]) == 0
    model = open_language_model(project(name), "cpu")
    exported = open_language_model(tmp_path / "step.onnx", "cpu")
    random = np.random.default_rng(11)
    place, states, others = 0, model.start(), exported.start()
    for _ in range(2000):
        (row,), states = model.read([place], states)
        (other,), others = exported.read([place], others)
        # Float32 sums in another order; states are squashed at each step.
        np.testing.assert_allclose(other, row, atol=1e-4)
        second, best = np.sort(row)[-2:]
        assert other.argmax() == row.argmax() or best - second < 1e-4
        place = _draw(row, 1.0, random)
