"""Examples of the classes of published projects, built as their Lua constructors build them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from contract_objects_support import (
    Built,
    convolution,
    images,
    linear,
    rand,
    sequential,
    unchanged,
)
from layer_support import lua

from torchlift.converters.t7 import LuaObject, LuaTable

#: A class → a builder of an object, an input, and the output that a formula gives.
PROJECTS: dict[str, Callable[[], Built]] = {}


def of_class(*class_names: str) -> Callable[[Callable[[str], Built]], Callable[[str], Built]]:
    """Make a function the builder of classes; it gets the name of the class."""

    def decorate(build: Callable[[str], Built]) -> Callable[[str], Built]:
        for name in class_names:
            PROJECTS[name] = lambda name=name: build(name)  # type: ignore[misc]  # bound early
        return build

    return decorate


def signs(value: torch.Tensor) -> torch.Tensor:
    return torch.where(value > 0, 1.0, -1.0)


@of_class("onmt.LSTM", "onmt.GRU", "onmt.GlobalAttention", "onmt.MaskedSoftmax", "onmt.Network")
def network(name: str) -> Built:
    net = lua("nn.Tanh")
    return lua(name, net=net, modules=[net]), (x := rand(2, 3)), x.tanh()


@of_class("onmt.Bridge", "onmt.Generator", "onmt.FeaturesGenerator")
def head(name: str) -> Built:
    net = sequential(linear(3, 4), lua("nn.LogSoftMax"))
    return lua(name, net=net, modules=[net], version=2), rand(2, 3)


@of_class("onmt.WordEmbedding", "onmt.FeaturesEmbedding")
def embedding(name: str) -> Built:
    net = lua("nn.LookupTable", weight=(weight := rand(5, 3)))
    words = torch.tensor([[1, 5], [3, 2]])
    return lua(name, net=net, modules=[net]), words, weight[words - 1]


@of_class("onmt.JoinReplicateTable")
def join_replicated(name: str) -> Built:
    first, second = rand(2, 1, 3), rand(2, 4, 5)
    joined = torch.cat([first.expand(2, 4, 3), second], 2)
    return lua(name, dimensionReplicate=2, dimensionJoin=3), [first, second], joined


PROJECTS["nn.almostIdentity"] = unchanged("nn.almostIdentity", torch.ones(2, 3), i=100)
PROJECTS["onmt.VariationalDropout"] = unchanged(
    "onmt.VariationalDropout", torch.ones(2, 3), p=0.3, train=False
)


@of_class("onmt.PositionEmbedding")
def positions(name: str) -> Built:
    """Rows of four steps, of which the last two and all four are true; three positions."""
    weight = rand(4, 3)
    steps, lengths = torch.ones(2, 4, 1), torch.tensor([2, 4])
    rows = torch.tensor([[0, 0, 1, 2], [1, 2, 3, 3]])
    return lua(name, weight=weight, dimension=2, max_pos=3), [steps, lengths], weight[rows]


@of_class("nn.Rectifier")
def rectifier(name: str) -> Built:
    return lua(name), (x := rand(2, 3)), x.clamp(min=0)


@of_class("nn.Scale")
def gray(name: str) -> Built:
    """`Scale.lua` takes one image; halving averages pairs."""
    frame = torch.rand(3, 4, 6)
    luma = (frame * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    return lua(name, height=2, width=3), frame, torch.nn.functional.avg_pool2d(luma, 2)


@of_class("nn.SpatialConvolutionUpsample", "cudnn.SpatialConvolutionUpsample")
def upsample(name: str) -> Built:
    fields = dict(convolution(3, 8, 3).fields.items())
    source = LuaObject(name, LuaTable({**fields, "factor": 2, "nOutputPlaneU": 2}))
    x = images()
    weight, bias = (torch.from_numpy(fields[key]) for key in ("weight", "bias"))
    output = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    return source, x, output.reshape(2, 2, 12, 12)


@of_class("nn.maskSoftMax")
def mask_softmax(name: str) -> Built:
    scores, mask = rand(2, 4), torch.tensor([[0, 1, 0, 0], [1, 0, 0, 1]]).bool()
    return lua(name), [scores, mask.float()], scores.masked_fill(mask, -torch.inf).softmax(1)


@of_class("nn.ShakeShakeBlock")
def shake_shake_block(name: str) -> Built:
    """The weights of the branches in the file, 0.9, mean nothing: they are ½."""
    branches = [
        sequential(lua("nn.Tanh"), lua("nn.MulConstant", constant_scalar=0.9)),
        sequential(lua("nn.Square"), lua("nn.MulConstant", constant_scalar=0.9)),
    ]
    x = images()
    source = lua(name, modules=[*branches, sequential(lua("nn.Identity"))], shakeImage="false")
    return source, x, x + x.tanh() / 2 + x.square() / 2


@of_class("nn.MulConstantSlices")
def mul_slices(name: str) -> Built:
    constants, x = torch.tensor([2.0, -1.0]), images()
    return lua(name, constant_tensor=constants), x, x * constants[:, None, None, None]


@of_class("nn.BinActiveZ", "BinarizedNeurons")
def sign(name: str) -> Built:
    return lua(name), torch.tensor([[-0.5, 0.0, 2.0]]), torch.tensor([[-1.0, 0.0, 1.0]])


@of_class("nn.SharpMask")
def sharp_mask(name: str) -> Built:
    trunk = sequential(lua("nn.Tanh"), lua("nn.Square"))
    refs = {index: sequential(lua("nn.CAddTable")) if index else lua("nn.Abs") for index in (0, 1)}
    source = lua(
        name,
        trunk=trunk,
        scoreBranch=lua("nn.Identity"),
        maskBranchDM=lua("nn.Identity"),
        refs=LuaTable(refs),
        skpos=[1],
    )
    x = images()
    return source, x, x.tanh() + x.tanh().square().abs()


@of_class("nn.ConvBlockTrainTestLayer")
def convolution_steps(name: str) -> Built:
    """A call in evaluation mode is the first step of a sequence: what is before it is zero."""
    weight, bias = rand(3, 4, 5), rand(5)
    flat = weight.flatten(0, 1).T.contiguous()
    norm = lua(
        "nn.WeightNorm",
        v=flat,
        g=flat.square().sum(1, keepdim=True).add(1e-4).sqrt(),
        bias=bias,
        outputDim=3,
        viewOut=torch.tensor([5, 3, 4]),
        modules=[lua("nn.TemporalConvolutionTBC", weight=weight, bias=bias, kw=3, nIn=4, nOut=5)],
    )
    steps = rand(2, 1, 4)
    block = sequential(lua("nn.Identity"), norm)
    return lua(name, modules=[block, lua("nn.Identity")]), steps, steps @ weight[2] + bias


@of_class("nn.TrainTestLayer", "nn.ModeSwitch")
def by_mode(name: str) -> Built:
    x = rand(2, 3)
    return lua(name, modules=[lua("nn.Square"), lua("nn.Tanh")], train=False), x, x.tanh()


@of_class("nn.NoBackprop", "nn.SequentialSplitBatch")
def inner(name: str) -> Built:
    return lua(name, modules=[lua("nn.Tanh")]), (x := rand(2, 3)), x.tanh()


@of_class("nn.ModelParallel", "nn.AbstractParallel")
def side_by_side(name: str) -> Built:
    x = rand(2, 3)
    source = lua(name, modules=[lua("nn.Tanh"), lua("nn.Square")], dimension=2)
    return source, x, torch.cat([x.tanh(), x.square()], 1)


@of_class("nn.BBoxNorm")
def box_norm(name: str) -> Built:
    mean, std, x = rand(4), rand(4), rand(2, 8)
    return lua(name, mean=mean, std=std, train=False), x, x * std.repeat(2) + mean.repeat(2)


REGIONS = torch.tensor([[1.0, 2, 4, 6, 12], [2.0, 0, 0, 10, 4]])


@of_class("nn.Foveal")
def foveal(name: str) -> Built:
    first = [[1, 2, 4, 6, 12], [1, 1, 2, 7, 14], [1, 0, 0, 8, 16], [1, -4, -8, 12, 24]]
    second = [[2, 0, 0, 10, 4], [2, -2.5, -1, 12.5, 5], [2, -5, -2, 15, 6], [2, -15, -6, 25, 10]]
    return lua(name), REGIONS, torch.tensor([*first, *second]).float()


@of_class("nn.ContextRegion")
def context_region(name: str) -> Built:
    """Twice as large around the center."""
    a, b = 1.5, -0.5
    matrix = torch.tensor([[a, 0, b, 0], [0, a, 0, b], [b, 0, a, 0], [0, b, 0, a]])
    larger = torch.tensor([[1.0, 0, 0, 8, 16], [2.0, -5, -2, 15, 6]])
    return lua(name, tr=matrix), REGIONS, larger


@of_class("nn.ConvertFrom")
def moved(name: str) -> Built:
    """Moved to the right by half a width, and twice as high."""
    moves = torch.tensor([[0.5, 0, 0, 2.0]]).repeat(2, 1)
    moves[:, 3].log_()
    output = torch.tensor([[1.0, 4, 0, 8, 16], [2.0, 5, -2, 15, 6]])
    return lua(name), [REGIONS, moves], output


@of_class("nn.SelectBoxes")
def select_boxes(name: str) -> Built:
    scores, boxes = torch.tensor([[0.1, 0.9], [0.8, 0.2]]), rand(2, 8)
    return lua(name), [scores, boxes], torch.stack([boxes[0, 4:], boxes[1, :4]])


@of_class("fbcoco.ImageTransformer")
def image_transformer(name: str) -> Built:
    x, mean = images(), torch.tensor([1.0, 2, 3])
    source = lua(name, mean=mean, scale=255, swap=[3, 2, 1])
    return source, x, x.flip(1) * 255 - mean[:, None, None]


@of_class("BinaryLinear")
def binary_linear(name: str) -> Built:
    weight, bias, x = rand(4, 3), rand(4), rand(2, 3)
    return lua(name, weight=weight, bias=bias), x, x @ signs(weight).T + bias


@of_class("BinarySpatialConvolution", "cudnnBinarySpatialConvolution")
def binary_convolution(name: str) -> Built:
    fields = dict(convolution(3, 4, 3).fields.items())
    weight, bias = (torch.from_numpy(fields[key]) for key in ("weight", "bias"))
    x = images()
    output = torch.nn.functional.conv2d(x, signs(weight), bias, padding=1)
    return LuaObject(name, LuaTable(fields)), x, output


@of_class("BatchNormalizationShiftPow2", "SpatialBatchNormalizationShiftPow2")
def shift_norm(name: str) -> Built:
    statistics = {"running_mean": torch.tensor([1.0, -1, 0]), "running_std": torch.full((3,), 0.3)}
    weight, bias = torch.tensor([-3.0, 1.0, 0.7]), rand(3)
    x = rand(2, 3)
    # 0.3 is nearest to ¼, 3 to 4 (on a logarithmic scale), and 0.7 to ½.
    output = (x - statistics["running_mean"]) * torch.tensor([-1.0, 0.25, 0.125]) + bias
    if name.startswith("Spatial"):
        x, output = (value[:, :, None, None] for value in (x, output))
    return lua(name, weight=weight, bias=bias, train=False, **statistics), x, output


@of_class("nn.LstmLayer")
def lstm_layer(name: str) -> Built:
    """A step that returns its state c, and makes x + c of it: sums from the end."""
    add = sequential(lua("nn.NarrowTable", offset=1, length=2), lua("nn.CAddTable"))
    unit = lua("nn.ConcatTable", modules=[add, lua("nn.SelectTable", index=3), add])
    steps = [rand(2, 3) for _ in range(3)]
    sums = [steps[2] + steps[1] + steps[0], steps[2] + steps[1], steps[2]]
    return lua(name, lstmUnit=unit, nHidden=3, reverse=True), steps, sums


@of_class("nn.BiRnnJoin")
def bi_rnn_join(name: str) -> Built:
    first, second = ([rand(2, 3) for _ in range(2)] for _ in range(2))
    joined = [a + b for a, b in zip(first, second, strict=True)]
    return lua(name, joinUnit=lua("nn.CAddTable")), [first, second], joined


@of_class("nn.SharedParallelTable")
def shared_parallel(name: str) -> Built:
    steps = [rand(2, 3), rand(2, 3)]
    return lua(name, unit=lua("nn.Tanh")), steps, [step.tanh() for step in steps]


@of_class("cudnn.BatchBRNN", "cudnn.BatchBRNNReLU")
def batch_brnn(name: str) -> Built:
    """Without weights of the states, a step is the normalized input alone, in both directions."""
    weight, x = rand(3, 4), rand(5, 2, 4)
    mode = "RELU" if name.endswith("ReLU") else "TANH"
    rnn = lua(
        "cudnn.RNN",
        mode=f"CUDNN_RNN_{mode}",
        inputMode="CUDNN_SKIP_INPUT",
        bidirectional="CUDNN_BIDIRECTIONAL",
        inputSize=3,
        hiddenSize=3,
        numLayers=1,
        weight=torch.zeros(2 * 9 + 4 * 3),
    )
    norm = lua(
        "nn.BatchNormalization", running_mean=torch.zeros(3), running_var=torch.ones(3), eps=0.0
    )
    view = lua("nn.View", size=torch.tensor([1, 1, -1]))
    clamp = [lua("nn.Clamp", min_val=0, max_val=20)] if mode == "RELU" else []
    last = [lua("nn.View", size=torch.tensor([-1, 2, 3])), lua("nn.Sum", dimension=3)]
    modules = [view, lua("nn.Linear", weight=weight), norm, view, rnn, *clamp, *last]
    step = x @ weight.T
    output = 2 * (step.relu().clamp(max=20) if mode == "RELU" else step.tanh())
    return lua(name, modules=modules, rnn=rnn, train=False), x, output


@of_class("nn.Normalize2")
def normalize2(name: str) -> Built:
    return lua(name), (x := images()), x / (x.square().sum(1, keepdim=True) + 1e-5).sqrt()


@of_class("nn.StereoJoin1")
def stereo_join1(name: str) -> Built:
    return lua(name), (x := rand(4, 3, 2, 5)), (x[::2] * x[1::2]).sum(1, keepdim=True)


@of_class("nn.StereoJoin")
def stereo_join(name: str) -> Built:
    x = rand(2, 3, 2, 4)
    costs = torch.full((1, 2, 2, 4), float("nan"))
    costs[0, 0] = -(x[0] * x[1]).sum(0)
    costs[0, 1, :, 1:] = -(x[0, :, :, 1:] * x[1, :, :, :-1]).sum(0)
    return lua(name, disp_max=2, direction=-1), x, costs


@of_class("nn.SpatialConvolution1_fw")
def convolution1(name: str) -> Built:
    weight, bias, x = rand(4, 3), rand(1, 4, 1, 1), images()
    return lua(name, weight=weight, bias=bias), x, torch.einsum("oc,nchw->nohw", weight, x) + bias


@of_class("nn.SpatialConvolutionNoBias", "cudnn.SpatialConvolutionNoBias")
def convolution_without_bias(name: str) -> Built:
    fields = dict(convolution(3, 4, 3).fields.items())
    x = images()
    output = torch.nn.functional.conv2d(x, torch.from_numpy(fields["weight"]), padding=1)
    return LuaObject(name, LuaTable(fields)), x, output


@of_class("nn.ConvLSTM", "nn.UntiedConvLSTM")
def conv_lstm(name: str) -> Built:
    """Alone, a call is the first step: from zeros, or with weights of its own."""
    take = lua("nn.SelectTable", index=1)
    step = lua("nn.ConcatTable", modules=[sequential(take, lua("nn.Tanh")), take])
    first = lua("nn.ConcatTable", modules=[lua("nn.Square"), lua("nn.Identity")])
    untied = {"untiedModule": first} if name == "nn.UntiedConvLSTM" else {}
    x = images()
    source = lua(name, recurrentModule=step, outputSize=3, kc=3, km=3, **untied)
    return source, x, x.square() if untied else x.tanh()


@of_class("nn.ApplyScale")
def apply_scale(name: str) -> Built:
    x, scale = images(), rand(2, 1)
    return lua(name, modules=[lua("nn.CDivTable")]), [x, scale], x / scale[:, :, None, None]


@of_class("nn.Variance", "nn.StandardDeviation")
def deviation(name: str) -> Built:
    x = rand(2, 5)
    variance = (x - x.mean(1, keepdim=True)).square().sum(1, keepdim=True) / 4
    return lua(name, _dim=2), x, variance if name == "nn.Variance" else variance.sqrt()


@of_class("nn.GradientRescale")
def gradient_rescale(name: str) -> Built:
    return lua(name, scaleFactor=0.5), (x := rand(2, 3)), x


@of_class("nn.MinDim")
def min_dim(name: str) -> Built:
    return lua(name, pos=2, numInputDims=3), (x := rand(2, 3)), x[:, None]


@of_class("nn.SaturatedLU")
def saturated(name: str) -> Built:
    source = lua(name, threshold=-1.0, val=-5.0, threshold2=1.0, val2=7.0)
    return source, torch.tensor([[-2.0, 0.5, 3.0]]), torch.tensor([[-5.0, 0.5, 7.0]])


@of_class("nn.MultiSoftMax")
def multi_softmax(name: str) -> Built:
    return lua(name), (x := rand(2, 3, 4)), x.softmax(2)


@of_class("nn.Balance")
def balance(name: str) -> Built:
    return lua(name, nBatch=10, train=False), (x := rand(2, 3)), x


@of_class("nn.PixelSort")
def pixel_sort(name: str) -> Built:
    x = images()
    blocks = x.reshape(2, 3, 3, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 12, 3, 3)
    return lua(name, downscaleFactor=2), x, blocks
