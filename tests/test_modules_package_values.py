"""Values at which two rules of a layer of a package differ: ties, zeros, a third table entry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract_projects_support import PROJECTS
from layer_support import lua, rand
from support import relative_error
from torch.utils import _pytree as pytree

from torchlift.converters import convert
from torchlift.converters.modules import convert_recorded

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


@pytest.mark.covers("nn.GroupKMaxPooling", compared="outputs")
def test_frames_that_exist_are_chosen_before_those_that_are_added() -> None:
    """Also the shorter ones, and one of zeros."""
    frames = torch.tensor([[0.25, 0.0], [0.0, 0.0], [0.0, 0.5]])
    for k in (2, 3, 4):
        kept = {2: [0, 2], 3: [0, 1, 2], 4: [0, 1, 2]}[k]
        expected = torch.cat([frames[kept], torch.zeros(k - len(kept), 2)])
        assert torch.equal(convert(lua("nn.GroupKMaxPooling", k=k))(frames), expected)


@pytest.mark.covers("nn.CAddTableMulConstant", compared="outputs")
def test_a_scaled_sum_is_of_all_entries_and_changes_none() -> None:
    entries = [rand(2, 3) for _ in range(3)]
    copies = [entry.clone() for entry in entries]
    output = convert(lua("nn.CAddTableMulConstant", constant_scalar=0.5))(entries)
    assert relative_error(output, (copies[0] + copies[1] + copies[2]) / 2) < EXACT
    assert all(map(torch.equal, entries, copies))


def test_a_beam_is_of_batches_only() -> None:
    first, second = rand(6, 1), rand(1, 5)
    module = convert(lua("nn.BeamableMM", beam=3)).train()
    assert relative_error(module([first, second]), first @ second) < EXACT


def test_steps_of_a_convolution_remember_what_it_reads() -> None:
    """In evaluation mode, step by step: what training mode gives for the sequence behind zeros."""
    module = convert(PROJECTS["nn.ConvBlockTrainTestLayer"]()[0])
    steps = torch.randn(6, 2, 4)
    expected = module.train()(torch.cat([torch.zeros(2, 2, 4), steps]))
    module.eval().step_state = []
    outputs = [module(step[:, None]) for step in steps]
    torch.testing.assert_close(torch.cat(outputs, 1).transpose(0, 1), expected)


def test_dimensions_of_a_join_are_those_of_an_example_or_of_all() -> None:
    """Only one axis more than `nInputDims` is a batch."""
    fields = {"dimensionReplicate": 1, "dimensionJoin": 2, "nInputDims": 2}
    module = convert(lua("onmt.JoinReplicateTable", **fields))
    one, many = rand(1, 2, 3, 4), rand(5, 2, 3, 4)
    assert torch.equal(module([one, many]), torch.cat([one.expand(5, -1, -1, -1), many], 1))


@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_place_that_a_parent_does_not_have_is_outside_the_tree(place: int) -> None:
    """The root has two children, 2 and 3; the node 2 has one, 4, if its place is the first."""
    fields = {"rootId": 1, "weight": rand(3, 2), "bias": rand(3)}
    children = torch.tensor([[1, 2], [3, 1], [-1, -1], [-1, -1]])
    parents = torch.tensor([[-1, -1], [1, 1], [1, 2], [2, place]])
    tree = lua("nn.SoftMaxTree", parentChildren=children, childParent=parents, **fields)
    output = convert(tree)([rand(4, 2), torch.tensor([1, 2, 3, 4])])
    assert output.isfinite().tolist() == [True, True, True, False]


def test_an_example_of_a_class_is_drawn_from_all_clusters() -> None:
    mapping = torch.tensor([[1, 1], [1, 2], [2, 1]])
    fields = {"cluster_weight": rand(2, 4), "cluster_bias": rand(2), "class_bias": rand(3)}
    module = convert(lua("nn.HSM", mapping=mapping, class_weight=rand(3, 4), **fields))
    assert module.largest_index == 3


@pytest.mark.covers("inn.MeanSubtraction", compared="outputs")
def test_a_mean_image_is_read_in_the_shape_of_the_images() -> None:
    mean, images = rand(24), rand(2, 2, 3, 4)
    for shape in ((24,), (2, 12), (2, 3, 4)):
        module = convert(lua("inn.MeanSubtraction", mean=mean.reshape(shape)))
        assert torch.equal(module(images), images - mean.reshape(2, 3, 4))


@pytest.mark.parametrize("training", [True, False])
def test_a_window_of_zeros_is_pooled_to_zero(training: bool) -> None:
    """There is nothing to draw, and no sum to divide by."""
    module = convert(lua("inn.SpatialStochasticPooling", kW=2, kH=2, dW=2, dH=2)).train(training)
    image = torch.zeros(1, 1, 2, 4)
    image[..., 2:] = 3
    assert module(image).flatten().tolist() == [0, 3]


def test_a_value_that_is_pushed_again_takes_the_place_of_the_one_before() -> None:
    push = lua("nn.PushTable", _index=1)
    pull = convert(lua("nn.PullTable", _push=push, _index=1))
    first, second, third = rand(2), rand(2), rand(2)
    pull.push([first, third])
    pull.push([second, third])
    entries = [third]
    output = pull(entries)
    assert [output[0] is second, output[1] is third, len(entries)] == [True, True, 1]
    with pytest.raises(RuntimeError, match="nothing was pushed"):
        pull(entries)


@pytest.mark.covers("nn.Recurrent", compared="outputs")
def test_a_recurrent_layer_merges_the_input_and_then_what_is_fed_back() -> None:
    children = {"start": 2.0, "input": 3.0, "feedback": 5.0, "transfer": 7.0}
    modules = [lua("nn.MulConstant", constant_scalar=factor) for factor in children.values()]
    module = convert(lua("nn.Recurrent", modules=[*modules, lua("nn.CSubTable")]))
    module.step_state = []
    assert module(torch.ones(1, 1)).item() == 7 * 2 * 3
    assert module(torch.ones(1, 1)).item() == 7 * (3 - 5 * 42)


def test_sizes_of_a_recurrence_are_nested_as_deep_as_its_tables() -> None:
    nested = [np.array([2]), [[3], [np.array([4, 5]), [6]]]]
    step = lua("nn.SelectTable", index=2)
    layer = lua("nn.Recurrence", recurrentModule=step, outputSize=nested, nInputDim=1)
    module = convert(layer)
    assert module.output_size == [[2], [[3], [[4, 5], [6]]]]
    state = module(torch.zeros(9, 1))
    assert pytree.tree_map(lambda tensor: [*tensor.shape], state) == [
        [9, 2],
        [[9, 3], [[9, 4, 5], [9, 6]]],
    ]


@pytest.mark.covers("nn.ReinforceCategorical", compared="training")
def test_classes_are_drawn_with_their_probabilities() -> None:
    torch.manual_seed(0)
    chances = torch.tensor([0.5, 0.0, 0.3, 0.2]).double()
    drawn = convert(lua("nn.ReinforceCategorical")).train()(chances.expand(20000, 4))
    assert torch.equal(drawn.sum(1), torch.ones(20000).double())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    # Five standard deviations of a frequency of ½ are 0.018.
    assert (drawn.mean(0) - chances).abs().max() < 0.018


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_draws_have_the_type_of_the_input(dtype: torch.dtype) -> None:
    halves = torch.full((2, 3), 0.5, dtype=dtype)
    for name, fields in (
        ("nn.ReinforceNormal", {"stdev": torch.ones(3)}),
        ("nn.ReinforceBernoulli", {}),
        ("nn.ReinforceCategorical", {}),
    ):
        assert convert(lua(name, **fields)).train()(halves).dtype == dtype


@pytest.mark.parametrize(
    ("said", "is_drawn"),
    [(None, True), ("true", True), (True, True), ("false", False), (False, False), ("no", False)],
)
@pytest.mark.parametrize("name", ["nn.ShakeShakeBlock", "nn.ShakeShakeTable"])
def test_options_of_shaken_branches_are_the_word_true_or_its_value(
    name: str, said: object, is_drawn: bool
) -> None:
    fields = {"forwardShake": "false", "shakeImage": "false"}
    fields |= {} if said is None else {"backwardShake": said}
    branches = [lua("nn.Sequential", modules=[]) for _ in range(3)]
    module = convert(lua(name, modules=branches, constant_tensor=torch.ones(2), **fields))
    options = module.forward_shake, module.backward_shake, module.per_image
    assert options == (False, is_drawn, False)


def test_factors_of_examples_are_no_parameters_and_follow_the_input() -> None:
    module = convert(lua("nn.MulConstantSlices", constant_tensor=torch.tensor([2.0, 3.0]).double()))
    assert not list(module.parameters())
    output = module(torch.ones(2, 1, dtype=torch.float16))
    assert (output.tolist(), output.dtype) == ([[2], [3]], torch.float16)


@pytest.mark.covers("nn.MaskSoftMax", compared="outputs")
def test_any_number_but_zero_masks_a_score() -> None:
    scores, mask = rand(2, 4), torch.tensor([[0.0, 2.0, -1.0, 0.0], [0.5, 0.0, 0.0, 0.0]])
    expected = scores.masked_fill(mask.bool(), -torch.inf).softmax(1)
    assert relative_error(convert(lua("nn.MaskSoftMax"))([scores, mask]), expected) < EXACT


def test_only_plain_convolutions_around_a_sign_are_binary() -> None:
    fields = {"nInputPlane": 2, "nOutputPlane": 2, "kW": 1, "kH": 1, "dW": 1, "dH": 1}
    names = ["Convolution", "DilatedConvolution", "Convolution", "Convolution"]
    layers = [lua(f"nn.Spatial{name}", weight=rand(2, 2, 1, 1), **fields) for name in names]
    layers.insert(1, lua("nn.BinActiveZ"))
    conversion = convert_recorded(lua("nn.Sequential", modules=layers))
    kinds = [type(layer).__name__ for layer in conversion.module]
    assert kinds == ["Conv2d", "Sign", "Conv2d", "SignConv2d", "Conv2d"]
    assert any("1 convolutions are binary" in note.text for note in conversion.notes)
    assert convert_recorded(lua("nn.BinActiveZ")).notes == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_augmented_images_keep_their_type(dtype: torch.dtype) -> None:
    images = torch.ones(2, 3, 4, 6, dtype=dtype)
    matrix, three = torch.eye(3).to(dtype), torch.ones(3, dtype=dtype)
    for layer in (
        lua("nn.TotalDropout", p=0.5),
        lua("nn.SpatialRegionDropout", p=0.3),
        lua("nn.SimpleColorTransform", range=three),
        lua("nn.PCAColorTransform", eigenVectors=matrix, eigenValues=three, std=0.1),
        lua("nn.BatchFlip"),
        lua("nn.CopyGrad"),
    ):
        output = convert(layer).to(dtype).train()(images)
        assert (output.dtype, output.shape) == (dtype, images.shape), layer.class_name


def test_frequencies_of_classes_have_the_type_of_the_scores() -> None:
    fields = {"weight": rand(4, 3), "bias": rand(4), "unigrams": torch.ones(4), "k": 2}
    outputs = convert(lua("nn.NCEModule", **fields))([rand(5, 3), torch.ones(5)])
    assert {output.dtype for output in outputs} == {torch.float64}


@pytest.mark.covers("nn.SequencerCriterion", compared="outputs")
def test_a_loss_of_a_sequence_takes_the_output_and_then_the_target() -> None:
    steps, classes = rand(3, 2, 4).log_softmax(2), torch.tensor([[1, 4], [2, 2], [3, 1]])
    for average, factor in ((False, 1), (True, 1 / 3)):
        inner = lua("nn.ClassNLLCriterion")
        criterion = convert(lua("nn.SequencerCriterion", criterion=inner, sizeAverage=average))
        expected = -steps.gather(2, classes[..., None] - 1).mean(1).sum() * factor
        assert relative_error(criterion(steps, classes), expected) < EXACT
        assert relative_error(criterion(list(steps), list(classes)), expected) < EXACT


@pytest.mark.covers("nn.AffineGridGeneratorBHWD", compared="outputs")
def test_a_grid_has_the_precision_of_its_matrix() -> None:
    grid = convert(lua("nn.AffineGridGeneratorBHWD", height=4, width=7))
    output = grid(torch.tensor([[1.0, 0, 0], [0, 1, 0]]).double())
    assert output[:, 0, 0].tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1], rel=EXACT)
    assert output[0, :, 1].tolist() == pytest.approx([n / 3 - 1 for n in range(7)], abs=EXACT)


def test_shaken_branches_keep_their_type() -> None:
    options = dict.fromkeys(("forwardShake", "backwardShake", "shakeImage"), "true")
    module = convert(lua("nn.ShakeShakeTable", constant_tensor=torch.ones(2), **options)).train()
    halves = torch.ones(2, 3, dtype=torch.float16)
    assert {output.dtype for output in module([halves] * 3)} == {torch.float16}


def test_networks_of_opennmt_say_where_they_are() -> None:
    net = lua("nn.Tanh")
    layers = convert_recorded(lua("onmt.Network", net=net)).layers
    assert [layer.path for layer in layers if layer.source is net] == ["model.net"]


@pytest.mark.covers("nn.ReplaceZero", compared="outputs, gradients")
def test_no_gradient_passes_where_a_zero_was_replaced() -> None:
    values = torch.tensor([0.0, -2.0, 3.0], requires_grad=True)
    output = convert(lua("nn.ReplaceZero", constant=5))(values)
    output.sum().backward()
    assert output.tolist() == [5, -2, 3]
    assert values.grad.tolist() == [0, 1, 1]


def test_a_weight_of_zero_has_no_sign_in_xnor_net() -> None:
    weight = torch.tensor([0.0, 1.0, -5.0]).reshape(1, 3, 1, 1)
    fields = {"nInputPlane": 3, "nOutputPlane": 1, "kW": 1, "kH": 1, "dW": 1, "dH": 1}
    convolution = lua("nn.SpatialConvolution", weight=weight, **fields)
    block = convert(lua("nn.Sequential", modules=[lua("nn.BinActiveZ"), convolution]))
    pixel = torch.tensor([7.0, 8.0, -9.0]).reshape(1, 3, 1, 1)
    assert block(pixel).item() == 2 * (0 + 1 + 1)


def test_modules_without_a_gradient_run_one_after_the_other() -> None:
    factors = [lua("nn.MulConstant", constant_scalar=factor) for factor in (2, 3)]
    assert convert(lua("nn.NoBackprop", modules=factors))(torch.ones(1)).item() == 6


@pytest.mark.covers("nn.TemporalAdapter", compared="outputs")
def test_steps_may_be_images() -> None:
    view, images = lua("nn.View", size=torch.tensor([1, -1])), rand(2, 3, 4, 5)
    net = lua("nn.Sequential", modules=[view, lua("nn.Square"), view])
    assert torch.equal(convert(lua("nn.TemporalAdapter", net=net))(images), images**2)


def test_a_convolution_of_eyescream_has_the_factor_of_its_file() -> None:
    fields = {"nInputPlane": 1, "nOutputPlane": 9, "kW": 1, "kH": 1, "dW": 1, "dH": 1}
    fields |= {"weight": torch.arange(9.0).reshape(9, 1, 1, 1), "factor": 3, "nOutputPlaneU": 1}
    output = convert(lua("nn.SpatialConvolutionUpsample", **fields))(torch.ones(1, 1, 1, 1))
    assert torch.equal(output, torch.arange(9.0).reshape(1, 1, 3, 3))


def test_shaken_tables_of_waifu2x_keep_their_type() -> None:
    halves = torch.ones(2, 3, dtype=torch.float16)
    assert convert(lua("w2nn.ShakeShakeTable")).train()([halves] * 2).dtype == torch.float16
