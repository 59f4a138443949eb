"""What the protocol says of a model: its metadata, and its configuration as Triton writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...converters.inference.provider_options import ON_GPU, PROVIDERS
from .model import ServedModel
from .settings import Settings
from .tensors import Tensor

_PLATFORM = "onnxruntime_onnx"

#: OpenVINO runs on the CPU.
_GPU = tuple(PROVIDERS[name] for name in ON_GPU)


def metadata(model: ServedModel, versions: Sequence[str]) -> dict[str, Any]:
    """Return the answer of `/v2/models/M`; -1 stands for the batch and for free axes.

    Args:
        model: The model.
        versions: Its versions that are loaded.
    """
    return {
        "name": model.name,
        "versions": list(versions),
        "platform": _PLATFORM,
        "inputs": [_described(tensor) for tensor in model.inputs],
        "outputs": [_described(tensor) for tensor in model.outputs],
    }


def config(model: ServedModel, settings: Settings) -> dict[str, Any]:
    """Return the answer of `/v2/models/M/config`; the dims are without the batch.

    Args:
        model: The model.
        settings: Those of the server.
    """
    first = 1 if model.has_batch else 0
    answer: dict[str, Any] = {
        "name": model.name,
        "platform": _PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"all": {}},
        "max_batch_size": settings.max_batch if model.has_batch else 0,
        "input": [_configured(tensor, first) for tensor in model.inputs],
        "output": [_configured(tensor, first) for tensor in model.outputs],
        "instance_group": [
            {
                "name": model.name,
                "kind": "KIND_GPU" if model.provider in _GPU else "KIND_CPU",
                "count": 1,
            }
        ],
        "parameters": {},
    }
    if model.may_batch and settings.max_batch > 1:
        answer["dynamic_batching"] = {
            "max_queue_delay_microseconds": int(settings.max_delay * 1e6),
        }
    return answer


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _configured(tensor: Tensor, first: int) -> dict[str, Any]:
    kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    dims = list(tensor.shape[first:])
    return {"name": tensor.name, "data_type": f"TYPE_{kind}", "dims": dims}
