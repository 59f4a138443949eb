"""Recurrent layers of rnn: gradients, masks, and no state left behind by a call.

`test_layers` compares their outputs with Torch7's; these tests compare with torch.nn's own
recurrent layers, or with the equations written out.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_support import export_error, lua, rand
from support import FIXTURES, relative_error
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules import convert_recorded

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


def fixture(name: str) -> t7.LuaTable:
    cases = t7.load(FIXTURES / "layers" / "packages.t7").values()
    return next(case for case in cases if case["name"] == name)


def reordered(tensor: torch.Tensor, old: str, new: str) -> torch.Tensor:
    """Reorder the blocks of gates along dimension 0."""
    gates = dict(zip(old, tensor.chunk(len(old)), strict=True))
    return torch.cat([gates[gate] for gate in new])


def gradients(outputs: Any, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the gradients of a weighted sum in which every output has another weight."""
    outputs = torch.stack(outputs) if isinstance(outputs, list) else outputs
    factors = torch.arange(1.0, outputs.numel() + 1, dtype=outputs.dtype).reshape(outputs.shape)
    return list(torch.autograd.grad((outputs * factors).sum(), inputs))


def torch_lstm(in_features: int = 4, hidden: int = 2) -> nn.LSTM:
    """Return a torch.nn.LSTM whose second bias is zero: rnn's LSTM has one bias."""
    module = nn.LSTM(in_features, hidden).double()
    nn.init.zeros_(module.bias_hh_l0)
    return module


def seq_lstm(module: nn.LSTM, **fields: Any) -> nn.Module:
    """Return a SeqLSTM with the weights of a torch.nn.LSTM."""
    weights = (module.weight_ih_l0, module.weight_hh_l0)
    weight = torch.cat([reordered(weight, "ifgo", "ifog").t() for weight in weights])
    fields = {"batchfirst": False, **fields}
    bias = reordered(module.bias_ih_l0, "ifgo", "ifog")
    return convert(lua("nn.SeqLSTM", weight=weight, bias=bias, **fields))


def test_fast_lstm_has_the_gradients_of_torch_lstm() -> None:
    module = convert(fixture("rnn_Sequencer_FastLSTM")["module"]).double()
    weight, bias, recurrent = (parameter.detach() for parameter in module.parameters())
    reference = torch_lstm(4, 3)
    with torch.no_grad():
        reference.weight_ih_l0.copy_(reordered(weight, "igfo", "ifgo"))
        reference.weight_hh_l0.copy_(reordered(recurrent, "igfo", "ifgo"))
        reference.bias_ih_l0.copy_(reordered(bias, "igfo", "ifgo"))
    steps = rand(5, 2, 4).requires_grad_()
    actual = gradients(module(list(steps)), [steps, *module.parameters()])
    inputs = [steps, reference.weight_ih_l0, reference.bias_ih_l0, reference.weight_hh_l0]
    expected = gradients(reference(steps)[0], inputs)
    assert relative_error(actual[0], expected[0]) < EXACT
    for gradient, reference_gradient in zip(actual[1:], expected[1:], strict=True):
        assert relative_error(reordered(gradient, "igfo", "ifgo"), reference_gradient) < EXACT


def test_torch7_shares_output_buffers_in_evaluation_mode() -> None:
    """Why `test_layers` does not compare the gradients of sequences (`SHARED_BUFFERS`).

    In evaluation mode every step of `AbstractRecurrent.lua` writes to the same output buffer. A
    backward pass that uses the last step's output for every step reproduces Torch7's gradients.
    """
    case = fixture("rnn_Recurrent")
    data = t7.to_torch(case)
    _, encode, feedback, _, _ = convert(case["module"])[0]
    with torch.no_grad():
        outputs = data["output"]
        from_next, actual = torch.zeros_like(outputs[0]), []
        for step in reversed(range(len(outputs))):
            # The first step has a module of its own, and so a buffer of its own.
            buffer = outputs[-1] if step else outputs[0]
            delta = (data["gradOutput"][step] + from_next) * buffer * (1 - buffer)
            actual.insert(0, delta @ encode.weight)
            from_next = delta @ feedback.weight
    assert relative_error(actual, data["gradInput"]) < 1e-5


