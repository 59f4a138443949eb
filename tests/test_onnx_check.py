"""`check` passes a correct file, takes limits and details, and reports what was run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from onnx_check_support import PIXELS, export_digits, failed, text_of
from torch import nn

from torchlift.converters.onnx import PROFILES, OnnxError, check, export, write_check_report
from torchlift.converters.saved import SavedModel


# Each check translates its model, which takes seconds: the one with all kinds of layers, at first.
@pytest.fixture(
    scope="module",
    params=["digits-lenet5-bn", pytest.param("digits-lenet5", marks=pytest.mark.slow)],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return export_digits(request.param, tmp_path_factory.mktemp("exported"))


def test_a_correct_file_passes_and_the_report_says_what_was_run(exported: tuple) -> None:
    model, path = exported
    report = check(model, path, PIXELS)
    assert report.passed, list(report.lines())
    assert report.provider == "CPUExecutionProvider"
    assert [comparison.batch for comparison in report.comparisons] == [1, 2, 7, 30]
    assert report.agreement == (40, 40)
    assert report.data == "data given (40)"
    # 1e-4 is allowed, but rounding alone gives a hundredth of it.
    assert report.error < 1e-6
    assert list(report.lines())[-1] == f"{path}: passed"

    values = json.loads(json.dumps(report.to_json()))
    assert values["passed"] is True
    assert [finding["name"] for finding in values["findings"]] == [
        *("structure", "interface", "preprocessing", "output_kind", "source", "labels", "folding"),
        *("weights", "nodes", "provider", "finite", "outputs", "top-1", "top-5", "edge_cases"),
    ]
    assert values["file"] == str(path)
    assert values["error"] == max(part["error"] for part in values["comparisons"])


def test_without_data_the_inputs_are_noise_and_the_report_says_so(exported: tuple) -> None:
    model, path = exported
    report = check(model, path, seed=3)
    assert report.passed
    assert report.data == "noise from seed 3 (no data given)"
    assert [comparison.batch for comparison in report.comparisons] == [1, 2, 7]


class FirstOfTwo(nn.Module):
    def forward(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return inputs[0] + 1


def test_modules_are_run_on_noise_of_the_input_shapes_in_the_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    export(model, tmp_path / "model.onnx", input_shape=(3, 2, 2))
    assert check(model, tmp_path / "model.onnx").passed
    # Also with an input that no output depends on.
    export(FirstOfTwo(), tmp_path / "two.onnx", inputs=[torch.ones(2, 3), torch.ones(2, 1)])
    report = check(FirstOfTwo(), tmp_path / "two.onnx")
    assert report.passed, list(report.lines())


def test_limits_can_be_named_given_or_changed(exported: tuple) -> None:
    model, path = exported
    assert check(model, path, PIXELS, profile="fp16").tolerance == 1e-2
    strict = replace(PROFILES["fp32-cpu"], name="strict", tolerance=0)
    for report in (
        check(model, path, PIXELS, profile=strict),
        check(model, path, PIXELS, tolerance=0),
    ):
        assert failed(report) == ["outputs", "edge_cases"]
    with pytest.raises(OnnxError, match="no profile 'fp8': choose fp32-cpu, fp32-gpu, fp16, int8"):
        check(model, path, PIXELS, profile="fp8")


def test_details_replace_those_of_a_saved_model(exported: tuple) -> None:
    model, path = exported
    report = check(model, path, PIXELS, labels=[f"class {index}" for index in range(10)])
    assert failed(report) == ["labels"]
    report = check(model, path, PIXELS, output_kind="logits")
    assert failed(report) == ["interface", "output_kind"]
    with pytest.raises(TypeError, match="lables"):
        check(model, path, PIXELS, lables=["zero"])


def test_reports_are_replaced_as_a_whole(exported: tuple) -> None:
    model, path = exported
    report = check(model, path, PIXELS)
    for _ in range(2):
        files = write_check_report(report)
    assert json.loads(files[0].read_text(encoding="utf-8")) == json.loads(
        json.dumps(report.to_json())
    )
    assert files[1].read_text(encoding="utf-8").splitlines() == list(report.lines())
    assert sorted(path.parent.iterdir()) == sorted([path, *files])
    for file in files:
        file.unlink()


def test_files_that_are_missing_or_not_onnx(exported: tuple, tmp_path: Path) -> None:
    model, _ = exported
    with pytest.raises(OnnxError, match=r"missing\.onnx: no such file"):
        check(model, tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("This is not a model.\n")
    with pytest.raises(OnnxError, match=r"text\.onnx: not an ONNX file"):
        check(model, tmp_path / "text.onnx")


@pytest.mark.parametrize("bias", [True, False])
def test_a_normalization_is_folded_as_the_exporter_folds_it(tmp_path: Path, bias: bool) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(2)
    nn.init.normal_(norm.weight)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.normal_(norm.running_mean)
    network = nn.Sequential(nn.Conv2d(1, 2, 2, bias=bias), norm, nn.Flatten()).eval()
    model = SavedModel(network, "logits", (1, 3, 3))
    export(model, tmp_path / "model.onnx")
    report = check(model, tmp_path / "model.onnx")
    assert report.passed, "\n".join(report.lines())
    assert "12 of 12 numbers compared" in text_of(report, "weights")
