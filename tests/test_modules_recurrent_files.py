"""Recurrent layers of cudnn, with packed weights, and the models of torch-rnn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_support import lua
from support import relative_error
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules import ConversionError, convert_recorded

MODES = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN_TANH": nn.RNN, "RNN_RELU": nn.RNN}


def packed(rnn: nn.RNNBase) -> torch.Tensor:
    """Return a torch.nn layer's weights as cuDNN packs them: all matrices, then all biases."""
    # Per layer and direction, in this order: weight_ih, weight_hh, bias_ih, bias_hh.
    parameters = dict(rnn.named_parameters())
    matrices = [value for name, value in parameters.items() if name.startswith("weight")]
    biases = [value for name, value in parameters.items() if name.startswith("bias")]
    return torch.cat([value.detach().flatten() for value in matrices + biases])


def cudnn_layer(
    rnn: nn.RNNBase, mode: str, class_name: str = "cudnn.RNN", **fields: Any
) -> t7.LuaObject:
    direction = "BIDIRECTIONAL" if rnn.bidirectional else "UNIDIRECTIONAL"
    return lua(
        class_name,
        mode=f"CUDNN_{mode}",
        inputSize=rnn.input_size,
        hiddenSize=rnn.hidden_size,
        numLayers=rnn.num_layers,
        bidirectional=f"CUDNN_{direction}",
        batchFirst=rnn.batch_first,
        dropout=0,
        train=False,
        **{"weight": packed(rnn), **fields},
    )


#: The subclasses, which only set `mode` and `bidirectional`.
CLASSES = {
    ("LSTM", False): "cudnn.LSTM",
    ("LSTM", True): "cudnn.BLSTM",
    ("GRU", False): "cudnn.GRU",
    ("GRU", True): "cudnn.BGRU",
    ("RNN_TANH", False): "cudnn.RNNTanh",
    ("RNN_RELU", False): "cudnn.RNNReLU",
}


@pytest.mark.covers(*CLASSES.values(), "cudnn.RNN", compared="outputs")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_cudnn_weights_are_unpacked(mode: str, bidirectional: bool) -> None:
    settings = {"nonlinearity": mode[4:].lower()} if mode.startswith("RNN") else {}
    rnn = MODES[mode](
        4, 3, num_layers=2, bidirectional=bidirectional, batch_first=True, **settings
    ).double()
    input = torch.randn(2, 5, 4, dtype=torch.float64)
    for class_name in {"cudnn.RNN", CLASSES.get((mode, bidirectional), "cudnn.RNN")}:
        module = convert(cudnn_layer(rnn, mode, class_name))
        assert torch.equal(module(input), rnn(input)[0])
        assert not module.training


def test_cudnn_layers_that_cannot_be_converted_are_refused() -> None:
    rnn = nn.LSTM(4, 3)
    with pytest.raises(ConversionError, match="packed 131 values, 108 were expected"):
        convert(cudnn_layer(rnn, "LSTM", weight=torch.zeros(131)))
    with pytest.raises(ConversionError, match="SKIP_INPUT"):
        convert(cudnn_layer(rnn, "LSTM", inputMode="CUDNN_SKIP_INPUT"))
    notes = convert_recorded(cudnn_layer(rnn, "LSTM", rememberStates=True)).notes
    assert "every call starts from a zero state" in notes[0].text