def test_no_state_is_left_behind_by_a_call_or_an_error() -> None:
    module = convert(fixture("rnn_BiSequencer")["module"])
    steps = list(torch.randn(3, 2, 4))
    first = module(steps)
    assert relative_error(module(steps), [step.detach() for step in first]) == 0
    with pytest.raises(RuntimeError):
        module([*steps, torch.randn(2, 5)])
    assert relative_error(module(steps), [step.detach() for step in first]) == 0
    assert all(getattr(inner, "step_state", None) is None for inner in module.modules())


def test_a_recurrent_layer_outside_a_sequencer_is_one_step() -> None:
    cell = convert(fixture("rnn_GRU_one_step")["module"])
    sequence = convert(lua("nn.Sequencer", modules=[fixture("rnn_GRU_one_step")["module"]]))
    step = torch.randn(2, 4)
    assert torch.equal(cell(step), sequence([step])[0])
    assert torch.equal(cell(step), cell(step))
    assert not torch.equal(sequence([step, step])[1], cell(step))
    # Without a batch dimension, and as one tensor (T, N, features).
    assert torch.allclose(cell(step[0]), cell(step)[0])
    assert torch.equal(sequence(torch.stack([step, step]))[1], sequence([step, step])[1])


@pytest.mark.covers("nn.Recurrence", compared="outputs")
def test_recurrence_starts_from_zeros_of_its_size() -> None:
    layer = lua("nn.Recurrence", recurrentModule=lua("nn.JoinTable", dimension=1, nInputDims=1))
    for size in (3, [3], torch.tensor([3])):
        layer.fields["outputSize"], layer.fields["nInputDim"] = t7_value(size), 1
        assert convert(layer)(torch.ones(2, 1)).tolist() == [[1, 0, 0, 0]] * 2
        assert convert(layer)(torch.ones(1)).tolist() == [1, 0, 0, 0]


def test_the_state_before_the_first_of_some_words_is_no_word() -> None:
    """It has the type of the weights; the input's type is that of indices."""
    embed = [
        lua("nn.LookupTable", weight=torch.eye(3).double()),
        lua("nn.Select", dimension=2, index=1),
    ]
    feedback = lua("nn.Linear", weight=torch.eye(3).double(), bias=torch.ones(3).double())
    both = lua("nn.ParallelTable", modules=[lua("nn.Sequential", modules=embed), feedback])
    step = lua("nn.Sequential", modules=[both, lua("nn.CAddTable")])
    layer = lua("nn.Recurrence", recurrentModule=step, outputSize=3, nInputDim=1)
    assert convert(layer)(torch.tensor([[1], [3]])).tolist() == [[2, 1, 1], [1, 1, 2]]


def t7_value(value: Any) -> Any:
    """Return a value as `t7.load` returns it."""
    return lua("x", value=value)["value"]


@pytest.mark.covers("nn.Repeater", "nn.RecurrentAttention", compared="outputs")
def test_repeater_and_attention_run_for_their_steps() -> None:
    cell = fixture("rnn_LSTM_one_step")["module"]
    step = torch.randn(2, 4)
    outputs = convert(lua("nn.Sequencer", modules=[cell]))([step] * 3)
    sequence = [output.detach() for output in outputs]
    for field in ("nStep", "rho"):
        repeated = convert(lua("nn.Repeater", modules=[cell], **{field: 3}))(step)
        assert relative_error(repeated, sequence) == 0
    # The recurrent module adds input and action; the action is twice the last output.
    attention = lua(
        "nn.RecurrentAttention",
        modules=[lua("nn.CAddTable"), lua("nn.MulConstant", constant_scalar=2)],
        nStep=3,
        hiddenSize=[4],
        forwardActions=True,
    )
    hidden = [output for output, _ in convert(attention)(step)]
    assert relative_error(hidden, [step, step * 3, step * 7]) < 1e-6


@pytest.mark.covers("nn.BiSequencerLM", compared="outputs")
def test_bi_sequencer_lm_merges_the_steps_before_and_after() -> None:
    sequencer = lua("nn.Sequencer", modules=[lua("nn.Identity")])
    merge = lua("nn.Sequential", modules=[lua("nn.ZipTable")])
    module = convert(lua("nn.BiSequencerLM", modules=[sequencer, sequencer, merge]))
    steps = [torch.tensor([value]) for value in (1.0, 2.0, 3.0)]
    pairs = [[float(value) for value in pair] for pair in module(steps)]
    assert pairs == [[0, 2], [1, 3], [2, 0]]


