"""Options and inputs of layers of packages that the examples of `test_contract` do not have.

Each is compared with what the Lua source computes, written out.
"""

from __future__ import annotations

import math

import pytest
import torch
from layer_support import lua, rand
from support import relative_error
from torch import nn
from torch.nn import functional

from torchlift.converters import convert, t7
from torchlift.converters.modules import ConversionError, convert_recorded
from torchlift.converters.modules.packages.recurrent import Recurrence

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


def test_an_axis_is_put_into_inputs_with_too_few_only() -> None:
    module = convert(lua("nn.MinDim", pos=2, numInputDims=3))
    assert [module(rand(*shape)).shape for shape in [(2, 3), (2, 3, 4), (2, 3, 4, 5)]] == [
        (2, 1, 3),
        (2, 3, 4),
        (2, 3, 4, 5),
    ]


def test_a_random_crop_begins_anywhere_but_at_the_last_place() -> None:
    """`torch.random` draws from 1 to the margin, which leaves the last row and column out."""
    torch.manual_seed(0)
    module = convert(lua("nn.SpatialUniformCrop", oheight=2, owidth=3))
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    images = torch.stack([rows, columns]).expand(300, -1, -1, -1)
    corners = {tuple(crop[:, 0, 0].tolist()) for crop in module(images)}
    assert corners == {(row, column) for row in (0, 1) for column in (0, 1, 2)}
    # One that is as large as the image is the image.
    assert torch.equal(module(images[:, :, :2, :3]), images[:, :, :2, :3])


def test_colors_are_shifted_within_their_limits() -> None:
    torch.manual_seed(0)
    limits = torch.tensor([0.5, 1.0, 2.0])
    shift = convert(lua("nn.SimpleColorTransform", range=limits))(torch.zeros(4000, 3, 2, 2))
    assert torch.equal(shift, shift[..., :1, :1].expand_as(shift))
    extremes = torch.stack([shift.amin((0, 2, 3)), shift.amax((0, 2, 3))])
    # Of 4,000 draws of a uniform distribution the extremes come within a hundredth.
    assert relative_error(extremes, torch.stack([-limits, limits])) < 0.01


def test_colors_are_shifted_along_their_principal_axes() -> None:
    """The covariance of the shifts is V · diag((std · λ)²) · Vᵀ."""
    torch.manual_seed(0)
    vectors = torch.linalg.qr(torch.randn(3, 3))[0]
    values = torch.tensor([2.0, 1.0, 0.5])
    layer = lua("nn.PCAColorTransform", eigenVectors=vectors, eigenValues=values, std=0.3)
    shift = convert(layer)(torch.zeros(40000, 3, 2, 2))
    assert torch.equal(shift, shift[..., :1, :1].expand_as(shift))
    expected = vectors @ torch.diag((0.3 * values) ** 2) @ vectors.T
    # Five standard deviations of a variance of 40,000 draws are 0.035 of it.
    assert relative_error(shift[..., 0, 0].T.cov(), expected) < 0.04


def test_dropping_the_whole_input_does_not_rescale_it() -> None:
    torch.manual_seed(0)
    module = convert(lua("nn.TotalDropout", p=0.2))
    drawn = torch.stack([module(torch.ones(3)) for _ in range(2000)])
    assert torch.equal(drawn, drawn[:, :1].expand(-1, 3))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert abs(float(drawn.mean()) - 0.8) < 0.045  # five standard deviations


@pytest.mark.covers("nn.SelectBoxes", "fbcoco.ImageTransformer", compared="outputs")
def test_boxes_and_images_with_mean_and_deviation() -> None:
    scores, boxes, mean, std = rand(5, 3), rand(5, 12), rand(4), rand(4)
    module = convert(lua("nn.SelectBoxes", mean=mean, std=std))
    chosen = torch.stack(
        [row[4 * best : 4 * best + 4] for row, best in zip(boxes, scores.argmax(1), strict=True)]
    )
    assert relative_error(module([scores, boxes]), chosen * std + mean) < 1e-6
    image, mean, std = rand(3, 4, 5), [0.5, 1.5, 2.5], [2.0, 4.0, 8.0]
    module = convert(lua("fbcoco.ImageTransformer", mean=mean, std=std))
    expected = torch.stack([(image[c] - mean[c]) / std[c] for c in range(3)])
    assert relative_error(module(image), expected) < EXACT


