"""One `.onnx` file in one runtime: `python worker.py RUNTIME MODEL FOLDER [PRECISION]`.

`session.py` starts it with any Python that has the runtime, so it imports neither torchlift nor
torch. Its first lines on stdout are `{"version"}` and `{"arithmetic"}`. For each line
`{"inputs": names, "outputs": names}` that it reads, it runs the arrays `input-0.npy`, … of the
folder, writes `output-0.npy`, … and answers `{}`. `{"problem": text}` is the answer where the
runtime fails.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

#: Runs arrays by their names and returns the named outputs.
Run = Callable[[dict[str, np.ndarray], list[str]], Sequence[Any]]

#: What a runtime says that it computes in, and how to run it.
Opened = tuple[str, Run]


def open_onnxruntime(model: str, precision: str) -> Opened:
    """Open a file in ONNX Runtime, on the CPU."""
    import onnxruntime

    optimized = Path("optimized.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # What ONNX Runtime made of the graph shows where it computes float16 in float32.
    options.optimized_model_filepath = str(optimized)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", "optimized.data"
    )
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    casts = optimized.read_bytes().count(b"InsertedPrecisionFreeCast")
    arithmetic = "CPU, float16 computed in float32" if casts else "CPU"
    return arithmetic, lambda inputs, outputs: session.run(outputs, inputs)


def open_reference(model: str, precision: str) -> Opened:
    """Open a file in the reference evaluator of the ONNX project."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)

    def run(inputs: dict[str, np.ndarray], outputs: list[str]) -> Sequence[Any]:
        return list(evaluator.run(outputs, inputs))

    return "numpy", run


def open_openvino(model: str, precision: str) -> Opened:
    """Open a file in OpenVINO, in a precision or in the one that it chooses."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    compiled = core.compile_model(model, "CPU", settings)
    chosen = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    ran = Counter(
        str(node.get_rt_info()["runtimePrecision"].astype(str))
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) in ("Convolution", "FullyConnected")
    )
    layers = ", ".join(f"{count} layers in {kind}" for kind, count in sorted(ran.items()))

    def run(inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        results = compiled(inputs)
        return [np.array(results[name]) for name in outputs]

    return f"CPU, {chosen}" + f" ({layers})" * bool(ran), run


def open_opencv(model: str, precision: str) -> Opened:
    """Open a file in OpenCV's dnn module."""
    import cv2

    network = cv2.dnn.readNetFromONNX(model)
    if precision == "no-winograd":
        network.enableWinograd(False)

    def run(inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        for name, array in inputs.items():
            network.setInput(array, name)
        return [np.array(array) for array in network.forward(outputs)]

    winograd = "without" if precision == "no-winograd" else "with"
    return f"CPU, float32, {winograd} Winograd", run


#: The module of each runtime, and how it opens a file.
RUNTIMES: dict[str, tuple[str, Callable[[str, str], Opened]]] = {
    "onnxruntime": ("onnxruntime", open_onnxruntime),
    "reference": ("onnx", open_reference),
    "openvino": ("openvino", open_openvino),
    "opencv": ("cv2", open_opencv),
}


def main(runtime: str, model: str, folder: str, precision: str = "") -> None:
    """Open a file, and answer each line until stdin ends."""
    # Libraries print to stdout, which is for answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.chdir(folder)

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        module, open_file = RUNTIMES[runtime]
        answer(version=import_module(module).__version__.partition("-")[0])
        arithmetic, run = open_file(model, precision)
    except Exception as error:
        answer(problem=str(error) or type(error).__name__)
        return
    answer(arithmetic=arithmetic)
    for line in sys.stdin:
        request = json.loads(line)
        names = request["inputs"]
        try:
            inputs = {name: np.load(f"input-{index}.npy") for index, name in enumerate(names)}
            for index, output in enumerate(run(inputs, request["outputs"])):
                np.save(f"output-{index}.npy", np.asarray(output))
            answer()
        except Exception as error:
            answer(problem=str(error) or type(error).__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