@pytest.mark.covers("nn.SeqLSTM", compared="outputs")
@pytest.mark.parametrize("batch_first", [False, True])
def test_seq_lstm_equals_torch_lstm(batch_first: bool) -> None:
    reference = torch_lstm()
    module = seq_lstm(reference, batchfirst=batch_first)
    steps, h0, c0 = rand(5, 3, 4), rand(3, 2), rand(3, 2)
    sequence = steps.transpose(0, 1) if batch_first else steps
    for input, state in (
        (sequence, None),
        ([h0, sequence], (h0[None], torch.zeros(1, 3, 2).double())),
        ([c0, h0, sequence], (h0[None], c0[None])),
    ):
        output = module(input).transpose(0, 1) if batch_first else module(input)
        assert relative_error(output, reference(steps, state)[0].detach()) < EXACT


def test_seq_lstm_resets_its_state_where_the_input_is_zero() -> None:
    module = seq_lstm(torch_lstm(), maskzero=True)
    steps = rand(5, 3, 4)
    steps[2] = 0
    output = module(steps)
    assert relative_error(output[:2], module(steps[:2]).detach()) < EXACT
    assert not output[2].any()
    assert relative_error(output[3:], module(steps[3:]).detach()) < EXACT


def test_the_first_version_of_seq_lstm_is_batch_first() -> None:
    weight, bias = torch.randn(6, 8), torch.randn(8)
    layer = lua("nn.SeqLSTM", weight=weight, bias=bias, remember_states=True)
    conversion = convert_recorded(layer)
    assert conversion.module.batch_first
    assert [note.text.split(":")[0] for note in conversion.notes] == [
        "no field batchfirst",
        "Torch7 continued from the state of the call before (always); "
        "here every call starts from zero",
    ]
    remembering = lua("nn.Sequencer", modules=[lua("nn.Identity")], _remember="eval")
    assert "in evaluation" in convert_recorded(remembering).notes[0].text


@pytest.mark.covers("nn.SeqGRU", compared="outputs")
def test_seq_gru_equals_its_equations() -> None:
    weight, bias = rand(6, 6), rand(6)
    steps = rand(5, 3, 4)
    steps[2, 1] = 0
    for mask in (False, True):
        layer = lua("nn.SeqGRU", weight=weight, bias=bias, batchfirst=False, maskzero=mask)
        hidden, expected = torch.zeros(3, 2).double(), []
        for step in steps:
            reset = torch.sigmoid(torch.cat([step, hidden], 1) @ weight[:, :2] + bias[:2])
            update = torch.sigmoid(torch.cat([step, hidden], 1) @ weight[:, 2:4] + bias[2:4])
            candidate = torch.tanh(torch.cat([step, reset * hidden], 1) @ weight[:, 4:] + bias[4:])
            hidden = (1 - update) * candidate + update * hidden
            if mask:
                hidden = torch.where((step.norm(dim=1) == 0)[:, None], 0.0, hidden)
            expected.append(hidden)
        assert relative_error(convert(layer)(steps), torch.stack(expected)) < EXACT


@pytest.mark.covers("nn.SeqLSTM_WN", compared="outputs")
def test_weight_normalization_is_folded() -> None:
    direction, length, bias = rand(6, 8), rand(2, 8), rand(8)
    weight = torch.cat(
        [
            block / block.norm(dim=0) * norms
            for block, norms in zip(direction.split([4, 2]), length, strict=True)
        ]
    )
    layer = lua("nn.SeqLSTM_WN", v=direction, g=length, bias=bias, inputsize=4)
    plain = convert(lua("nn.SeqLSTM", weight=weight, bias=bias, batchfirst=False))
    steps = rand(3, 2, 4)
    assert relative_error(convert(layer)(steps), plain(steps).detach()) < EXACT


@pytest.mark.covers("nn.MaskZero", compared="outputs")
def test_mask_zero_masks_only_examples_that_are_zero() -> None:
    inner = lua("nn.ParallelTable", modules=[lua("nn.AddConstant", constant_scalar=1)] * 2)
    module = convert(lua("nn.MaskZero", modules=[inner], nInputDim=1))
    first = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    # The first of the pair is the mask of both.
    masked = module([first, torch.zeros(2, 3)])
    assert masked[0].tolist() == [[0, 0], [1, 3]]
    assert masked[1].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert module([torch.zeros(2), torch.zeros(3)])[1].tolist() == [0, 0, 0]
    assert module([torch.ones(2), torch.zeros(3)])[1].tolist() == [1, 1, 1]


