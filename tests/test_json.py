"""What `--json` prints: one valid document per command, as the schemas in docs/schemas say.

What is protected: programs that read the output. Keys are single words with one meaning, names of
classes, layers and files are values, NaN never appears. Every command is run for real.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support import FIXTURES, ROOT

from torchlift.cli.commands import COMMANDS
from torchlift.cli.main import main
from torchlift.transfer.formatting import finite

SCHEMAS = ROOT / "docs" / "schemas"
DIGITS = FIXTURES / "digits"
MODEL, DATA = str(DIGITS / "digits-lenet5-bn.t7"), str(DIGITS / "digits-test.t7")
STYLE = str(FIXTURES / "projects" / "faststyle_none.t7")
WRITER = str(FIXTURES / "projects" / "torchrnn_lstm.t7")
OPTIONS = [
    f"--labels={DIGITS / 'digits_classes.t7'}",
    f"--mean-std={DIGITS / 'digits_meanStd.t7'}",
]


def schema(command: str) -> Any:
    return json.loads((SCHEMAS / f"{command}.json").read_text(encoding="utf-8"))


def refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What other commands need: a saved model, its .onnx, features, a run, results."""
    folder = tmp_path_factory.mktemp("json")
    (folder / "text.txt").write_text("The wind was calm.\n", encoding="utf-8")
    for words in (
        ["convert", MODEL, f"{folder}/model", *OPTIONS],
        ["export", f"{folder}/model", f"{folder}/model.onnx"],
        ["extract", f"{folder}/model", DATA, f"{folder}/features", "--limit", "60"],
        ["train", "softmax", "sklearn:digits", "--epochs=1", "--limit=100", f"-o{folder}/run"],
        ["evaluate", f"{folder}/model.onnx", DATA, "--limit=50", "-o", f"{folder}/results"],
    ):
        assert main(words) == 0
    return folder


#: The words of each command line, with {} for the folder, and the exit code.
LINES: list[tuple[list[str], int]] = [
    (["inspect", MODEL, "--depth", "2"], 0),
    (["inspect", "{}/model"], 0),
    (["inspect", "{}/model.onnx"], 0),
    (["inspect", "{}/features"], 0),
    (["inspect", DATA], 0),
    (["inspect", "sklearn:digits"], 0),
    (["inspect", str(FIXTURES / "0.1.0" / "model")], 0),
    (["inspect", str(FIXTURES / "0.1.0" / "model-baked.onnx")], 0),
    (["inspect", str(FIXTURES / "0.1.0" / "features")], 0),
    (["cat", MODEL, "modules[1].weight"], 0),
    (["cat", MODEL, "modules[1].weight", "-o", "{}/w.npy"], 0),
    (["dump", MODEL, "{}/values.npz"], 0),
    (["dump", DATA, "{}/images", "--limit", "10"], 0),
    (["diff", MODEL, MODEL], 0),
    (["diff", MODEL, str(DIGITS / "digits-lenet5.t7")], 1),
    (["convert", MODEL, "{}/second"], 0),
    (["convert", MODEL, "{}/second.onnx"], 0),
    (["convert", MODEL, "{}/second.t7"], 0),
    (["convert", MODEL, "{}/all", "--all"], 0),
    (["export", "{}/model", "{}/baked.onnx", "--bake-preprocessing"], 0),
    (["annotate", "{}/model.onnx", "-o", "{}/named.onnx", OPTIONS[0]], 0),
    (["check", "{}/model", "{}/model.onnx", "--data", DATA, "--examples", "20"], 0),
    (["check", "{}/model", "{}/model.onnx", "--report"], 0),
    (["check", str(DIGITS / "digits-lenet5.t7"), "{}/model.onnx"], 1),
    (["check", str(DIGITS / "digits-lenet5-bn_uncleared.t7")], 0),
    (["quantize", "{}/model.onnx", "{}/int8.onnx", "--data", DATA, "--calibration", "32"], 0),
    (["predict", "{}/model.onnx", "{}/results/confusion.png", "{}/run/config.yaml"], 1),
    (["predict", "{}/model.onnx", DATA, "-o", "{}/r.jsonl"], 0),
    (["evaluate", "{}/model", DATA, "--limit", "30"], 0),
    (["evaluate", "{}/run/model", "sklearn:digits", "--limit", "30", "-o", "{}/results2"], 0),
    (["sample", WRITER, "--length", "3"], 0),
    (["evaluate", WRITER, "{}/text.txt"], 0),
    (["apply", STYLE, "{}/results/confusion.png", "{}/styled.png"], 0),
    (["apply", STYLE, "{}/run/config.yaml", "{}/never.png"], 1),
    (["extract", "{}/model.onnx", DATA, "{}/f.npz", "--layers=penultimate", "--limit", "20"], 0),
    (["probe", "{}/features", "--methods=knn", "--csv", "{}/p.csv"], 0),
    (["calibrate", "{}/model", DATA, "{}/calibrated"], 0),
    (["train", "softmax", "sklearn:digits", "--epochs=1", "--limit=60", "-o", "{}/run2"], 0),
    (["finetune", "{}/model", DATA, "--epochs=1", "--limit=60", "-o", "{}/run3"], 0),
    (
        ["sweep", "train", "softmax", "sklearn:digits", "lr=0.1,0.01", "epochs=1", "limit=60",
         "--output={}/sweep"],
        0,
    ),
    (
        ["sweep", "train", "softmax", "sklearn:digits", "seed=0,1", "epochs=1", "limit=60",
         "--output={}/seeds"],
        0,
    ),
    (
        ["train", "softmax", "sklearn:digits", "--epochs=1", "--limit=60", "--repeats=2",
         "-o", "{}/repeats"],
        0,
    ),
    (["runs", str(FIXTURES / "0.1.0")], 0),
    (["split", "sklearn:digits", "{}/s.npz", "--limit=50", "--test-fraction=0.2"], 0),
    (["summary", "{}/model", "--formulas"], 0),
    (["plot", "filters", "{}/model", "-o", "{}/a.png"], 0),
    (["plot", "weights", "{}/run/model", "-o", "{}/b.png"], 0),
    (["plot", "feature-maps", "{}/model", "--image", DATA, "-o", "{}/c.png"], 0),
    (["plot", "curves", "{}/run", "-o", "{}/d.png"], 0),
    (["plot", "samples", DATA, "--model={}/model.onnx", "--limit=3", "-o", "{}/e.png"], 0),
    (["plot", "confusion", "{}/results", "-o", "{}/f.png"], 0),
    (["plot", "sizes", MODEL, "-o", "{}/g.png"], 0),
    (["doctor"], 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code"),
    LINES,
    ids=lambda value: " ".join(value)[-60:] if isinstance(value, list) else "",
)
def test_the_document_fits_its_schema(
    words: list[str], code: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("{}", str(folder)) for word in words] + ["--json"]) == code
    document = json.loads(capsys.readouterr().out, parse_constant=refuse)
    jsonschema.validate(document, schema(words[0]))