@pytest.mark.covers("nn.NoBackprop", compared="outputs")
def test_the_first_version_of_no_backprop_has_a_module_inner() -> None:
    weight, x = rand(4, 3), rand(2, 3)
    inner = lua("nn.Linear", weight=weight)
    for layer in (lua("nn.NoBackprop", inner=inner), lua("nn.NoBackprop", modules=[inner])):
        module = convert(layer)
        assert relative_error(module(x), x @ weight.T) < EXACT
        assert not any(parameter.requires_grad for parameter in module.parameters())


def nce(**fields: object) -> nn.Module:
    parameters = {"weight": rand(6, 4), "bias": rand(6), "unigrams": torch.ones(6).double()}
    return convert(lua("nn.NCEModule", k=3, **parameters, **fields)).train()


def test_the_first_batch_decides_a_normalization_that_is_not_known() -> None:
    """Z is the mean score times the number of classes; below 0 in a file it is not known."""
    features, target = rand(5, 4), torch.tensor([1, 6, 2, 2, 3])
    for shared in (False, True):
        module = nce(Z=torch.tensor([-1.0]), batchnoise=shared)
        model, noise, *_ = module([features, target])
        scores = (features @ module.weight.t() + module.bias).exp()
        assert relative_error(model * module.z, scores[range(5), target - 1].detach()) < EXACT
        counted = noise if shared else torch.cat([model[:, None], noise], 1)
        assert relative_error(counted.mean() * 6, torch.tensor(1.0)) < EXACT
        before = module.z
        module([rand(5, 4), target])
        assert module.z == before
    assert nce(Z=torch.tensor([4.0])).z == 4
    assert nce(Z=torch.tensor([0.0])).z is None


def test_a_batch_that_shares_its_noise_draws_once() -> None:
    torch.manual_seed(0)
    features, target = torch.ones(50, 4).double(), torch.ones(50)
    _, shared, _, frequencies = nce(batchnoise=True)([features, target])
    assert torch.equal(shared, shared[:1].expand(50, 3))
    assert frequencies.shape == (50, 3)
    _, own, *_ = nce()([features, target])
    assert not torch.equal(own, own[:1].expand(50, 3))


@pytest.mark.covers("nn.ReinforceNormal", "nn.ReinforceGamma", compared="outputs, training")
def test_draws_with_a_deviation_or_scale_of_their_own() -> None:
    torch.manual_seed(0)
    mean, spread = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    rows = mean.expand(40000, 2)
    # 40,000 draws: five standard deviations of a mean are 0.025, of a deviation 0.018 of itself.
    normal = convert(lua("nn.ReinforceNormal", stdev=spread))
    both = convert(lua("nn.ReinforceNormal"))
    for drawn in (normal(rows), both([rows, spread.expand(40000, 2)])):
        assert (drawn.mean(0) - mean).abs().max() < 0.08
        assert (drawn.std(0) / spread - 1).abs().max() < 0.02
    assert torch.equal(both.eval()([rows, spread]), rows)
    shape = torch.tensor([2.0, 4.0]).expand(40000, 2)
    gamma = convert(lua("nn.ReinforceGamma", scale=spread))
    both = convert(lua("nn.ReinforceGamma"))
    for drawn in (gamma(shape), both([shape, spread.expand(40000, 2)])):
        assert (drawn.mean(0) / (shape[0] * spread) - 1).abs().max() < 0.02
        assert (drawn.std(0) / (shape[0].sqrt() * spread) - 1).abs().max() < 0.04
    assert torch.equal(both.eval()([shape, spread.expand(40000, 2)]), shape * spread)


@pytest.mark.covers("nn.AffineTransformMatrixGenerator", compared="outputs")
def test_affine_matrices_of_one_kind_only() -> None:
    angle, x, y = 0.5, 0.25, -0.75
    cos, sin = math.cos(angle), math.sin(angle)
    for field, values, matrix in (
        ("useRotation", [angle], [[cos, -sin, 0], [sin, cos, 0]]),
        ("useScale", [x], [[x, 0, 0], [0, x, 0]]),
        ("useScale", [x, y], [[x, 0, 0], [0, y, 0]]),
        ("useTranslation", [x, y], [[1, 0, x], [0, 1, y]]),
        ("none", [1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]),
    ):
        module = convert(lua("nn.AffineTransformMatrixGenerator", **{field: True}))
        assert relative_error(module(torch.tensor(values).double()), torch.tensor(matrix)) < 1e-6


