"""Probabilities that do not add up to 1 are not probabilities: nothing takes them for such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import t7
from torchlift.converters.inference import Classifier, InferenceError, TorchPredictor
from torchlift.converters.inference.scores import log_probabilities, probabilities
from torchlift.converters.modules.layers.container import Concat
from torchlift.converters.onnx import OnnxError, export
from torchlift.converters.saved import SavedModel, open_model
from torchlift.converters.saved.shapes import side_by_side


def branches(count: int, last: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    joined = Concat(*(nn.Sequential(nn.Linear(12, 5), last(1)) for _ in range(count)), dim=1)
    return nn.Sequential(nn.Flatten(), joined)


@pytest.mark.parametrize(
    ("last", "kind"), [(nn.LogSoftmax, "log_probabilities"), (nn.Softmax, "probabilities")]
)
@pytest.mark.parametrize("count", [2, 3])
def test_classifiers_side_by_side_are_counted_and_refused(
    count: int, last: type[nn.Module], kind: str, tmp_path: Path
) -> None:
    network = branches(count, last)
    assert side_by_side(network) == count
    assert side_by_side(branches(1, last)) == 1
    said = f"add up to {count}, not to 1: these are {count} classifiers side by side"
    with pytest.raises(OnnxError, match=said):
        export(network, tmp_path / "two.onnx", input_shape=(3, 2, 2), output_kind=kind)
    assert not (tmp_path / "two.onnx").exists()
    classifier = Classifier(TorchPredictor(SavedModel(network, kind), "cpu"))
    with pytest.raises(InferenceError, match=said):
        classifier.predict_inputs(np.zeros((2, 3, 2, 2), np.float32))
    # As features they are what they are.
    export(network, tmp_path / "two.onnx", input_shape=(3, 2, 2), output_kind="features")


def test_a_t7_with_two_classifiers_is_opened_as_features_with_a_note(tmp_path: Path) -> None:
    def linear() -> t7.LuaObject:
        fields = {"weight": np.ones((4, 3)), "bias": np.arange(4.0)}
        return t7.LuaObject("nn.Linear", t7.LuaTable(fields.items()))

    def container(name: str, *modules: t7.LuaObject, **fields: object) -> t7.LuaObject:
        values = {"modules": t7.LuaTable.from_list(modules), **fields}
        return t7.LuaObject(name, t7.LuaTable(values.items()))

    def softmax() -> t7.LuaObject:
        return t7.LuaObject("nn.LogSoftMax", t7.LuaTable())

    heads = [container("nn.Sequential", linear(), softmax()) for _ in range(2)]
    t7.save(container("nn.Concat", *heads, dimension=2), tmp_path / "two.t7")
    model = open_model(tmp_path / "two.t7")
    assert model.output_kind == "features"
    assert any("2 classifiers side by side" in note for note in model.notes)


def test_one_classifier_is_none_of_it() -> None:
    scores = np.log([[0.25, 0.75], [0.5, 0.5]])
    assert np.allclose(probabilities(scores, "log_probabilities").sum(1), 1)
    assert np.array_equal(log_probabilities(scores, "log_probabilities"), scores)
