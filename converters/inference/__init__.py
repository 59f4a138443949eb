"""Running a model of any kind: predictors, `Classifier`, execution providers, result files.

torch is imported when a PyTorch model is opened; an `.onnx` file runs without it.
"""

from ..requirements import require

require("torchlift.converters.inference", "onnxruntime", "PIL")

from .classifier import Classifier, Prediction
from .errors import InferenceError, ProviderError
from .image_model import ImageModel
from .metadata import Metadata
from .onnx_predictor import OnnxPredictor
from .predictors import Predictor, TorchPredictor, open_predictor
from .prepare import prepare
from .provider_options import PROVIDERS
from .providers import provider_problem
from .results import open_results
from .stream import FileResult, predict_array, predict_files

__all__ = [
    "PROVIDERS",
    "Classifier",
    "FileResult",
    "ImageModel",
    "InferenceError",
    "Metadata",
    "OnnxPredictor",
    "Prediction",
    "Predictor",
    "ProviderError",
    "TorchPredictor",
    "open_predictor",
    "open_results",
    "predict_array",
    "predict_files",
    "prepare",
    "provider_problem",
]