@pytest.mark.covers("nn.LookupTableMaskZero", compared="outputs, gradients")
def test_lookup_table_mask_zero_counts_from_one() -> None:
    module = convert(lua("nn.LookupTableMaskZero", weight=torch.arange(8.0).reshape(4, 2)))
    output = module(torch.tensor([[0.0, 3.0]]))
    assert output.tolist() == [[[0, 0], [6, 7]]]
    output.sum().backward()
    assert module.weight.grad.tolist() == [[0, 0], [0, 0], [0, 0], [1, 1]]


@pytest.mark.covers(
    "nn.SequencerCriterion",
    "nn.RepeaterCriterion",
    "nn.MaskZeroCriterion",
    compared="outputs",
)
def test_criterions_of_sequences_add_up_their_steps() -> None:
    mse = lua("nn.MSECriterion", sizeAverage=True)
    steps, targets = list(rand(3, 2, 4)), list(rand(3, 2, 4))
    expected = sum(nn.functional.mse_loss(a, b) for a, b in zip(steps, targets, strict=True))
    loss = convert(lua("nn.SequencerCriterion", criterion=mse))(steps, targets)
    assert relative_error(loss, expected) < EXACT
    repeated = convert(lua("nn.RepeaterCriterion", criterion=mse))(steps, targets[0])
    expected = sum(nn.functional.mse_loss(step, targets[0]) for step in steps)
    assert relative_error(repeated, expected) < EXACT
    masked = convert(lua("nn.MaskZeroCriterion", criterion=mse, nInputDim=1))
    steps[0][1] = 0
    expected = nn.functional.mse_loss(steps[0][:1], targets[0][:1])
    assert relative_error(masked(steps[0], targets[0]), expected) < EXACT
    zeros = torch.zeros(2, 4, requires_grad=True)
    masked(zeros, targets[0]).backward()
    assert not zeros.grad.any()


@pytest.mark.slow
def test_sequences_export_with_any_batch() -> None:
    reference = torch_lstm().float()
    assert export_error(seq_lstm(reference, batchfirst=True), torch.randn(2, 5, 4)) < 1e-5


@pytest.mark.covers("nn.SeqDropout", compared="outputs, training")
def test_seq_dropout_drops_the_same_features_at_every_step() -> None:
    torch.manual_seed(0)
    steps = torch.ones(6, 40, 10)
    for current, kept, evaluated in ((True, 2.0, 1.0), (False, 1.0, 0.5)):
        module = convert(lua("nn.SeqDropout", p=0.5, v2=current))
        output = module.train()(steps)
        assert all(torch.equal(step, output[0]) for step in output)
        assert output.unique().tolist() == [0, kept]
        # Four standard deviations of 400 draws.
        assert abs(output[0].eq(0).float().mean() - 0.5) < 0.1
        assert torch.equal(module.eval()(steps), steps * evaluated)


@pytest.mark.covers("nn.ExpandAs", compared="outputs")
def test_expand_as_gives_the_second_tensor_the_shape_of_the_first() -> None:
    first, second = torch.randn(2, 3, 4), torch.randn(2, 1, 4)
    kept, expanded = convert(lua("nn.ExpandAs"))([first, second])
    assert torch.equal(kept, first)
    assert torch.equal(expanded, torch.cat([second] * 3, 1))


@pytest.mark.parametrize("name", ["nn.MaskZero", "nn.TrimZero"])
def test_only_trimming_hides_the_padding_from_a_normalization_in_training_mode(name: str) -> None:
    input = torch.randn(6, 2, dtype=torch.float64) + 3
    input[[1, 4]] = 0
    numbers = torch.zeros(2).double(), torch.ones(2).double()
    inside = lua("nn.BatchNormalization", running_mean=numbers[0], running_var=numbers[1])
    module = convert(lua(name, nInputDim=1, modules=[inside])).train()
    kept = input != 0
    seen = input[kept[:, 0]] if name == "nn.TrimZero" else input
    mean, variance = seen.mean(0), seen.var(0, unbiased=False)
    expected = (input - mean) / (variance + 1e-5).sqrt() * kept
    torch.testing.assert_close(module(input), expected)
    statistics = dict(module.named_buffers())
    torch.testing.assert_close(statistics["0.running_mean"], 0.1 * mean)
    # A batch of padding alone is zeros.
    assert not module(torch.zeros(3, 2).double()).any()
