"""Objects of Torch7 with inputs for them, built as the Lua constructors build them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from layer_support import lua

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject

#: An object, an input for it, and the output if it is known.
Built = tuple[LuaObject, Any] | tuple[LuaObject, Any, Any]


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def linear(inputs: int, outputs: int, bias: bool = True) -> LuaObject:
    biases = {"bias": rand(outputs)} if bias else {}
    return lua("nn.Linear", weight=rand(outputs, inputs), **biases)


def convolution(inputs: int, outputs: int, size: int = 1, **fields: Any) -> LuaObject:
    """Return a convolution that keeps the size of the image."""
    window = {"kW": size, "kH": size, "dW": 1, "dH": 1, "padW": size // 2, "padH": size // 2}
    planes = {"nInputPlane": inputs, "nOutputPlane": outputs}
    values = {"weight": rand(outputs, inputs, size, size), "bias": rand(outputs)}
    return lua("nn.SpatialConvolution", **window, **planes, **values, **fields)


def sequential(*modules: LuaObject) -> LuaObject:
    return lua("nn.Sequential", modules=list(modules))


def images(channels: int = 3) -> torch.Tensor:
    return rand(2, channels, 6, 6)


def unchanged(class_name: str, input: torch.Tensor, **fields: Any) -> Callable[[], Built]:
    """Return a builder of a class that returns its input in evaluation mode."""
    return lambda: (lua(class_name, **fields), input, input)


def cudnn_rnn(class_name: str, mode: str, gates: int, bidirectional: bool) -> Callable[[], Built]:
    """Return a builder of a recurrent layer of cudnn.torch: 4 features, hidden size 3."""
    directions = 2 if bidirectional else 1
    count = directions * gates * (3 * 4 + 3 * 3 + 3 + 3)

    def build() -> Built:
        fields = {"mode": f"CUDNN_{mode}", "inputSize": 4, "hiddenSize": 3, "numLayers": 1}
        if bidirectional:
            fields["bidirectional"] = "CUDNN_BIDIRECTIONAL"
        return lua(class_name, weight=rand(count), batchFirst=True, **fields), rand(2, 5, 4)

    return build


def language_model() -> Built:
    """`LanguageModel.lua` of torch-rnn: 7 tokens, embeddings of size 4, hidden size 3."""
    enter, leave = (lua("nn.View", size=torch.tensor(size)) for size in ([10, -1], [2, 5, -1]))
    rnn = lua("nn.LSTM", weight=rand(7, 12), bias=rand(12))
    lookup = lua("nn.LookupTable", weight=rand(7, 4))
    net = sequential(lookup, rnn, enter, linear(3, 7), leave)
    return lua("nn.LanguageModel", net=net, view1=enter, view2=leave), torch.randint(1, 8, (2, 5))


def temporal_adapter() -> Built:
    views = [lua("nn.View", size=torch.tensor([1, -1])) for _ in range(2)]
    return lua("nn.TemporalAdapter", net=sequential(views[0], linear(3, 2), views[1])), rand(
        2, 5, 3
    )


def weight_norm_lstm(class_name: str) -> Built:
    """A SeqLSTM of 4 features and hidden size 2, or projected from 3 to 2; directions and norms."""
    hidden = 3 if "LSTMP" in class_name else 2
    fields = {"v": rand(6, 4 * hidden), "g": rand(2, 4 * hidden).abs(), "bias": rand(4 * hidden)}
    if hidden == 3:
        fields |= {"vO": rand(3, 2), "gO": rand(1, 2).abs()}
    return lua(class_name, **fields, inputsize=4, batchfirst=True), rand(2, 5, 4)


def temporal_row_convolution(class_name: str) -> Built:
    fields = {"inputFrameSize": 3, "kW": 2, "dW": 1, "featFirst": False}
    return lua(class_name, weight=rand(3, 1, 2), bias=rand(3), **fields), rand(2, 5, 3)


def replicated(class_name: str) -> Built:
    """A model on two GPUs."""
    first = linear(4, 3)
    input = rand(2, 4)
    expected = input @ torch.from_numpy(first["weight"]).t() + torch.from_numpy(first["bias"])
    return lua(class_name, modules=[first, linear(4, 3)], dimension=1), input, expected


def gpu() -> Built:
    """`GPU.lua` writes the tensor type and the device before its fields."""
    source = lua("nn.GPU", modules=[lua("nn.Tanh")], device=2)
    source.body = [t7.LuaTable.from_list(["torch.CudaTensor", 2]), source.fields]
    rows = rand(2, 3)
    return source, rows, rows.tanh()


def attention() -> Built:
    modules = [lua("nn.CAddTable"), lua("nn.MulConstant", constant_scalar=2)]
    layer = lua("nn.RecurrentAttention", modules=modules, nStep=2, hiddenSize=[4])
    step = rand(2, 4)
    return layer, step, [step, step * 3]


def bi_sequencer_lm() -> Built:
    identity = lua("nn.Sequencer", modules=[lua("nn.Identity")])
    layer = lua("nn.BiSequencerLM", modules=[identity, identity, lua("nn.ZipTable")])
    a, b = rand(2, 3), rand(2, 3)
    zero = torch.zeros(2, 3)
    return layer, [a, b], [[zero, b], [a, zero]]


def recurrence() -> Built:
    joined = sequential(lua("nn.JoinTable", dimension=1, nInputDims=1), linear(5, 2))
    return lua("nn.Recurrence", recurrentModule=joined, outputSize=2, nInputDim=1), rand(2, 3)


def parallel() -> Built:
    """The case that Torch7 wrote joins its outputs along the batch; here along the features."""
    modules = [lua("nn.Tanh"), lua("nn.Square")]
    layer = lua("nn.Parallel", modules=modules, inputDimension=2, outputDimension=2)
    rows = rand(3, 2, 4)
    return layer, rows, torch.cat([rows[:, 0].tanh(), rows[:, 1].square()], 1)


def pyramid() -> Built:
    branches = [
        sequential(
            lua("nn.SpatialAdaptiveMaxPooling", W=size, H=size),
            lua("nn.View", numElements=3 * size * size, size=torch.tensor([3 * size * size])),
        )
        for size in (1, 2)
    ]
    return lua("inn.SpatialPyramidPooling", modules=branches, dimension=2), images()


def deep_mask() -> Built:
    trunk, mask, score = convolution(3, 4), convolution(4, 1), convolution(4, 1)
    return lua("nn.DeepMask", trunk=trunk, maskBranch=mask, scoreBranch=score), images()


def affine(class_name: str) -> Built:
    a, b, maps = rand(3), rand(3), images()
    return lua(class_name, a=a, b=b), maps, maps * a[:, None, None] + b[:, None, None]


def cross_map() -> Built:
    """`CrossMapNormalization.lua` of fbcunn: x / (1 + scale/size · Σ x²)^power over maps."""
    maps = images(5)
    squares = torch.nn.functional.pad(maps.square(), [0, 0, 0, 0, 1, 1])
    total = squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]
    expected = maps / (1 + 0.1 / 3 * total) ** 0.75
    return lua("nn.CrossMapNormalization", size=3, scale=0.1, power=0.75), maps, expected


def stochastic_pooling() -> Built:
    layer = lua("inn.SpatialStochasticPooling", kW=2, kH=2, dW=2, dH=2)
    return layer, images().abs()


def mean_square(class_name: str) -> Built:
    """A criterion on the mean squared error."""
    mse = lua("nn.MSECriterion", sizeAverage=True)
    fields = {"inputModule": linear(4, 3)} if class_name == "nn.ModuleCriterion" else {}
    return lua(class_name, criterion=mse, **fields), rand(2, 4), rand(2, 3 if fields else 4)


def cross_entropies(class_name: str) -> Built:
    fields = {"nll": lua("nn.SpatialClassNLLCriterion", sizeAverage=True), "sizeAverage": True}
    spatial = lua("cudnn.SpatialCrossEntropyCriterion", **fields)
    if class_name.startswith("cudnn.Spatial"):
        return spatial, images(), torch.randint(1, 4, (2, 6, 6))
    volumes = rand(2, 3, 2, 4, 4)
    return lua(class_name, scec=spatial), volumes, torch.randint(1, 4, (2, 2, 4, 4))


def clusters() -> Built:
    """`HSM.lua`: 5 classes in clusters of 3 and 2."""
    fields = {"cluster_weight": rand(2, 4), "cluster_bias": rand(2)}
    fields |= {"class_weight": rand(5, 4), "class_bias": rand(5)}
    mapping = torch.tensor([[1, 1], [1, 2], [1, 3], [2, 1], [2, 2]])
    return lua("nn.HSM", mapping=mapping, **fields), rand(3, 4), torch.tensor([1, 5, 3])


def cluster_networks() -> Built:
    """`HLogSoftMax.lua` with a network that does not look at the cluster: 4 classes, two each."""
    networks = [sequential(linear(4, 2), lua("nn.LogSoftMax")) for _ in range(2)]
    class_model = sequential(lua("nn.SelectTable", index=1), networks[1])
    mapping = torch.tensor([[1, 1], [1, 2], [2, 1], [2, 2]])
    fields = {"cluster_model": networks[0], "class_model": class_model}
    return lua("nn.HLogSoftMax", mapping=mapping, **fields), rand(3, 4), torch.tensor([1, 4, 2])


def locally_connected() -> Built:
    """`LocallyConnected.lua`: a kernel of 2×3 at each of 5×4 places."""
    sizes = {"nInputPlane": 3, "nOutputPlane": 2, "iW": 6, "iH": 6, "kW": 3, "kH": 2}
    values = {"weight": rand(2, 5, 4, 3, 2, 3), "bias": rand(2, 5, 4)}
    return lua("nn.LocallyConnected", dW=1, dH=1, **sizes, **values), images()


def of(build: Callable[[str], Built], class_name: str) -> Callable[[], Built]:
    return lambda: build(class_name)


def deformable() -> Built:
    """Return a deformable convolution, whose parameters are views of two tensors."""
    weight, bias = rand(4 * 3 * 4 + 8 * 3 * 4), rand(4 + 8)
    predictor = lua(
        "nn.SpatialConvolution",
        nInputPlane=3,
        nOutputPlane=8,
        kW=2,
        kH=2,
        dW=1,
        dH=1,
        weight=weight[48:].view(8, 3, 2, 2),
        bias=bias[4:],
    )
    source = lua(
        "nn.DeformableConvolution",
        nInputPlane=3,
        nOutputPlane=4,
        kW=2,
        kH=2,
        weight=weight,
        bias=bias,
        weightDC=weight[:48].view(4, 3, 2, 2),
        biasDC=bias[:4],
        offsetPredictor=predictor,
    )
    return source, images()