def test_an_error_prints_nothing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "nowhere.t7", "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


def properties(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value.get("properties", {})
        for inner in value.values():
            yield from properties(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from properties(inner)


def test_every_command_has_a_schema_whose_keys_are_words() -> None:
    assert {file.stem for file in SCHEMAS.glob("*.json")} == set(COMMANDS)
    for command in COMMANDS:
        found = schema(command)
        jsonschema.Draft202012Validator.check_schema(found)
        for key in properties(found):
            assert re.fullmatch(r"[a-z][a-z0-9_]*", key), key


def test_every_key_is_explained_in_the_docs() -> None:
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`([a-z][a-z0-9_]*)`", page))
    used = {key for command in COMMANDS for key in properties(schema(command))}
    assert used - explained == set()


def test_a_key_has_one_type_in_all_commands() -> None:
    """`bytes` was an int or a dict, `output` a kind or a path (F11)."""
    types: dict[str, set[str]] = {}

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for key, kind in value.get("properties", {}).items():
                types.setdefault(key, set()).add(simple(kind))
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    def simple(kind: Any) -> str:
        if "$ref" in kind:
            return str(kind["$ref"])
        if "const" in kind or "enum" in kind:
            return "string"
        if "anyOf" in kind:
            return simple(kind["anyOf"][0])
        named = kind.get("type", "any")
        return str(named if isinstance(named, str) else named[0])

    for command in COMMANDS:
        collect(schema(command))
    several = {key: found for key, found in types.items() if len(found) > 1}
    # A layer's shape in a summary may hold shapes of a table; an epoch is a number in a row.
    allowed = {
        "epoch",
        "evaluation",
        "output_shape",
        "input_shape",
        "layers",
        "runs",
        "steps",
        "bytes_by_group",
        "notes",
        "files",
    }
    assert {key: found for key, found in several.items() if key not in allowed} == {}


def test_what_is_not_finite_is_null() -> None:
    nan = float("nan")
    assert finite({"a": [nan, 1.0, (float("inf"),)]}) == {"a": [None, 1.0, [None]]}


def test_values_of_a_file_that_are_not_finite_have_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = str(FIXTURES / "formats" / "special_values.t7")
    assert main(["inspect", file, "--json"]) == 0
    json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert main(["cat", file, "", "--json"]) == 0
    json.loads(capsys.readouterr().out, parse_constant=refuse)