def language_model(kind: str, batchnorm: bool) -> Any:
    """Return a model of torch-rnn: 7 tokens, embeddings of size 4, one layer of hidden size 3."""
    columns = 12 if kind == "nn.LSTM" else 3
    weight, bias = torch.randn(7, columns), torch.randn(columns)
    rnn = lua(kind, weight=weight, bias=bias, remember_states=True)
    # The sizes that Torch7 set for its last batch, (2, 5).
    enter, leave = (lua("nn.View", size=torch.tensor(size)) for size in ([10, -1], [2, 5, -1]))
    statistics = {"running_mean": torch.randn(3), "running_var": torch.rand(3) + 0.5}
    norm_in, norm_out = (lua("nn.View", size=torch.tensor(size)) for size in ([10, -1], [2, 5, -1]))
    norm = [norm_in, lua("nn.BatchNormalization", eps=1e-5, **statistics), norm_out]
    linear = lua("nn.Linear", weight=torch.randn(7, 3), bias=torch.randn(7))
    lookup = lua("nn.LookupTable", weight=torch.randn(7, 4))
    modules = [lookup, rnn, *(norm if batchnorm else []), enter, linear, leave]
    fields = {"bn_view_in": [norm_in], "bn_view_out": [norm_out]} if batchnorm else {}
    net = lua("nn.Sequential", modules=modules)
    return lua("nn.LanguageModel", net=net, view1=enter, view2=leave, **fields)


@pytest.mark.parametrize("kind", ["nn.LSTM", "nn.VanillaRNN"])
@pytest.mark.parametrize("batchnorm", [False, True])
def test_a_language_model_takes_any_length(kind: str, batchnorm: bool) -> None:
    model = convert(language_model(kind, batchnorm)).eval()
    tokens = torch.randint(1, 8, (3, 6))
    scores = model(tokens)
    assert scores.shape == (3, 6, 7)
    # The scores of a token do not depend on later tokens, nor on the other sequences of the batch.
    assert relative_error(model(tokens[:1, :4]), scores[:1, :4].detach()) < 1e-5


def test_a_language_model_runs_every_module_between_and_behind_its_normalizations() -> None:
    source = language_model("nn.VanillaRNN", True)
    modules = source["net"]["modules"].to_list()
    lookup, rnn, norm_in, norm, norm_out, enter, linear, leave = modules
    again = lua("nn.VanillaRNN", weight=torch.randn(6, 3), bias=torch.randn(3))
    source["net"].fields["modules"] = t7.LuaTable.from_list(
        [lookup, rnn, norm_in, norm, norm_out, again, enter, linear, leave]
    )
    model, tokens = convert(source).eval(), torch.randint(1, 8, (2, 5))
    kinds = [type(module).__name__ for module in model]
    assert kinds[1:] == ["VanillaRNN", "TemporalAdapter", "VanillaRNN", "TemporalAdapter"]
    output = convert(rnn)(convert(lookup)(tokens))
    output = convert(norm).eval()(output.flatten(0, 1)).unflatten(0, (2, 5))
    assert relative_error(model(tokens), convert(linear)(convert(again)(output)).detach()) < 1e-5


@pytest.mark.covers("nn.VanillaRNN", compared="outputs")
def test_vanilla_rnn_equals_torch_rnn() -> None:
    reference = nn.RNN(4, 3, batch_first=True)
    nn.init.zeros_(reference.bias_hh_l0)
    weight = torch.cat([reference.weight_ih_l0.t(), reference.weight_hh_l0.t()])
    module = convert(lua("nn.VanillaRNN", weight=weight, bias=reference.bias_ih_l0))
    input, state = torch.randn(2, 5, 4), torch.randn(2, 3)
    assert relative_error(module(input), reference(input)[0].detach()) < 1e-5
    expected = reference(input, state[None])[0].detach()
    assert relative_error(module([state, input]), expected) < 1e-5


@pytest.mark.covers("nn.TemporalAdapter", compared="outputs")
def test_temporal_adapter_applies_its_modules_to_every_step() -> None:
    views = [lua("nn.View", size=torch.tensor([1, -1])) for _ in range(2)]
    weight = torch.randn(2, 3)
    inner = lua("nn.Linear", weight=weight)
    net = lua("nn.Sequential", modules=[views[0], inner, views[1]])
    input = torch.randn(4, 5, 3)
    output = convert(lua("nn.TemporalAdapter", net=net))(input)
    assert relative_error(output, input @ weight.t()) < 1e-5
