"""Language models in PyTorch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ... import t7
from ...modules.errors import ConversionError
from ...modules.find import find_networks
from ...saved import SavedModel, open_model
from ...saved.token_steps import TokenStep, find_step, memory_layers, token_sequence
from ...vocabulary import Vocabulary
from ..errors import InferenceError
from ..predictors import TorchPredictor
from .language_model import LanguageModel, choose_vocabulary, log_softmax

_NO_LANGUAGE_MODEL = (
    "no model of a text's characters or words: a network that reads tokens one by one and keeps "
    "states was expected, as char-rnn's or torch-rnn's. Captions and translations take several "
    "networks, one after the other, and no command runs them: export and convert take each of them "
    "with at=PATH"
)


def open_torch_language_model(
    path: str | os.PathLike[str],
    provider: str,
    vocabularies: Sequence[Vocabulary] | None,
    at: str | None,
) -> LanguageModel:
    """Open a `.t7` file or a saved model's folder (see `open_language_model`)."""
    if at is None and Path(path).is_file():
        _require_one_network(path)
    return language_model_of(open_model(path, at=at), provider, vocabularies)


def language_model_of(
    model: SavedModel, provider: str = "auto", vocabularies: Sequence[Vocabulary] | None = None
) -> LanguageModel:
    """Return the language model that an open model is.

    Args:
        model: The model.
        provider: `auto`, `cpu` or `cuda`.
        vocabularies: Those to choose from, in place of the model's own.

    Raises:
        InferenceError: If it is none, or its vocabulary is not known.
    """
    step = find_step(model.module)
    if step is None and token_sequence(model.module) is None:
        raise InferenceError(_NO_LANGUAGE_MODEL)
    predictor = TorchPredictor(model, provider)
    module = predictor.module
    if step is not None:
        result: _StepModel | _SequenceModel = _StepModel(module, step)
    else:
        result = _SequenceModel(module)
    result.vocabulary = choose_vocabulary(vocabularies, model.vocabularies, result.token_count)
    result.provider = predictor.provider
    return result


class _StepModel:
    """A network of one step, whose states are inputs and outputs."""

    vocabulary: Vocabulary
    provider: str

    def __init__(self, module: nn.Module, step: TokenStep) -> None:
        self._module, self._step = module, step
        self.token_count = step.scores
        like = next(module.parameters())
        self._zeros = [like.new_zeros(1, width) for width in step.states]
        if step.is_one_hot:
            self._tokens = [*torch.eye(step.scores, dtype=like.dtype, device=like.device)[:, None]]
        else:
            self._tokens = [*torch.arange(1, step.scores + 1, device=like.device)[:, None]]

    def start(self) -> list[torch.Tensor]:
        return self._zeros

    @torch.inference_mode()
    def read(
        self, tokens: Sequence[int], states: list[torch.Tensor]
    ) -> tuple[np.ndarray, list[torch.Tensor]]:
        rows = []
        for token in tokens:
            *states, scores = self._module([self._tokens[token], *states])
            rows.append(scores)
        return _log_probabilities(torch.cat(rows)), states


class _SequenceModel:
    """A network of whole sequences, whose layers keep their states."""

    vocabulary: Vocabulary
    provider: str

    def __init__(self, module: nn.Module) -> None:
        self._module, self._layers = module, memory_layers(module)
        shapes = token_sequence(module)
        assert shapes is not None
        (tokens,) = shapes.leaves()
        self._batch_axis = tokens.batch_axis
        self._device = next(module.parameters()).device
        rows, _ = self.read([0], self.start())
        self.token_count = rows.shape[1]

    def start(self) -> list[list[torch.Tensor]]:
        return [[] for _ in self._layers]

    @torch.inference_mode()
    def read(
        self, tokens: Sequence[int], states: list[list[torch.Tensor]]
    ) -> tuple[np.ndarray, list[list[torch.Tensor]]]:
        numbers = torch.tensor([token + 1 for token in tokens], device=self._device)
        try:
            for layer, memory in zip(self._layers, states, strict=True):
                layer.memory = memory
            output: Any = pytree.tree_leaves(self._module(numbers.unsqueeze(self._batch_axis)))
            after = [layer.memory for layer in self._layers]
        finally:
            for layer in self._layers:
                layer.memory = None
        rows = [values.reshape(-1, values.shape[-1]) for values in output]
        scores = rows[0] if len(rows) == 1 else torch.cat(rows)
        if len(scores) != len(tokens):
            raise InferenceError(_NO_LANGUAGE_MODEL)
        return _log_probabilities(scores), after


def _log_probabilities(scores: torch.Tensor) -> np.ndarray:
    # numpy's functions, cold after a step of the network, take a tenth of its time.
    rows = scores.cpu().double()
    if rows.min() < 0:
        result: np.ndarray = torch.log_softmax(rows, 1).numpy()
        return result
    return log_softmax(rows.numpy())


def _require_one_network(path: str | os.PathLike[str]) -> None:
    """Check that a `.t7` holds one network.

    Raises:
        InferenceError: If it holds several.
    """
    try:
        networks = find_networks(path)
    except (ConversionError, t7.T7Error):
        return  # Opening it says what is wrong.
    names = {one.path.rpartition(".")[2] for one in networks}
    if len(networks) > 1 and not names & {"rnn", "model"}:
        listed = ", ".join(f"{one.path} ({one.module.class_name})" for one in networks[:8])
        raise InferenceError(
            f"the file holds several networks: {listed}. Captions and translations take one after "
            "the other, and no command runs them so: export and convert take each of them with "
            "at=PATH, as does this command a network that writes texts by itself"
        )
