"""Mistakes on the command line: what is typed wrong, and files and options that do not fit.

What is protected: a mistake is found before anything is written, an invalid option exits with 2,
the message says what to type instead, and nothing that was typed is ignored or rewritten.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_support import DATA, MODEL, SCALE, typed, write_files
from support import FIXTURES


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_files(tmp_path_factory.mktemp("files"))


def assert_refused(
    code: int,
    said: str,
    line: str,
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Type a line in an empty folder, and require one error and no file."""
    found, out, err = typed(files, capsys, *line.split())
    assert (found, out) == (code, "")
    assert said in err
    assert "Traceback" not in err
    assert not [*Path.cwd().iterdir()]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("predict {m} x.png --batch-size -1", "--batch-size: a whole number of at least 1"),
        ("predict {m} x.png --top 0", "--top: a whole number of at least 1"),
        ("predict {m} x.png --provider gpu", "--provider: one of auto, cpu, cuda, cuda:1, tens"),
        ("predict {m} x.png -o x.xls", "x.xls: .csv or .jsonl or .parquet is written"),
        ("evaluate {m} d --batch-size 0", "--batch-size: a whole number of at least 1"),
        ("evaluate {m} d --limit 0", "--limit: a whole number of at least 1"),
        ("evaluate {m} d --seed -1", "--seed: a whole number of at least 0"),
        ("evaluate {m} d --label x", "no such argument: --label x; did you mean --labels?"),
        ("evaluate {m} d --limt=3", "did you mean --limit?"),
        ("evaluate {m} d --resize foo", "--resize foo: 'none' or "),
        ("evaluate {m} d --vocab v.t7", "--vocab is for a text in .txt, not for d"),
        ("evaluate {m} d.TXT --output o", "results of a text are printed: leave out --output"),
        (
            "evaluate {m} d.txt --output-kind logits",
            "d.txt is a text: leave out --output-kind and --output-name",
        ),
        ("evaluate {m} d.txt --output-name y", "d.txt is a text: leave out --output-kind and"),
        ("extract {m} d f.csv", "f.csv: a folder or .zarr or .t7 or .npz is written"),
        ("extract {m} d f --workers 0", "--workers: a whole number of at least 1"),
        ("extract {m} d f --batch-size 0", "--batch-size 0: expected at least 1"),
        ("inspect {m} --depth -1", "--depth: a whole number of at least 0"),
        ("check {m} {onnx} --tolerance -1", "--tolerance: a number of at least 0"),
        ("check {m} {onnx} --tolerance nan", "--tolerance: a finite number was expected"),
        ("check {m} {onnx} --profile foo", "--profile: one of fp32-cpu, fp32-gpu, fp16, int8"),
        ("check {m} {onnx} --limit 3", "--limit is for the images of --data"),
        ("check {m} {onnx} --examples 3", "--examples is for the images of --data"),
        ("check {m}", "torchlift check MODEL FILE.onnx"),
        ("check {onnx}", "torchlift check MODEL FILE.onnx"),
        ("quantize {onnx} x.txt --data d", "x.txt: .onnx is written, not .txt"),
        ("quantize {m} x.onnx --data d", "an .onnx file is quantized; torchlift export"),
        ("quantize {onnx} x.onnx --data d --max-drop -0.5", "--max-drop: a number from 0 to 1"),
        ("plot samples d --limit 0", "--limit: a whole number of at least 1"),
        ("plot samples d -o f.gif", "f.gif: .png or .svg is written"),
        ("probe f --methods knn,svm", "--methods: one of logistic, knn, network was expected"),
        ("train softmax d --epochs -1", "--epochs -1 must be at least 0"),
        ("train softmax d --lr -1", "--lr -1.0 must be positive"),
        ("train softmax d --warmup-epochs 20", "--warmup-epochs 20.0 must be below --epochs 10"),
        ("train softmax d --mixup -1", "--mixup -1.0: expected at least 0"),
        ("finetune {m} d --unfreeze-at 3", "--unfreeze-at 3 needs layers to unfreeze: --freeze"),
        ("lab nolab", "no lab 'nolab'; there are torch7-convnets"),
        ("lab blitz --seed -1", "--seed -1 must be at least 0"),
        ("lab blitz --epochs 0", "--epochs 0 must be at least 1"),
        ("lab blitz --limit 0", "--limit 0 must be at least 1"),
        ("train softmax d --seed -1", "--seed: a whole number of at least 0"),
        ("sweep train softmax d lr=1 --seed -1", "--seed: a whole number of at least 0"),
        ("probe f --seed -1", "--seed: a whole number of at least 0"),
        ("check {m} {onnx} --data d --examples 0", "--examples: a whole number of at least 1"),
        (f"cat {SCALE} mean -o x", "x: .npy or .t7 is written"),
        (f"cat {SCALE} mean -o x.csv", "x.csv: .npy or .t7 is written"),
    ],
)
def test_an_invalid_option_or_output_exits_with_2(
    line: str,
    said: str,
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(2, said, line, files, capsys)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("check {onnx} {onnx}", "name the model that it was made from"),
        ("finetune {onnx} sklearn:digits", "name the model that it was made from"),
        ("finetune {m} sklearn:digits --freeze all-but-heads", "--freeze all-but-heads matches no"),
        ("finetune convnet sklearn:digits", "`torchlift train` trains it"),
        ("summary convnett", "no such file or network; the networks are softmax, "),
        ("summary convnet --input 3x16x16", "got an input of shape (2, 16); 3×32×32 fits"),
        ("probe nof", "nof: no such feature store"),
        ("evaluate {m} d.txt --vocab v.t7", "d.txt: No such file"),
        ("inspect {m}/model.safetensors", "holds the weights of a saved model: name its folder;"),
        ("inspect x.PT2", "x.PT2: torch.export.load opens it; inspect is for .t7 and .onnx files"),
        ("export {m} any.onnx --any-size", "has a fixed input size: leave out --any-size"),
        (f"export {MODEL} b.onnx --bake-preprocessing", "open it with --mean-std FILE"),
        (
            "predict {m} x.png --provider tensorrt",
            "tensorrt is for .onnx files; PyTorch runs on auto, cpu or cuda",
        ),
        ("predict {onnx} x.png --labels x", "x: no such file"),
        (f"convert {MODEL} x --mean-std {SCALE} --value-range 1", "leave out --value-range 1"),
        (f"convert {MODEL} x --mean-std {FIXTURES}/cifar/cifar_meanStd.t7", "gray images need 1"),
        (f"cat {SCALE} mean -o x.npy", "mean is not a tensor (list of 1: "),
        ("split sklearn:digits s.npz --test-data {rgb}", "images of one shape, not 3×16×16 in"),
        ("plot feature-maps {m} --image sklearn:digits --index 5000", "has no image --index 5000"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(
    line: str,
    said: str,
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(1, said, line, files, capsys)


def test_a_file_is_not_replaced_by_a_name_without_suffix(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`cat -o label` replaced label.npy."""
    (tmp_path / "label.npy").write_text("mine")
    assert typed(files, capsys, "cat", DATA, "label", "-o", str(tmp_path / "label"))[0] == 2
    assert (tmp_path / "label.npy").read_text() == "mine"


def test_a_missing_image_is_reported_and_the_others_are_classified(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = typed(files, capsys, "predict", "{m}", "no.png", "china", "--json")
    assert (code, err) == (1, "torchlift: no.png: no such file\n")
    assert [len(one["predictions"]) for one in json.loads(out)["results"]] == [0, 5]


@pytest.mark.parametrize(("data", "count"), [("sklearn:digits", 1797), ("{rgb}", 10)])
def test_predict_takes_datasets_without_a_file(
    data: str, count: int, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = typed(files, capsys, "predict", "{onnx}", data, "--top", "1", "--json")[1]
    assert len(json.loads(out)["results"]) == count


def test_a_tolerance_of_0_is_not_the_default(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(FIXTURES / "digits" / "digits-lenet5-bn_uncleared.t7")
    out = typed(files, capsys, "check", checkpoint, "--tolerance", "0", "--json")[1]
    assert json.loads(out)["tolerance"] == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train convnet_bn runs/lr=0.1/data.t7", "runs/lr=0.1/data.t7: no such file"),
        ("train convnet_bn lr=0.1", "lr=0.1: no such file"),
        ("convert at=2/none.t7 out", "at=2/none.t7: "),
        ("convert ./at=2 out", "at=2: "),
        ("evaluate {m} d --labels=at=3", "at=3: "),
    ],
)
def test_what_was_typed_is_never_rewritten(
    line: str, said: str, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = typed(files, capsys, *line.split())
    assert code == 1
    assert err.startswith(f"torchlift: {said}")
