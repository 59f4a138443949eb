"""An example of every class that has a converter, for `test_contract.py`.

Cases that Torch7 wrote come first, with the output that it computed. A class that computes what
another one does gets that class's case under its own name, and so Torch7's output too. The rest is
built as the Lua constructors build it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from layer_support import lua
from support import FIXTURES

from torchlift.converters import t7
from torchlift.converters.modules import convert_recorded
from torchlift.converters.t7 import LuaObject

#: An input, and the output if it is known.
_Built = tuple[LuaObject, Any] | tuple[LuaObject, Any, Any]


@dataclass(frozen=True)
class Example:
    """An object of a class, and an input for it.

    Attributes:
        origin: Where it comes from.
        source: The object; it has the class itself, or holds it (see `IN_A_CONTAINER`).
        input: A tensor, or nested lists of tensors.
        target: The target of a criterion.
        output: What Torch7 computed in evaluation mode, None if that is not known.
        is_criterion: Whether it takes a target and returns a loss.
    """

    origin: str
    source: LuaObject
    input: Any
    target: Any = None
    output: Any = None
    is_criterion: bool = False


#: Classes that only run beside another layer: their example is a container of both.
IN_A_CONTAINER = {"nn.SpatialMaxUnpooling", "nn.VolumetricMaxUnpooling"}

#: Layers that draw random numbers in evaluation mode too: their outputs are not Torch7's.
RANDOM = {"nn.SpatialFractionalMaxPooling", "nn.VolumetricFractionalMaxPooling"}

#: Class → class that computes the same, whose cases it gets; fields that must or will differ.
SAME_AS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"cudnn.{name}": (f"nn.{name}", {})
        for name in (
            *("BatchNormalization", "Dropout", "LogSoftMax", "ReLU", "Sigmoid", "SoftMax", "Tanh"),
            *("SpatialBatchNormalization", "SpatialConvolution"),
            *("SpatialCrossMapLRN", "SpatialDilatedConvolution", "SpatialFullConvolution"),
            *("SpatialLogSoftMax", "SpatialMaxPooling", "SpatialSoftMax"),
            *("VolumetricAveragePooling", "VolumetricBatchNormalization", "VolumetricConvolution"),
            *("VolumetricDilatedConvolution", "VolumetricFullConvolution", "VolumetricMaxPooling"),
        )
    },
    # cuDNN always counts the padding.
    "cudnn.SpatialAveragePooling": (
        "nn.SpatialAveragePooling",
        {"count_include_pad": True, "padW": 1},
    ),
    "inn.SpatialAveragePooling": ("nn.SpatialAveragePooling", {"ceil_mode": True}),
    "inn.SpatialCrossResponseNormalization": ("nn.SpatialCrossMapLRN", {}),
    "inn.SpatialMaxPooling": ("nn.SpatialMaxPooling", {"ceil_mode": True}),
    "nn.BNFastLSTM": ("nn.FastLSTM", {}),
    "nn.Dictionary": ("nn.LookupTable", {}),
    "nn.LookupTableGPU": ("nn.LookupTable", {}),
    "nn.Mufuru": ("nn.MuFuRu", {}),
    "nn.ReverseSequence": ("nn.SeqReverseSequence", {}),
    "nn.SpatialConvolutionCuFFT": ("nn.SpatialConvolution", {}),
    "nn.SpatialConvolutionSparse": ("nn.SpatialConvolutionMap", {}),
    "nn.TVLoss": ("nn.TotalVariation", {}),
    "nn.VolumetricConvolutionMM": ("nn.VolumetricConvolution", {}),
    "w2nn.EdgeFilter": ("nn.SpatialConvolution", {}),
    "w2nn.LeakyReLU": ("nn.LeakyReLU", {}),
    "w2nn.RandomBinaryConvolution": ("nn.SpatialConvolution", {}),
}


#: Class → the case that can be exported too: a batch, counted by no layer, and not as a table.
PREFERRED = {
    "nn.CAdd": "fuzz/onnx_subtractive_normalization, inside",
    "nn.Concat": "container/Concat_2",
    "nn.FlattenTable": "packages/rnn_BiSequencer, inside",
    "nn.Max": "shape/Max_nid",
    "nn.NCEModule": "fuzz/nce_z_given",
    "nn.NarrowTable": "packages/rnn_BiSequencer, inside",
    "nn.Padding": "resampling/Padding_neg",
    "nn.Replicate": "shape/Replicate_dim",
    "nn.ReverseTable": "packages/rnn_BiSequencer, inside",
    "nn.SelectTable": "packages/rnn_BiSequencer, inside",
    "nn.SeqLSTM": "packages/rnn_SeqLSTM_batchfirst",
    "nn.SpatialConvolutionMap": "fuzz/convolution_map_unused_plane_batch",
    "nn.Transpose": "packages/stn_spatial_transformer, inside",
    "nn.ZipTable": "packages/rnn_BiSequencer, inside",
}

#: Classes whose cases are one example without a batch: they get a batch of two.
SINGLE = {"nn.SpatialFullConvolutionMap", "nn.TemporalSubSampling", "nn.VolumetricMaxUnpooling"}


def example(class_name: str) -> Example | None:
    """Return the example of a class, None if there is neither a case nor a builder."""
    if class_name in BUILDERS:
        return _built(class_name)
    if class_name in SAME_AS:
        other, fields = SAME_AS[class_name]
        found = _found(other, fields)
        return found and replace(
            found,
            source=LuaObject(class_name, found.source.fields, found.source.version),
            origin=f"{found.origin}, as {other}",
        )
    return _found(class_name, {})


def _found(class_name: str, fields: dict[str, Any]) -> Example | None:
    """Return the case of a class, or the object of the class inside one, that has these fields."""
    whole, parts = _cases()
    known = whole[class_name] + parts[class_name, "alone"]
    for found in parts[class_name, "container"] if class_name in IN_A_CONTAINER else known:
        if found.origin != PREFERRED.get(class_name, found.origin):
            continue
        if all(found.source.get(name) == value for name, value in fields.items()):
            return _twice(found) if class_name in SINGLE else found
    return None


def _twice(found: Example) -> Example:
    input, output = (torch.stack([value, value]) for value in (found.input, found.output))
    return replace(found, input=input, output=output)


def _built(class_name: str) -> Example:
    # Seeded by the name, so that a new builder does not change the others.
    torch.manual_seed(sum(map(ord, class_name)))
    built, input, *known = BUILDERS[class_name]()
    # As a file holds it: its tensors have storages.
    source = t7.loads(t7.dumps(built))
    if class_name in CRITERIONS:
        return Example("built", source, input, *known, is_criterion=True)
    return Example("built", source, input, output=known[0] if known else None)


@cache
def _cases() -> tuple[dict[str, list[Example]], dict[tuple[str, str], list[Example]]]:
    """Return the cases of `fixtures`, and what the layers inside them got as inputs.

    Returns:
        Class → cases of an object of this class; (class, "alone" or "container") → the object
        inside a case with the input that it got there, or the whole case.
    """
    whole: dict[str, list[Example]] = defaultdict(list)
    parts: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for origin, case in _stored():
        source = (
            case["criterion"] if isinstance(case.get("criterion"), LuaObject) else case["module"]
        )
        data = t7.to_torch(case)
        example = Example(origin, source, data["input"], data.get("target"))
        if case.get("criterion"):
            whole[source.class_name].append(
                replace(example, is_criterion=True, output=data["output"])
            )
            continue
        if case.get("mode", "evaluate") != "train" and source.class_name not in RANDOM:
            example = replace(example, output=data["output"])
        whole[source.class_name].append(example)
        for inner, input in _inner_inputs(source, example.input):
            alone = Example(f"{origin}, inside", inner, input)
            parts[inner.class_name, "alone"].append(alone)
            parts[inner.class_name, "container"].append(example)
    return whole, parts


def _stored() -> list[tuple[str, Any]]:
    layers, fuzz = (sorted((FIXTURES / folder).glob("*.t7")) for folder in ("layers", "fuzz"))
    return [
        *(
            (f"{file.stem}/{case['name']}", case)
            for file in layers
            for case in t7.load(file).values()
        ),
        *((f"fuzz/{file.stem}", t7.load(file)) for file in fuzz),
    ]


def _inner_inputs(source: LuaObject, input: Any) -> list[tuple[LuaObject, Any]]:
    """Return the objects inside another one with the first input that each gets."""
    conversion = convert_recorded(source)
    objects = {id(entry.module): entry.source for entry in conversion.layers}
    found: dict[int, tuple[LuaObject, Any]] = {}

    def note(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if module is not conversion.module and inputs:
            found.setdefault(id(module), (objects[id(module)], inputs[0]))

    for entry in conversion.layers:
        entry.module.register_forward_pre_hook(note)
    with torch.no_grad():
        conversion.module.eval()(input)
    return list(found.values())


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


def unchanged(class_name: str, input: torch.Tensor, **fields: Any) -> Callable[[], _Built]:
    """Return a builder of a class that returns its input in evaluation mode."""
    return lambda: (lua(class_name, **fields), input, input)


def cudnn_rnn(class_name: str, mode: str, gates: int, bidirectional: bool) -> Callable[[], _Built]:
    """Return a builder of a recurrent layer of cudnn.torch: 4 features, hidden size 3."""
    directions = 2 if bidirectional else 1
    count = directions * gates * (3 * 4 + 3 * 3 + 3 + 3)

    def build() -> _Built:
        fields = {"mode": f"CUDNN_{mode}", "inputSize": 4, "hiddenSize": 3, "numLayers": 1}
        if bidirectional:
            fields["bidirectional"] = "CUDNN_BIDIRECTIONAL"
        return lua(class_name, weight=rand(count), batchFirst=True, **fields), rand(2, 5, 4)

    return build


def language_model() -> _Built:
    """`LanguageModel.lua` of torch-rnn: 7 tokens, embeddings of size 4, hidden size 3."""
    enter, leave = (lua("nn.View", size=torch.tensor(size)) for size in ([10, -1], [2, 5, -1]))
    rnn = lua("nn.LSTM", weight=rand(7, 12), bias=rand(12))
    lookup = lua("nn.LookupTable", weight=rand(7, 4))
    net = sequential(lookup, rnn, enter, linear(3, 7), leave)
    return lua("nn.LanguageModel", net=net, view1=enter, view2=leave), torch.randint(1, 8, (2, 5))


def temporal_adapter() -> _Built:
    views = [lua("nn.View", size=torch.tensor([1, -1])) for _ in range(2)]
    return lua("nn.TemporalAdapter", net=sequential(views[0], linear(3, 2), views[1])), rand(
        2, 5, 3
    )


def weight_norm_lstm(class_name: str) -> _Built:
    """A SeqLSTM of 4 features and hidden size 2, or projected from 3 to 2; directions and norms."""
    hidden = 3 if "LSTMP" in class_name else 2
    fields = {"v": rand(6, 4 * hidden), "g": rand(2, 4 * hidden).abs(), "bias": rand(4 * hidden)}
    if hidden == 3:
        fields |= {"vO": rand(3, 2), "gO": rand(1, 2).abs()}
    return lua(class_name, **fields, inputsize=4, batchfirst=True), rand(2, 5, 4)


def temporal_row_convolution(class_name: str) -> _Built:
    fields = {"inputFrameSize": 3, "kW": 2, "dW": 1, "featFirst": False}
    return lua(class_name, weight=rand(3, 1, 2), bias=rand(3), **fields), rand(2, 5, 3)


def replicated(class_name: str) -> _Built:
    """A model on two GPUs."""
    first = linear(4, 3)
    input = rand(2, 4)
    expected = input @ torch.from_numpy(first["weight"]).t() + torch.from_numpy(first["bias"])
    return lua(class_name, modules=[first, linear(4, 3)], dimension=1), input, expected


def gpu() -> _Built:
    """`GPU.lua` writes the tensor type and the device before its fields."""
    source = lua("nn.GPU", modules=[lua("nn.Tanh")], device=2)
    source.body = [t7.LuaTable.from_list(["torch.CudaTensor", 2]), source.fields]
    rows = rand(2, 3)
    return source, rows, rows.tanh()


def attention() -> _Built:
    modules = [lua("nn.CAddTable"), lua("nn.MulConstant", constant_scalar=2)]
    layer = lua("nn.RecurrentAttention", modules=modules, nStep=2, hiddenSize=[4])
    step = rand(2, 4)
    return layer, step, [step, step * 3]


def bi_sequencer_lm() -> _Built:
    identity = lua("nn.Sequencer", modules=[lua("nn.Identity")])
    layer = lua("nn.BiSequencerLM", modules=[identity, identity, lua("nn.ZipTable")])
    a, b = rand(2, 3), rand(2, 3)
    zero = torch.zeros(2, 3)
    return layer, [a, b], [[zero, b], [a, zero]]


def recurrence() -> _Built:
    joined = sequential(lua("nn.JoinTable", dimension=1, nInputDims=1), linear(5, 2))
    return lua("nn.Recurrence", recurrentModule=joined, outputSize=2, nInputDim=1), rand(2, 3)


def parallel() -> _Built:
    """The case that Torch7 wrote joins its outputs along the batch; here along the features."""
    modules = [lua("nn.Tanh"), lua("nn.Square")]
    layer = lua("nn.Parallel", modules=modules, inputDimension=2, outputDimension=2)
    rows = rand(3, 2, 4)
    return layer, rows, torch.cat([rows[:, 0].tanh(), rows[:, 1].square()], 1)


def pyramid() -> _Built:
    branches = [
        sequential(
            lua("nn.SpatialAdaptiveMaxPooling", W=size, H=size),
            lua("nn.View", numElements=3 * size * size, size=torch.tensor([3 * size * size])),
        )
        for size in (1, 2)
    ]
    return lua("inn.SpatialPyramidPooling", modules=branches, dimension=2), images()


def deep_mask() -> _Built:
    trunk, mask, score = convolution(3, 4), convolution(4, 1), convolution(4, 1)
    return lua("nn.DeepMask", trunk=trunk, maskBranch=mask, scoreBranch=score), images()


def affine(class_name: str) -> _Built:
    a, b, maps = rand(3), rand(3), images()
    return lua(class_name, a=a, b=b), maps, maps * a[:, None, None] + b[:, None, None]


def cross_map() -> _Built:
    """`CrossMapNormalization.lua` of fbcunn: x / (1 + scale/size · Σ x²)^power over maps."""
    maps = images(5)
    squares = torch.nn.functional.pad(maps.square(), [0, 0, 0, 0, 1, 1])
    total = squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]
    expected = maps / (1 + 0.1 / 3 * total) ** 0.75
    return lua("nn.CrossMapNormalization", size=3, scale=0.1, power=0.75), maps, expected


def stochastic_pooling() -> _Built:
    layer = lua("inn.SpatialStochasticPooling", kW=2, kH=2, dW=2, dH=2)
    return layer, images().abs()


def mean_square(class_name: str) -> _Built:
    """A criterion on the mean squared error."""
    mse = lua("nn.MSECriterion", sizeAverage=True)
    fields = {"inputModule": linear(4, 3)} if class_name == "nn.ModuleCriterion" else {}
    return lua(class_name, criterion=mse, **fields), rand(2, 4), rand(2, 3 if fields else 4)


def cross_entropies(class_name: str) -> _Built:
    fields = {"nll": lua("nn.SpatialClassNLLCriterion", sizeAverage=True), "sizeAverage": True}
    spatial = lua("cudnn.SpatialCrossEntropyCriterion", **fields)
    if class_name.startswith("cudnn.Spatial"):
        return spatial, images(), torch.randint(1, 4, (2, 6, 6))
    volumes = rand(2, 3, 2, 4, 4)
    return lua(class_name, scec=spatial), volumes, torch.randint(1, 4, (2, 2, 4, 4))


def of(build: Callable[[str], _Built], class_name: str) -> Callable[[], _Built]:
    return lambda: build(class_name)


#: Criterions among the builders; their third value is the target.
CRITERIONS = {
    "cudnn.SpatialCrossEntropyCriterion",
    "cudnn.VolumetricCrossEntropyCriterion",
    "nn.BinaryLogisticRegression",
    "nn.ModuleCriterion",
    "nn.RepeaterCriterion",
    "nn.SpatialAutoCropMSECriterion",
    "nn.SpatialBinaryLogisticRegression",
}

#: Class → builder of an object, an input, and the output where a formula gives it.
BUILDERS: dict[str, Callable[[], _Built]] = {
    "cudnn.BGRU": cudnn_rnn("cudnn.BGRU", "GRU", 3, True),
    "cudnn.BLSTM": cudnn_rnn("cudnn.BLSTM", "LSTM", 4, True),
    "cudnn.ClippedReLU": lambda: (
        lua("cudnn.ClippedReLU", ceiling=0.5),
        torch.tensor([[-1.0, 0.25, 2.0]]),
        torch.tensor([[0.0, 0.25, 0.5]]),
    ),
    "cudnn.GRU": cudnn_rnn("cudnn.GRU", "GRU", 3, False),
    "cudnn.LSTM": cudnn_rnn("cudnn.LSTM", "LSTM", 4, False),
    "cudnn.RNN": cudnn_rnn("cudnn.RNN", "RNN_TANH", 1, False),
    "cudnn.RNNReLU": cudnn_rnn("cudnn.RNNReLU", "RNN_RELU", 1, False),
    "cudnn.RNNTanh": cudnn_rnn("cudnn.RNNTanh", "RNN_TANH", 1, False),
    "cudnn.SpatialCrossEntropyCriterion": of(cross_entropies, "cudnn.SpatialCrossEntropyCriterion"),
    "cudnn.TemporalConvolution": lambda: (
        lua(
            "cudnn.TemporalConvolution",
            weight=rand(4, 6),
            bias=rand(4),
            inputFrameSize=3,
            outputFrameSize=4,
            kW=3,
            kH=2,
            dW=1,
            dH=1,
            padW=0,
            padH=0,
        ),
        rand(2, 5, 3),
    ),
    "cudnn.VolumetricCrossEntropyCriterion": of(
        cross_entropies, "cudnn.VolumetricCrossEntropyCriterion"
    ),
    "cudnn.VolumetricLogSoftMax": lambda: (
        lua("cudnn.VolumetricLogSoftMax"),
        volume := rand(2, 3, 2, 4, 4),
        volume.log_softmax(1),
    ),
    "cudnn.VolumetricSoftMax": lambda: (
        lua("cudnn.VolumetricSoftMax"),
        volume := rand(2, 3, 2, 4, 4),
        volume.softmax(1),
    ),
    "inn.ConstAffine": of(affine, "inn.ConstAffine"),
    "inn.LocalResponseNormalization": lambda: (
        lua("inn.LocalResponseNormalization", modules=sequential(lua("nn.Square"))),
        maps := images(),
        maps.square(),
    ),
    "inn.ROIPooling": lambda: (
        lua("inn.ROIPooling", W=2, H=2, spatial_scale=1, v2=True),
        [images(), torch.tensor([[1.0, 1, 1, 5, 5], [2.0, 2, 1, 6, 4]])],
    ),
    "inn.SpatialConstAffine": of(affine, "inn.SpatialConstAffine"),
    "inn.SpatialPyramidPooling": pyramid,
    "inn.SpatialSameResponseNormalization": lambda: (
        lua("inn.SpatialSameResponseNormalization", modules=[lua("nn.Square"), lua("nn.Tanh")]),
        maps := images(),
        maps.square().tanh(),
    ),
    "inn.SpatialStochasticPooling": stochastic_pooling,
    "nn.BatchFlip": unchanged("nn.BatchFlip", images(), train=False),
    "nn.BiSequencerLM": bi_sequencer_lm,
    "nn.BinaryLogisticRegression": lambda: (
        lua("nn.BinaryLogisticRegression", sizeAverage=True),
        rand(4, 1),
        torch.tensor([1.0, -1, 1, -1]),
    ),
    # The case that Torch7 wrote joins its outputs along the batch.
    "nn.CReLU": lambda: (
        lua("nn.CReLU", nInputDims=3, inplace=False),
        maps := images(),
        torch.cat([maps, -maps], 1).relu(),
    ),
    "nn.CategoricalEntropy": unchanged("nn.CategoricalEntropy", rand(3, 4).softmax(1), scale=1),
    "nn.Container": lambda: (lua("nn.Container", modules=[linear(4, 3)]), rand(2, 4)),
    "nn.ContentLoss": unchanged("nn.ContentLoss", images(), strength=1),
    "nn.CopyGrad": unchanged("nn.CopyGrad", rand(2, 3)),
    "nn.CriterionTable": lambda: (
        lua("nn.CriterionTable", criterion=lua("nn.MSECriterion", sizeAverage=True)),
        pair := [rand(2, 4), rand(2, 4)],
        (pair[0] - pair[1]).square().mean(),
    ),
    "nn.CrossMapNormalization": cross_map,
    "nn.DataParallel": of(replicated, "nn.DataParallel"),
    "nn.DataParallelTable": of(replicated, "nn.DataParallelTable"),
    "nn.Decorator": lambda: (
        lua("nn.Decorator", modules=[lua("nn.Tanh")]),
        rows := rand(2, 3),
        rows.tanh(),
    ),
    "nn.DeepDreamLoss": unchanged("nn.DeepDreamLoss", images(), strength=1),
    "nn.DeepMask": deep_mask,
    "nn.DenseConnectLayerCustom": lambda: (
        lua("nn.DenseConnectLayerCustom", modules=[lua("nn.ReLU"), convolution(3, 2, 3)]),
        images(),
    ),
    "nn.DummyGradOutput": unchanged("nn.DummyGradOutput", images()),
    "nn.ExpandAs": lambda: (
        lua("nn.ExpandAs"),
        pair := [rand(2, 3, 4), rand(2, 3, 1)],
        [pair[0], pair[1].expand(2, 3, 4)],
    ),
    "nn.GPU": gpu,
    "nn.GenNoise": lambda: (lua("nn.GenNoise", num_planes=3, mult=2), images()),
    "nn.GradNormalization": unchanged("nn.GradNormalization", images()),
    "nn.GramMatrix": lambda: (
        lua("nn.GramMatrix"),
        maps := images(),
        torch.einsum("nchw,ndhw->ncd", maps, maps) / 108,
    ),
    "nn.LanguageModel": language_model,
    "nn.LinearNB": lambda: (
        lua("nn.LinearNB", weight=(weight := rand(3, 4))),
        rows := rand(2, 4),
        rows @ weight.t(),
    ),
    "nn.Minus": lambda: (lua("nn.Minus"), rows := rand(2, 3), -rows),
    "nn.Module": lambda: (lua("nn.Module"), rand(2, 3)),
    "nn.ModuleCriterion": of(mean_square, "nn.ModuleCriterion"),
    "nn.ModuleFromCriterion": lambda: (
        lua("nn.ModuleFromCriterion", criterion=lua("nn.MSECriterion", sizeAverage=True)),
        pair := [rand(2, 4), rand(2, 4)],
        (pair[0] - pair[1]).square().mean().reshape(1),
    ),
    "nn.NoiseFill": lambda: (lua("nn.NoiseFill", num_noise_channels=1, mult=0.5), images()),
    "nn.PCAColorTransform": unchanged(
        "nn.PCAColorTransform",
        images(),
        eigenVectors=torch.eye(3),
        eigenValues=torch.ones(3),
        std=0.1,
    ),
    "nn.Recurrence": recurrence,
    "nn.Parallel": parallel,
    "nn.RecurrentAttention": attention,
    "nn.ReinforceBernoulli": unchanged("nn.ReinforceBernoulli", torch.rand(2, 3)),
    "nn.ReinforceCategorical": unchanged("nn.ReinforceCategorical", rand(2, 3).softmax(1)),
    "nn.ReinforceGamma": lambda: (
        lua("nn.ReinforceGamma", scale=3),
        shape := torch.rand(2, 3),
        shape * 3,
    ),
    "nn.ReinforceNormal": unchanged("nn.ReinforceNormal", rand(2, 3), stdev=0.5),
    "nn.RepeaterCriterion": lambda: (
        lua("nn.RepeaterCriterion", criterion=lua("nn.MSECriterion", sizeAverage=True)),
        [rand(2, 3), rand(2, 3)],
        rand(2, 3),
    ),
    "nn.ResidualDrop": lambda: (
        lua("nn.ResidualDrop", deathRate=0.25, modules=[lua("nn.Square"), lua("nn.Identity")]),
        maps := images(),
        maps + maps.square() * 0.75,
    ),
    "nn.SeqDropout": unchanged("nn.SeqDropout", rand(5, 2, 3), p=0.5, v2=True),
    "nn.SeqGRU_WN": lambda: (
        lua(
            "nn.SeqGRU_WN",
            v=rand(6, 6),
            g=rand(2, 6).abs(),
            bias=rand(6),
            inputSize=4,
            batchfirst=True,
        ),
        rand(2, 5, 4),
    ),
    "nn.SeqLSTMP_WN": of(weight_norm_lstm, "nn.SeqLSTMP_WN"),
    "nn.SeqLSTM_WN": of(weight_norm_lstm, "nn.SeqLSTM_WN"),
    "nn.SimpleColorTransform": unchanged("nn.SimpleColorTransform", images(), range=torch.ones(3)),
    "nn.SpatialAutoCropMSECriterion": lambda: (
        lua("nn.SpatialAutoCropMSECriterion", sizeAverage=True),
        images(),
        rand(2, 3, 8, 9),
    ),
    "nn.SpatialBinaryLogisticRegression": lambda: (
        lua("nn.SpatialBinaryLogisticRegression", sizeAverage=True),
        images(1),
        images(1).sign(),
    ),
    "nn.SpatialCircularPadding": lambda: (
        lua("nn.SpatialCircularPadding", pad_l=1, pad_r=2, pad_t=3, pad_b=0),
        maps := images(),
        torch.from_numpy(np.pad(maps.numpy(), ((0, 0), (0, 0), (3, 0), (1, 2)), "wrap")),
    ),
    "nn.SpatialClassifier": lambda: (
        lua("nn.SpatialClassifier", classifier=linear(3, 4), spatialOutput=True),
        images(),
    ),
    "nn.SpatialConstDiagonal": of(affine, "nn.SpatialConstDiagonal"),
    "nn.SpatialLinear": lambda: (
        lua("nn.SpatialLinear", weight=(weight := rand(4, 3)), bias=(bias := rand(4))),
        maps := images(),
        torch.einsum("nchw,dc->ndhw", maps, weight) + bias[:, None, None],
    ),
    "nn.SpatialReSamplingEx": lambda: (
        lua("nn.SpatialReSamplingEx", rwidth=2, rheight=2, mode="simple", yDim=3, xDim=4),
        maps := images(),
        maps.repeat_interleave(2, 2).repeat_interleave(2, 3),
    ),
    "nn.SpatialRegionDropout": unchanged("nn.SpatialRegionDropout", images(), p=0.3),
    "nn.SpatialSymmetricPadding": lambda: (
        lua("nn.SpatialSymmetricPadding", pad_l=1, pad_r=2, pad_t=1, pad_b=0),
        maps := images(),
        torch.from_numpy(np.pad(maps.numpy(), ((0, 0), (0, 0), (1, 0), (1, 2)), "symmetric")),
    ),
    "nn.SpatialUniformCrop": lambda: (
        lua("nn.SpatialUniformCrop", oheight=2, owidth=3),
        images(),
    ),
    "nn.SpatialUpSampling": lambda: (
        lua("nn.SpatialUpSampling", dW=2, dH=3, yDim=3, xDim=4),
        maps := images(),
        maps.repeat_interleave(3, 2).repeat_interleave(2, 3),
    ),
    "nn.StyleLoss": unchanged("nn.StyleLoss", images(), strength=1),
    "nn.TemporalAdapter": temporal_adapter,
    "nn.TemporalGlimpse": lambda: (
        lua("nn.TemporalGlimpse", size=3),
        [rand(2, 6, 1), torch.tensor([[-1.0], [0.5]])],
    ),
    "nn.TemporalRowConvolution": of(temporal_row_convolution, "nn.TemporalRowConvolution"),
    "nn.TemporalRowConvolutionMM": of(temporal_row_convolution, "nn.TemporalRowConvolutionMM"),
    "nn.TotalDropout": unchanged("nn.TotalDropout", rand(2, 3), p=0.5),
    "nn.VanillaRNN": lambda: (
        lua("nn.VanillaRNN", weight=rand(7, 3), bias=rand(3)),
        rand(2, 5, 4),
    ),
    "nngraph.JustElement": lambda: (lua("nngraph.JustElement"), [rows := rand(2, 3)], rows),
    "nngraph.JustTable": lambda: (lua("nngraph.JustTable"), rows := rand(2, 3), [rows]),
    "w2nn.AuxiliaryLossTable": lambda: (
        lua("w2nn.AuxiliaryLossTable", i=2),
        pair := [rand(2, 3), rand(2, 3)],
        pair[1],
    ),
    "w2nn.DepthExpand2x": lambda: (lua("w2nn.DepthExpand2x"), images(8)),
    "w2nn.GradWeight": unchanged("w2nn.GradWeight", rand(2, 3), constant_scalar=0.25),
    "w2nn.InplaceClip01": lambda: (
        lua("w2nn.InplaceClip01"),
        maps := images(),
        maps.clamp(0, 1),
    ),
    "w2nn.Print": unchanged("w2nn.Print", rand(2, 3)),
    "w2nn.PrintTable": unchanged("w2nn.PrintTable", rand(2, 3)),
    "w2nn.ScaleTable": lambda: (
        lua("w2nn.ScaleTable"),
        pair := [images(), rand(2, 3, 1, 1)],
        pair[0] * pair[1],
    ),
    "w2nn.ShakeShakeTable": lambda: (
        lua("w2nn.ShakeShakeTable"),
        pair := [rand(2, 3), rand(2, 3)],
        pair[0] + pair[1],
    ),
}
