"""The builders of the examples that Torch7 did not write: a table by class.

What takes more than a few lines is built in `contract_objects_support`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from contract_objects_support import (
    Built,
    affine,
    attention,
    bi_sequencer_lm,
    cluster_networks,
    clusters,
    convolution,
    cross_entropies,
    cross_map,
    cudnn_rnn,
    deep_mask,
    deformable,
    gpu,
    images,
    language_model,
    linear,
    locally_connected,
    mean_square,
    of,
    parallel,
    pyramid,
    rand,
    recurrence,
    replicated,
    sequential,
    stochastic_pooling,
    temporal_adapter,
    temporal_row_convolution,
    unchanged,
    weight_norm_lstm,
)
from contract_projects_support import PROJECTS
from layer_support import lua

#: Criterions among the builders; their third value is the target.
CRITERIONS = {
    "cudnn.SpatialCrossEntropyCriterion",
    "cudnn.VolumetricCrossEntropyCriterion",
    "nn.BinaryLogisticRegression",
    "nn.HLogSoftMax",
    "nn.HSM",
    "nn.ModuleCriterion",
    "nn.RepeaterCriterion",
    "nn.SpatialAutoCropMSECriterion",
    "nn.SpatialBinaryLogisticRegression",
    "nn.TreeNLLCriterion",
}

#: Class → builder of an object, an input, and the output where a formula gives it.
BUILDERS: dict[str, Callable[[], Built]] = {
    **PROJECTS,
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
    "nn.CropInvert": lambda: (
        lua("nn.CropInvert"),
        torch.tensor([[[2.0, 0, 1], [0, 0.5, 3]]]),
        torch.tensor([[[0.5, 0, -0.5], [0, 2, -6]]]),
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
    "nn.DeformableConvolution": deformable,
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
    "nn.GroupKMaxPooling": lambda: (
        lua("nn.GroupKMaxPooling", k=2, k_dynamic=-1),
        torch.tensor([[[3.0, 4], [1, 0], [0, 6]]]),
        torch.tensor([[[3.0, 4], [0, 6]]]),
    ),
    "nn.HLogSoftMax": cluster_networks,
    "nn.HSM": clusters,
    "nn.KMaxPooling": lambda: (lua("nn.KMaxPooling", k=2, k_dynamic=-1), rand(2, 5, 3)),
    "nn.LanguageModel": language_model,
    "nn.LinearNB": lambda: (
        lua("nn.LinearNB", weight=(weight := rand(3, 4))),
        rows := rand(2, 4),
        rows @ weight.t(),
    ),
    "nn.LocallyConnected": locally_connected,
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
    "nn.TemporalKMaxPooling": lambda: (
        lua("nn.TemporalKMaxPooling", k=2, k_dynamic=0.5),
        rand(2, 5, 3),
    ),
    "nn.TemporalRowConvolution": of(temporal_row_convolution, "nn.TemporalRowConvolution"),
    "nn.TemporalRowConvolutionMM": of(temporal_row_convolution, "nn.TemporalRowConvolutionMM"),
    "nn.TotalDropout": unchanged("nn.TotalDropout", rand(2, 3), p=0.5),
    "nn.TreeNLLCriterion": lambda: (lua("nn.TreeNLLCriterion"), rand(3), torch.ones(3)),
    "nn.VanillaRNN": lambda: (
        lua("nn.VanillaRNN", weight=rand(7, 3), bias=rand(3)),
        rand(2, 5, 4),
    ),
    "nn.WeightedLookupTable": lambda: (
        lua("nn.WeightedLookupTable", weight=(weight := rand(5, 3))),
        torch.tensor([[5, 0.5], [1, -2.0]]),
        torch.stack([weight[4] * 0.5, weight[0] * -2]),
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
