"""Small rules of predictors, each by itself: what they take, refuse, and say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from support import FIXTURES
from torch import nn

from torchlift.converters.errors import LabelsError, NotFiniteError
from torchlift.converters.images import Preprocessing
from torchlift.converters.inference import (
    Classifier,
    InferenceError,
    OnnxPredictor,
    TorchPredictor,
    open_predictor,
    predict_array,
    predict_files,
)
from torchlift.converters.inference.classifier import top_predictions
from torchlift.converters.inference.errors import ProviderError
from torchlift.converters.inference.input_checks import check_inputs
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.inference.not_finite import require_finite_scores
from torchlift.converters.inference.predictors import torch_device
from torchlift.converters.inference.prepare import prepare_all, to_input_dtype
from torchlift.converters.inference.provider_options import (
    GraphFacts,
    ProviderChoice,
    engine_cache,
    parse_provider,
    requested_providers,
)
from torchlift.converters.inference.providers import _graph_facts
from torchlift.converters.inference.scores import log_probabilities, probabilities
from torchlift.converters.saved import SavedModel
from torchlift.transfer.sources import opened_predictor

#: Leaves all to the graph.
DECODED = Preprocessing(resize="none", value_range=255)


def flat(labels: list[str] | None = None, **options: object) -> TorchPredictor:
    return TorchPredictor(SavedModel(nn.Flatten(), "logits", labels=labels, **options), "cpu")


def test_pixels_for_a_graph_keep_their_rows_and_columns() -> None:
    pixels = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    images = [Image.fromarray(image.transpose(1, 2, 0)) for image in pixels]
    found = prepare_all(images, DECODED)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels)
    assert [
        each.shape for each in prepare_all([images[0], images[1].rotate(90, expand=True)], DECODED)
    ] == [
        (1, 3, 4, 5),
        (1, 3, 5, 4),
    ]


def test_only_whole_numbers_of_pixels_become_bytes() -> None:
    assert to_input_dtype(np.array([[0.0, 255.0]]), np.dtype(np.uint8)).dtype == np.uint8
    for wrong in (-1, 0.5, 256):
        with pytest.raises(InferenceError, match="whole numbers from 0 to 255"):
            to_input_dtype(np.array([[wrong]], np.float32), np.dtype(np.uint8))


def test_a_network_takes_bytes_as_numbers_and_as_many_labels_as_scores() -> None:
    scores = flat()(inputs := np.array([[[[0, 255]]]], np.uint8))
    assert (scores.tolist(), scores.dtype) == ([[0, 255]], np.float32)
    with pytest.raises(LabelsError, match="3"):
        flat(["a", "b", "c"])(inputs)
    # Of a map of classes there is a label for each channel.
    maps = TorchPredictor(SavedModel(nn.Identity(), "features", labels=["a", "b"]), "cpu")
    assert maps(np.zeros((1, 2, 4, 4), np.float32)).shape == (1, 2, 4, 4)
    with pytest.raises(LabelsError, match="3"):
        maps(np.zeros((1, 3, 4, 4), np.float32))


def test_the_suffix_of_an_exported_file_may_be_in_capitals(tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "0.1.0" / "model.onnx", tmp_path / "M.ONNX")
    nothing = dict.fromkeys(("labels", "weights", "at", "input"))
    assert isinstance(open_predictor(tmp_path / "M.ONNX", "cpu", **nothing), OnnxPredictor)


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("model.onnx", {"weights": "w"}, "weights=… is not for an .onnx file"),
        ("model.onnx", {"at": "x", "input": "3"}, "at=…, input=… is not for an .onnx file"),
        ("model", {"output_kind": "logits"}, "output_kind=… is for an .onnx file"),
        ("model", {"output_name": "y"}, "output_name=… is for an .onnx file"),
        ("model", {"output_name": None, "output_kind": None}, ""),
    ],
)
def test_what_one_kind_of_model_has_no_use_for_is_refused(
    name: str, options: dict[str, str | None], problem: str
) -> None:
    file = FIXTURES / "0.1.0" / name
    if problem:
        with pytest.raises(InferenceError, match=rf"{re.escape(f'{file}: {problem}')}$"):
            open_predictor(file, "cpu", **options)
        return
    assert isinstance(open_predictor(file, "cpu", **options), TorchPredictor)


def test_models_run_where_they_are_asked_to_and_say_so() -> None:
    for name, provider in (("model.onnx", "CPUExecutionProvider"), ("model", "PyTorch (cpu)")):
        file = FIXTURES / "0.1.0" / name
        for predictor in (open_predictor(file, "cpu"), Classifier(file, "cpu")):
            assert (predictor.provider, predictor.note) == (provider, "")
    for name in ("model.onnx", "model"):
        for opened in (open_predictor, Classifier):
            with pytest.raises(ProviderError, match="no provider 'gpu'"):
                opened(FIXTURES / "0.1.0" / name, "gpu")
    predictor = flat()
    predictor.note = "runs on the moon"
    assert Classifier(predictor).note == "runs on the moon"


def test_five_classes_are_told_and_32_images_run_together_by_default() -> None:
    predictor = flat(preprocessing=Preprocessing("gray"))
    classifier = Classifier(predictor)
    assert classifier.batch_size == 32
    pixels = np.arange(7, dtype=np.uint8).reshape(1, 7)
    inputs = pixels[None, None].astype(np.float32)
    for found in (
        classifier.predict(pixels),
        classifier.predict_inputs(inputs),
        list(predict_array(classifier, inputs)),
    ):
        assert [[one.index for one in row] for row in found] == [[6, 5, 4, 3, 2]]
    for found in (
        classifier.predict(pixels, 2),
        classifier.predict_inputs(inputs, 2),
        list(predict_array(classifier, inputs, 2)),
    ):
        assert [[one.index for one in row] for row in found] == [[6, 5]]


def test_probabilities_of_two_classifiers_are_none_of_one() -> None:
    """They add up to 2; rounding to half precision is allowed for."""
    rows = np.array([[0.2, 0.8, 0.5, 0.5]], np.float32)
    for kind, scores in (("probabilities", rows), ("log_probabilities", np.log(rows))):
        for convert in (probabilities, log_probabilities):
            with pytest.raises(InferenceError, match="add up to 2, not to 1"):
                convert(scores, kind)
            assert convert(scores[:, :2], kind).shape == (1, 2)
    np.testing.assert_allclose(probabilities(np.log(rows[:, :2]), "log_probabilities"), rows[:, :2])
    assert probabilities(rows, "logits").sum() == pytest.approx(1)
    for kind in ("probabilities", "logits"):
        with pytest.raises(InferenceError, match=f"the outputs are {kind} of shape 4×1×1 for each"):
            probabilities(rows[..., None, None], kind)


def test_classes_without_names_count_from_one_as_in_torch7() -> None:
    """The first of equal ones comes first, whatever the number of classes that are asked for."""
    scores = np.array([[0.25, 0.5, 0.25]])
    for labels, names in ((None, ["2", "1", "3"]), (["a", "b", "c"], ["b", "a", "c"])):
        for top in (1, 2, 3, 9):
            (found,) = top_predictions(scores, labels, top)
            assert [each.label for each in found] == names[:top]
            assert [each.index for each in found] == [1, 0, 2][:top]


def test_examples_that_are_not_numbers_are_counted() -> None:
    scores = np.zeros((3, 2), np.float32)
    scores[0, 0], scores[2] = np.nan, -np.inf
    with pytest.raises(NotFiniteError, match="net: the outputs of 1 of 3 examples"):
        require_finite_scores(scores, "logits", "net")
    with pytest.raises(NotFiniteError, match="net: the outputs of 2 of 3 examples"):
        require_finite_scores(scores, "features", "net")
    require_finite_scores(scores[1:], "logits", "net")
    require_finite_scores(scores[1:], "log_probabilities", "net")


def test_images_of_several_sizes_run_together_and_what_fails_is_named(tmp_path: Path) -> None:
    """The network takes all, which it flattens to as many scores as pixels."""
    files = [tmp_path / f"{number}.png" for number in range(4)]
    for number, (file, size) in enumerate(
        zip(files, ((4, 2), (2, 4), (8, 2), (3, 3)), strict=True)
    ):
        Image.new("L", size, number * 10).save(file)
    square = Preprocessing("gray", resize="none", size=None, value_range=255)
    classifier = Classifier(flat(preprocessing=square), batch_size=3)
    found = list(predict_files(classifier, [files[0].as_uri(), *files[1:3]], top=1))
    assert [(one.file, one.problem, len(one.predictions)) for one in found] == [
        (file, "", 1) for file in files[:3]
    ]
    fixed = Preprocessing("gray", resize="none", size=(2, 4))
    classifier = Classifier(flat(preprocessing=fixed))
    (failed,) = predict_files(classifier, files[3:], top=1)
    assert failed.problem.startswith(f"{files[3]}: ")
    with pytest.raises(InferenceError, match="top"):
        next(predict_array(classifier, np.zeros((1, 1, 2, 4), np.float32), top=0))
    # Before there is anything to classify, too.
    with pytest.raises(InferenceError, match="top"):
        next(predict_array(classifier, np.zeros((0, 1, 2, 4), np.float32), top=0))


@pytest.mark.parametrize(("own", "shape"), [(True, (2, 3, 1, 1)), (False, (2, 3))])
def test_a_map_of_one_pixel_is_a_row_of_scores_in_files_of_others(
    own: bool, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Classes by a convolution. A file of ours says what its outputs are."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, "h", "w"])
        for name in ("x", "y")
    ]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    said = {"torchlift_version": '"0.2.0"', "format_version": "2", "output_kind": '"features"'}
    helper.set_model_props(model, said if own else {})
    onnx.save(model, tmp_path / "f.onnx")
    predictor = OnnxPredictor(tmp_path / "f.onnx", "cpu")
    assert predictor(np.ones((2, 3, 1, 1), np.float32)).shape == shape
    assert predictor(np.ones((2, 3, 1, 2), np.float32)).shape == (2, 3, 1, 2)


def test_pytorch_has_no_limit_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(ProviderError, match="a limit of memory is for"):
        TorchPredictor(SavedModel(nn.Flatten(), "logits"), "cuda:0:4G")


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert parse_provider("cuda").device == 3
    assert parse_provider("tensorrt:1").device == 1
    monkeypatch.delenv("LOCAL_RANK")
    assert parse_provider("cuda:512M") == ProviderChoice("cuda", memory=512 * 2**20)


def test_tensorrt_is_told_memory_precision_and_batches(tmp_path: Path) -> None:
    def options(precision: str, *shape: object) -> dict[str, object]:
        facts = GraphFacts([("x", shape)], precision, tmp_path / "engines" / "abc")
        choice = ProviderChoice("tensorrt", 2, memory=2**30)
        (_, found), cuda, cpu = requested_providers(choice, facts=facts)
        assert cuda[1]["gpu_mem_limit"] == 2**30
        assert cpu == "CPUExecutionProvider"
        assert isinstance(found, dict)
        return found

    found = options("int8", "N", 3, 4)
    assert (found["device_id"], found["trt_max_workspace_size"]) == (2, 2**30)
    assert (found["trt_fp16_enable"], found["trt_int8_enable"]) == (False, True)
    bounds = [found[f"trt_profile_{bound}_shapes"] for bound in ("min", "opt", "max")]
    assert bounds == ["x:1x3x4", "x:32x3x4", "x:128x3x4"]
    for kind in ("engine", "timing"):
        assert found[f"trt_{kind}_cache_enable"] is True
    # What takes how long is the same for all files.
    assert found["trt_engine_cache_path"] == str(tmp_path / "engines" / "abc")
    assert found["trt_timing_cache_path"] == str(tmp_path / "engines")
    assert "trt_profile_min_shapes" not in options("fp16", "N", 3, None)
    assert "trt_profile_min_shapes" not in options("fp16", 1, 3, 4)


def test_engines_belong_to_the_bytes_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders = []
    for content in (b"one", b"two"):
        (tmp_path / "m.onnx").write_bytes(content)
        folders.append(engine_cache(tmp_path / "m.onnx"))
    assert folders[0] != folders[1]
    assert folders[0].parent == tmp_path / "cache" / "torchlift" / "tensorrt"
    (tmp_path / "other.onnx").write_bytes(b"two")
    assert engine_cache(tmp_path / "other.onnx") == folders[1]
    # An empty setting is none.
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = engine_cache(tmp_path / "other.onnx")
    assert found.parent == tmp_path / "home" / ".cache" / "torchlift" / "tensorrt"


@pytest.mark.parametrize("name", ["model.onnx", "model"])
def test_an_evaluation_from_python_takes_an_onnx_file_too(name: str) -> None:
    """Each kind of model runs in its own runtime; a predictor is taken as it is."""
    predictor = opened_predictor(FIXTURES / "0.1.0" / name, "cpu")
    assert isinstance(predictor, OnnxPredictor if name == "model.onnx" else TorchPredictor)
    assert opened_predictor(predictor) is predictor


def test_the_options_of_a_provider_are_those_of_its_arithmetic_and_its_memory() -> None:
    """Each keeps the numbers those of single precision, or bounds what is taken."""
    assert requested_providers(ProviderChoice("cpu"), 3) == ["CPUExecutionProvider"]
    (name, options), cpu = requested_providers(ProviderChoice("cuda", 1))
    assert (name, cpu) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options == {
        "device_id": 1,
        "use_tf32": 0,
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    (name, options), cpu = requested_providers(ProviderChoice("openvino"))
    assert (name, options["device_type"]) == ("OpenVINOExecutionProvider", "CPU")
    assert "num_of_threads" not in options
    # TensorRT before the file is known: nothing of its engines.
    (name, options), (_, cuda), cpu = requested_providers(ProviderChoice("tensorrt", 2))
    assert (name, options, cuda["device_id"]) == ("TensorrtExecutionProvider", {"device_id": 2}, 2)


@pytest.mark.parametrize(
    ("provider", "has_gpu", "device"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cuda", True, "cuda"),
        ("cuda:1", True, "cuda:1"),
    ],
)
def test_pytorch_runs_on_the_gpu_where_there_is_one_and_it_may(
    provider: str, has_gpu: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    assert torch_device(provider) == device


def test_a_device_that_fails_while_it_gets_the_network_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image\nadvice")

    monkeypatch.setattr("torchlift.converters.inference.torch_module.inference_copy", fail)
    with pytest.raises(ProviderError, match=r"cannot run the model on cpu: no kernel image$"):
        flat()


@pytest.mark.parametrize(
    ("inputs", "dtype", "problem"),
    [
        (np.float32([[-65504, 65504]]), np.float16, ""),
        (np.float32([[0, 65536]]), np.float16, "inputs reach 6.554e\\+04, which is beyond float16"),
        (
            np.float32([[-65536, 0]]),
            np.float16,
            "inputs reach 6.554e\\+04, which is beyond float16",
        ),
        (np.float64([[1e39, 0]]), np.float64, ""),
        (np.float64([[1e39, 0]]), np.uint8, ""),
        (np.array([[True, False]]), np.float32, ""),
        (np.array([["a", "b"]]), np.float32, "inputs are of type <U1; real numbers were expected"),
        (np.zeros((2, 3)), np.float32, "inputs of shape 3, the network takes 2"),
        (np.zeros((2, 2, 1)), np.float32, "inputs of shape 2×1, the network takes 2"),
    ],
)
def test_inputs_have_the_shape_and_the_size_of_what_a_network_takes(
    inputs: np.ndarray, dtype: type, problem: str
) -> None:
    if problem:
        with pytest.raises(InferenceError, match=f"^{problem}$"):
            check_inputs(inputs, [2], np.dtype(dtype))
        return
    check_inputs(inputs, [2], np.dtype(dtype))
    check_inputs(inputs[:0], (2,), np.dtype(dtype))
    check_inputs(inputs[..., None], None, np.dtype(dtype))


def test_scores_of_a_graph_that_are_not_numbers_name_its_file(tmp_path: Path) -> None:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "y")
    ]
    graph = helper.make_graph([helper.make_node("Exp", ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "f.onnx")
    predictor = OnnxPredictor(tmp_path / "f.onnx", "cpu")
    assert predictor(np.float32([[0, 1]])).shape == (1, 2)
    # Rows of what lies in memory as columns.
    rows = np.log(np.arange(1, 7, dtype=np.float32).reshape(2, 3)).T
    np.testing.assert_allclose(predictor(rows), [[1, 4], [2, 5], [3, 6]], rtol=1e-6)
    with pytest.raises(NotFiniteError, match=r"f\.onnx: .* 1 of 2 .*output\[1, 0\] is inf"):
        predictor(np.float32([[0, 1], [1000, 1]]))


@pytest.mark.parametrize("precision", [None, "fp16", "int8"])
def test_a_graph_that_says_nothing_of_its_arithmetic_computes_in_float32(
    precision: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ends = [helper.make_tensor_value_info(name, 1, ["batch", 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, Metadata(precision=precision).to_props())
    onnx.save(model, tmp_path / "m.onnx")
    facts = _graph_facts(tmp_path / "m.onnx")
    assert (facts.precision, list(facts.inputs)) == (precision or "fp32", [("x", ["batch", 3])])
    assert facts.cache.is_dir()