@pytest.mark.covers("nn.SpatialConvolutionUpsample", compared="outputs")
def test_the_upsampling_of_fluid_net_shuffles_its_planes() -> None:
    """Plane p of 2 · 3 parts holds row p / 3 and column p % 3 of each block."""
    weight = rand(12, 2, 1, 1)
    fields = {"nInputPlane": 2, "nOutputPlane": 12, "kW": 1, "kH": 1, "dW": 1, "dH": 1}
    convolution = lua("nn.SpatialConvolution", weight=weight, padW=0, padH=0, **fields)
    source = lua("nn.SpatialConvolutionUpsample", modules=[convolution], scaleW=3, scaleH=2)
    x = rand(2, 2, 4, 5)
    planes, expected = functional.conv2d(x, weight), torch.zeros(2, 2, 8, 15).double()
    for plane in range(12):
        kept, part = divmod(plane, 6)
        expected[:, kept, part // 3 :: 2, part % 3 :: 3] = planes[:, plane]
    assert relative_error(convert(source)(x), expected) < EXACT


@pytest.mark.covers("onmt.JoinReplicateTable", "onmt.Bridge", compared="outputs")
def test_joins_count_the_dimensions_of_an_example_and_from_the_end() -> None:
    first, second = rand(2, 1, 3), rand(2, 4, 5)
    joined = torch.cat([first.expand(2, 4, 3), second], 2)
    for repeat, join, dims in ((1, 2, 2), (2, 3, 3), (-2, -1, None), (-2, -1, 2)):
        fields = {"dimensionReplicate": repeat, "dimensionJoin": join, "nInputDims": dims}
        module = convert(lua("onmt.JoinReplicateTable", **fields))
        assert torch.equal(module([first, second]), joined)
    assert isinstance(convert(lua("onmt.Bridge")), nn.Identity)


@pytest.mark.covers("onmt.Generator", compared="outputs")
def test_a_generator_takes_the_first_of_several_outputs() -> None:
    module = convert(lua("onmt.Generator", net=lua("nn.Tanh")))
    first, second = rand(2, 3), rand(2, 3)
    assert torch.equal(module([first, second]), first.tanh())
    assert torch.equal(module(first), first.tanh())


@pytest.mark.covers("inn.SpatialStochasticPooling", compared="outputs")
def test_windows_of_stochastic_pooling_overlap_by_their_stride() -> None:
    x = torch.rand(2, 3, 7, 8).double()
    layer = lua("inn.SpatialStochasticPooling", kW=3, kH=2, dW=1, dH=2)
    windows = functional.pad(x, [0, 0, 0, 1]).unfold(2, 2, 2).unfold(3, 3, 1).flatten(4)
    expected = windows.square().sum(4) / windows.sum(4)
    assert relative_error(convert(layer).eval()(x), expected) < EXACT


@pytest.mark.covers("nn.BinaryLogisticRegression", compared="outputs")
def test_targets_of_a_logistic_loss_may_have_an_axis_more() -> None:
    input, target = rand(5), torch.tensor([1.0, -1, 1, 1, -1]).double()
    expected = (1 + (-target * input).exp()).log().mean()
    module = convert(lua("nn.BinaryLogisticRegression"))
    for x in (input, input[:, None]):
        for y in (target, target[:, None]):
            assert relative_error(module(x, y), expected) < EXACT


@pytest.mark.covers("nn.TrimZero", compared="outputs")
def test_trimming_takes_and_gives_tables() -> None:
    """Rows whose first tensor is zero are not seen, and are zeros in every output."""
    first, second = rand(4, 3), rand(4, 3)
    first[[1, 3]] = 0
    swap = lua("nn.ConcatTable", modules=[lua("nn.SelectTable", index=n) for n in (2, 1)])
    seen = lua("nn.MulConstant", constant_scalar=2)
    pair = lua("nn.ParallelTable", modules=[seen, seen])
    inside = lua("nn.Sequential", modules=[swap, pair])
    module = convert(lua("nn.TrimZero", nInputDim=1, modules=[inside]))
    kept = torch.tensor([1.0, 0, 1, 0]).double()[:, None]
    assert relative_error(module([first, second]), [2 * second * kept, 2 * first]) < EXACT


@pytest.mark.covers("nn.LookupTableMaskZero", compared="outputs")
def test_rows_of_a_masked_table_are_limited_by_their_norm() -> None:
    weight = torch.tensor([[9.0, 9.0], [3.0, -4.0], [0.25, 0.25]]).double()
    for fields, norm in (({}, 5.0), ({"normType": 1}, 7.0)):
        module = convert(lua("nn.LookupTableMaskZero", weight=weight, maxNorm=1, **fields))
        expected = torch.stack([torch.zeros(2).double(), weight[1] / norm, weight[2]])
        assert relative_error(module(torch.tensor([0, 1, 2])), expected) < 1e-6
        assert module.largest_index == 2  # what examples are drawn up to


def test_a_way_to_the_root_may_lead_through_all_parents() -> None:
    """Node 1 has the child 2, and that one the child 3: each is certain."""
    module = convert(
        lua(
            "nn.SoftMaxTree",
            rootId=1,
            weight=rand(2, 4),
            bias=rand(2),
            childParent=torch.tensor([[-1, -1], [1, 1], [2, 1]], dtype=torch.int32),
            parentChildren=torch.tensor([[1, 1], [2, 1], [-1, -1]]).int(),
        )
    )
    assert module([rand(3, 4), torch.tensor([1, 2, 3])]).tolist() == [0, 0, 0]
    assert module.largest_index == 3


def test_classes_that_torch7_cannot_run_are_refused() -> None:
    mapping = torch.tensor([[1, 1], [1, 2], [2, 1]])
    fields = {"cluster_weight": rand(2, 4), "cluster_bias": rand(2), "class_bias": rand(3)}
    for unknown in (1, 3):
        hsm = lua("nn.HSM", mapping=mapping, class_weight=rand(3, 4), unk_index=unknown, **fields)
        with pytest.raises(ConversionError, match="unk_index"):
            convert(hsm)
    empty = {"running_mean": torch.zeros(0), "running_std": torch.zeros(0)}
    with pytest.raises(ConversionError, match="never trained"):
        convert(lua("BatchNormalizationShiftPow2", **empty))
    weight = torch.zeros(0)
    with pytest.raises(ConversionError, match="has no weight"):
        convert(lua("nn.LinearizedConvolution", weight=weight, bias=weight, kw=3))


@pytest.mark.covers("nn.SeqGRU", "nn.SeqLSTM", compared="outputs")
def test_sequences_may_begin_with_their_batch_and_a_step_with_one_zero_is_none_of_padding() -> None:
    steps = rand(5, 2, 3)
    steps[1, 0, 0] = 0  # only a step that is zero altogether is masked
    for name, columns in (("nn.SeqGRU", 6), ("nn.SeqLSTM", 8)):
        fields = {"weight": rand(5, columns), "bias": rand(columns)}
        modules = [
            convert(lua(name, **fields, batchfirst=first, maskzero=masked))
            for first in (False, True)
            for masked in (False, True)
        ]
        expected = modules[0](steps).detach()
        for module in modules:
            output = module(steps.transpose(0, 1) if module.batch_first else steps)
            output = output.transpose(0, 1) if module.batch_first else output
            assert relative_error(output, expected) < EXACT


@pytest.mark.covers("nn.LinearNoBias", compared="outputs")
def test_a_linear_layer_without_a_bias_does_not_learn_the_zeros_of_its_first_version() -> None:
    module = convert(lua("nn.LinearNoBias", weight=rand(2, 3), bias=torch.zeros(2).double()))
    assert [name for name, _ in module.named_parameters()] == ["weight"]


def test_tables_of_states_count_each_tensor() -> None:
    layer = Recurrence(nn.Identity(), output_size=[[2], [[3], [4, 5]]], input_dims=1)
    states = [rand(1, 2), rand(1, 3), rand(1, 4, 5)]
    assert layer.num_states == 3
    assert layer.nested(states) == [[states[0], [states[1], states[2]]]]
    assert layer.nested([]) == []
    assert Recurrence(nn.Identity(), output_size=[2], input_dims=1).num_states == 1


def test_graphs_with_a_criterion_inside_are_refused() -> None:
    node, outside = lua("nngraph.Node"), lua("nngraph.Node")
    data = t7.LuaTable({"criterion": lua("nn.MSECriterion"), "mapindex": t7.LuaTable()})
    node.fields["data"], outside.fields["data"] = data, t7.LuaTable()
    nodes = {"innode": outside, "outnode": outside, "forwardnodes": t7.LuaTable.from_list([node])}
    graph = t7.LuaObject("nn.gModule", t7.LuaTable({**nodes, "modules": t7.LuaTable()}))
    with pytest.raises(ConversionError, match="computes a criterion"):
        convert(graph)


@pytest.mark.covers("nn.ModuleFromCriterion", compared="outputs")
def test_a_criterion_as_a_module_takes_the_prediction_first() -> None:
    logs, classes = rand(4, 3).log_softmax(1), torch.tensor([1, 3, 2, 1])
    module = convert(lua("nn.ModuleFromCriterion", criterion=lua("nn.ClassNLLCriterion")))
    expected = -logs[range(4), classes - 1].mean()
    assert relative_error(module([logs, classes]), expected.reshape(1)) < EXACT


def test_positions_count_along_the_second_axis_only() -> None:
    for dimension in (1, 3, -2):
        with pytest.raises(ConversionError, match="dimension"):
            convert(lua("onmt.PositionEmbedding", weight=rand(4, 3), dimension=dimension))
    for dimension in (2, -1, None):  # the last one of (rows, steps)
        module = convert(lua("onmt.PositionEmbedding", weight=rand(4, 3), dimension=dimension))
        assert module([torch.zeros(2, 5), torch.tensor([5, 2])]).shape == (2, 5, 3)


@pytest.mark.covers("nn.MulConstantSlices", compared="outputs")
def test_a_smaller_batch_takes_the_first_factors() -> None:
    constants, x = rand(5, 1, 1), rand(2, 3)
    module = convert(lua("nn.MulConstantSlices", constant_tensor=constants))
    assert relative_error(module(x), x * constants[:2, 0]) < 1e-6


@pytest.mark.covers("nn.VanillaRNN", "nn.TemporalAdapter", compared="outputs")
def test_layers_of_torch_rnn_remember_and_say_where_they_are() -> None:
    fields = {"weight": rand(5, 2), "bias": rand(2)}
    assert convert(lua("nn.VanillaRNN", **fields, remember_states=True)).remember
    assert not convert(lua("nn.VanillaRNN", **fields)).remember
    view, inner = lua("nn.View", size=torch.tensor([1, -1])), lua("nn.Tanh")
    net = lua("nn.Sequential", modules=[view, inner, view])
    layers = convert_recorded(lua("nn.TemporalAdapter", net=net)).layers
    assert [one.path for one in layers if one.source is inner] == ["model.net.modules[2]"]


@pytest.mark.covers("nn.LinearizedConvolution", compared="outputs")
def test_a_step_of_a_convolution_reads_the_last_input_only() -> None:
    weight, bias, x = rand(5, 6), rand(5), rand(2, 4, 3)
    module = convert(lua("nn.LinearizedConvolution", weight=weight, bias=bias, kw=2))
    expected = x[:, -1:] @ weight[:, 3:].T + bias
    assert relative_error(module(x), expected) < EXACT
    with pytest.raises(ConversionError, match=r"no weight: fairseq's evaluate\(\) copies it there"):
        convert(lua("nn.LinearizedConvolution", weight=rand(0), bias=bias, kw=2))


def test_a_caption_model_has_as_many_states_as_its_file_says() -> None:
    table = lua("nn.LookupTable", weight=rand(4, 2))
    fields = {"core": lua("nn.Tanh"), "lookup_table": table, "vocab_size": 3, "rnn_size": 2}
    for said, count in (
        ({}, 2),
        ({"num_layers": 2}, 4),
        ({"num_layers": 2, "init_state": [rand(1, 2)] * 3}, 3),
        ({"num_layers": 2, "num_state": 5, "init_state": [rand(1, 2)] * 3}, 5),
    ):
        model = convert(lua("nn.LanguageModel", **fields, **said))
        assert [model.num_states, model.rnn_size, model.vocab_size] == [count, 2, 3]


def test_all_convolutions_around_a_sign_are_binary_but_for_the_first_and_the_last() -> None:
    fields = {"nInputPlane": 2, "nOutputPlane": 2, "kW": 1, "kH": 1, "dW": 1, "dH": 1}
    layers = [lua("nn.SpatialConvolution", weight=rand(2, 2, 1, 1), **fields) for _ in range(4)]
    layers.insert(1, lua("nn.BinActiveZ"))
    conversion = convert_recorded(lua("nn.Sequential", modules=layers))
    kinds = [type(layer).__name__ for layer in conversion.module]
    assert kinds == ["Conv2d", "Sign", "SignConv2d", "SignConv2d", "Conv2d"]
    assert any("2 convolutions are binary" in note.text for note in conversion.notes)
