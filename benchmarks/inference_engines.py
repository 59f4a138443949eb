"""One network in one engine, in a process of its own: what `benchmarks/inference.py` starts.

`python inference_engines.py ENGINE MODEL INPUTS.npy OUTPUTS.npy THREADS` writes the outputs, prints
one line with the versions, and then answers every line on stdin with the seconds of one more run.
An engine runs in any environment that has its packages; torch is imported for PyTorch's alone.
"""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Callable

import numpy as np

Network = Callable[[np.ndarray], np.ndarray]


def eager(model: str, threads: int, *, compiled: bool = False) -> Network:
    """Return the saved model as PyTorch runs it."""
    import torch

    from torchlift.converters.saved import open_model

    torch.set_num_threads(threads)
    module = open_model(model).module.eval()
    network = torch.compile(module) if compiled else module

    @torch.inference_mode()
    def run(inputs: np.ndarray) -> np.ndarray:
        outputs: np.ndarray = network(torch.from_numpy(inputs)).numpy()
        return outputs

    return run


def compiled(model: str, threads: int) -> Network:
    """Return the saved model as `torch.compile` runs it."""
    return eager(model, threads, compiled=True)


def plain_session(model: str, threads: int) -> Network:
    """Return a bare session of ONNX Runtime, as its documentation opens one."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    (input,) = session.get_inputs()
    return lambda inputs: session.run(None, {input.name: inputs})[0]


def torchlift(model: str, _: int, provider: str = "cpu") -> Network:
    """Return the predictor that `predict --provider` runs; it finds the number of threads."""
    from torchlift.converters.inference import OnnxPredictor

    return OnnxPredictor(model, provider)


def openvino(model: str, threads: int) -> Network:
    """Return the predictor on ONNX Runtime's OpenVINO provider, in float32."""
    return torchlift(model, threads, "openvino")


def opencv(model: str, threads: int) -> Network:
    """Return OpenCV's dnn on the `.onnx` file."""
    import cv2

    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromONNX(model)

    def run(inputs: np.ndarray) -> np.ndarray:
        net.setInput(inputs)
        return net.forward()

    return run


#: Engine → how to open it, and the packages whose versions are told.
ENGINES: dict[str, tuple[Callable[[str, int], Network], str]] = {
    "eager": (eager, "torch"),
    "compiled": (compiled, "torch"),
    "plain": (plain_session, "onnxruntime onnxruntime-gpu"),
    "torchlift": (torchlift, "onnxruntime onnxruntime-gpu"),
    "openvino": (openvino, "onnxruntime-openvino"),
    "opencv": (opencv, "opencv-python-headless opencv-python"),
}


def versions(packages: str) -> str:
    """Return the names and versions of those packages that are installed."""
    known = {name.metadata["Name"].lower(): name for name in importlib.metadata.distributions()}
    found = [known[name] for name in packages.split() if name in known]
    return ", ".join(f"{each.metadata['Name']} {each.version}" for each in found)


def main() -> None:
    """Open the network, write its outputs, and run it whenever a line comes."""
    engine, model, inputs_file, outputs_file, threads = sys.argv[1:]
    open_network, packages = ENGINES[engine]
    inputs = np.load(inputs_file)
    try:
        network = open_network(model, int(threads))
    except ImportError as error:
        sys.exit(f"{engine} is left out: {error}")
    np.save(outputs_file, network(inputs))
    print(versions(packages), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        network(inputs)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
