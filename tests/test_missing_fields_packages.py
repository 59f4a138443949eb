"""Fields that older files of packages beside torch/nn lack, as `test_missing_fields` has them.

The values are from the Lua sources of the packages.
"""

from __future__ import annotations

import pytest
import torch
from test_missing_fields import Case, results, same, values

IMAGES, ROWS, FRAMES = values(2, 3, 5, 4), values(4, 3), values(2, 6, 3)
SEQUENCE = values(5, 2, 3)
STATISTICS = {"running_mean": values(3), "running_std": values(3).abs() + 0.5}
PARAMETERS = {"weight": values(3) + 2, "bias": values(3)}
FFT = {"kW": 3, "kH": 2, "dW": 1, "dH": 1, "nInputPlane": 3, "nOutputPlane": 2}
FFT |= {"weight": values(2, 3, 2, 3), "bias": values(2)}
BINARY = {key: FFT[key] for key in FFT if key != "bias"}
NCE = {"weight": values(6, 3), "bias": values(6), "unigrams": torch.ones(6), "k": 2}
TARGETS = torch.tensor([1.0, 2, 3, 1])
SEQ_LSTM = {"weight": values(3 + 2, 8), "bias": values(8), "inputsize": 3, "outputsize": 2}
SEQ_GRU = {"weight": values(3 + 2, 6), "bias": values(6), "inputSize": 3, "outputSize": 2}
MIXED = torch.tensor([[-3.0, -0.5, 0.25], [0.75, 3.0, -2.0]])
SIGNS = torch.tensor([1.0, -1, 1, -1])
PIXELS = torch.ones(2, 3, 5, 4)
REGIONS = torch.tensor([[1.0, 1, 1, 3, 4], [2.0, 2, 1, 4, 5]])
CUDNN = {
    "mode": "CUDNN_RNN_TANH",
    "inputMode": "CUDNN_LINEAR_INPUT",
    "bidirectional": "CUDNN_UNIDIRECTIONAL",
    "inputSize": 3,
    "hiddenSize": 2,
    "numLayers": 2,
    "weight": values(3 * 2 + 2 * 2 + 4 + 2 * 2 + 2 * 2 + 4),
}

CASES = [
    Case("BatchNormalizationShiftPow2", STATISTICS | PARAMETERS, "eps", 1e-5, 3.0, ROWS),
    Case("BatchNormalizationShiftPow2", STATISTICS | PARAMETERS, "momentum", 0.125, 0.5, ROWS),
    Case("BinarizedNeurons", {}, "stcFlag", False, True, ROWS / 9),
    Case("cudnn.RNN", CUDNN, "batchFirst", False, True, SEQUENCE),
    Case("cudnn.RNN", CUDNN, "dropout", 0, 0.5, SEQUENCE),
    Case("nn.AffineTransformMatrixGenerator", {}, "useRotation", False, True, values(4, 6)),
    Case("nn.ArgMax", {"dim": 1, "nInputDim": 1}, "asLong", True, False, ROWS),
    Case("nn.BinaryLogisticRegression", {}, "sizeAverage", True, False, ROWS[:, 0], SIGNS),
    Case("nn.CategoricalEntropy", {}, "scale", 1, 2, ROWS.softmax(1)),
    Case("nn.CategoricalEntropy", {}, "minEntropy", None, 0.0, ROWS.softmax(1)),
    Case("nn.GramMatrix", {}, "normalize", True, False, IMAGES),
    Case("nn.GenNoise", {"num_planes": 2}, "mult", 1, 2, IMAGES),
    Case("nn.InstanceNormalization", {"nOutput": 3}, "eps", 1e-5, 1.0, IMAGES),
    Case("nn.GroupKMaxPooling", {"k": 2}, "k_dynamic", -1, 0.9, FRAMES),
    Case("nn.KMaxPooling", {"k": 2}, "k_dynamic", -1, 0.9, FRAMES),
    Case("nn.NCEModule", NCE, "Z", 1, 2, [ROWS, TARGETS]),
    Case("nn.NCEModule", NCE, "normalized", False, True, [ROWS, TARGETS]),
    Case("nn.NCEModule", NCE | {"normalized": True}, "logsoftmax", False, True, [ROWS, TARGETS]),
    Case("nn.NCEModule", NCE, "batchnoise", False, True, [ROWS, TARGETS]),
    Case("nn.NoiseFill", {"num_noise_channels": 1}, "mult", 1, 2, IMAGES),
    Case("nn.ReinforceBernoulli", {}, "stochastic", False, True, ROWS.sigmoid()),
    Case("nn.ReinforceCategorical", {}, "stochastic", False, True, ROWS.softmax(1)),
    Case("nn.ReinforceGamma", {"scale": 2}, "stochastic", False, True, ROWS.exp()),
    Case("nn.ReinforceNormal", {"stdev": 2}, "stochastic", False, True, ROWS),
    Case("nn.SAdd", {"addend": 2}, "negate", False, True, ROWS),
    Case("nn.SaturatedLU", {}, "threshold", -1, -2.5, MIXED),
    Case("nn.SaturatedLU", {}, "val", -1, 0, MIXED),
    Case("nn.SaturatedLU", {}, "threshold2", 1, 0.5, MIXED),
    Case("nn.SaturatedLU", {}, "val2", 1, 0, MIXED),
    Case("nn.SeqDropout", {"p": 0.5}, "v2", False, True, SEQUENCE),
    Case("nn.SeqDropout", {"p": 0.5}, "stochastic_inference", False, True, SEQUENCE),
    Case("nn.SeqGRU", SEQ_GRU, "batchfirst", False, True, SEQUENCE),
    Case("nn.SeqGRU", SEQ_GRU, "maskzero", False, True, SEQUENCE.clamp(max=-9) + 9),
    Case("nn.SeqLSTM", SEQ_LSTM, "batchfirst", True, False, SEQUENCE),
    Case("nn.SeqLSTM", SEQ_LSTM, "maskzero", False, True, SEQUENCE.clamp(max=-9) + 9),
    Case("nn.SpatialBinaryConvolution", BINARY, "padH", 0, 1, IMAGES),
    Case("nn.SpatialBinaryConvolution", BINARY, "padW", 0, 1, IMAGES),
    Case("nn.SpatialBinaryLogisticRegression", {}, "sizeAverage", True, False, IMAGES, PIXELS),
    Case("nn.SpatialConvolutionFFT", FFT, "padLeft", 0, 1, IMAGES),
    Case("nn.SpatialConvolutionFFT", FFT, "padUp", 0, 1, IMAGES),
    Case("nn.SpatialConvolutionFFT", FFT, "padH", 0, 1, IMAGES),
    Case("nn.SpatialConvolutionFFT", FFT, "padW", 0, 1, IMAGES),
    Case("inn.ROIPooling", {"H": 2, "W": 2}, "spatial_scale", 1, 0.5, [IMAGES, REGIONS]),
    Case("inn.ROIPooling", {"H": 2, "W": 2}, "v2", False, True, [IMAGES, REGIONS]),
    Case("onmt.VariationalDropout", {}, "p", 0.5, 0.25, ROWS),
    Case("w2nn.AuxiliaryLossTable", {}, "i", 1, 2, [ROWS, 2 * ROWS]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.field}")
def test_a_missing_field_has_the_value_of_the_packages_constructor(case: Case) -> None:
    missing = results(case, case.fields)
    assert same(missing, results(case, {**case.fields, case.field: case.default}))
    assert not same(missing, results(case, {**case.fields, case.field: case.other}))
