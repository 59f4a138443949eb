"""The command line's arguments: sizes and lists, options anywhere, errors in two lines.

What is protected: what a shell gives becomes the right Python values wherever the options stand,
nothing is abbreviated, wrong usage exits with 2 and names the option, and messages of the library
name options, not Python arguments.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import pytest
from support import FIXTURES

from torchlift.cli import values
from torchlift.cli.commands import COMMANDS, load_commands
from torchlift.cli.main import main
from torchlift.cli.messages import as_options
from torchlift.cli.parser import arguments_of, parse_command
from torchlift.cli.values import parse_list, parse_shape, parse_size

MODEL = str(FIXTURES / "digits" / "digits-lenet5-bn.t7")


def parsed(*words: str) -> dict[str, Any]:
    return parse_command(load_commands(words), words)[1]


def test_sizes_shapes_and_lists() -> None:
    assert parse_size("240x320") == (240, 320)
    assert parse_list(" a, b ,c") == ["a", "b", "c"]
    assert parse_list(["a", "b"]) == ["a", "b"]  # from a YAML file
    for text in ("0", "3x", "x3", "3x4x5", "-1", "a", ""):
        with pytest.raises(ArgumentTypeError, match="a size such as 224 or 240x320"):
            parse_size(text)
    for text in ("0x3", "3,4", ""):
        with pytest.raises(ArgumentTypeError, match="a shape such as 3x224x224"):
            parse_shape(text)
    for text in ("a,,b", "", ",a"):
        with pytest.raises(ArgumentTypeError, match="names with commas between"):
            parse_list(text)


def test_the_same_text_is_parsed_alike_in_every_command() -> None:
    """`--test a, b` was not stripped, `--layers` was."""
    assert parsed("probe", "x", "--test", "a, b")["test"] == ["a", "b"]
    assert parsed("extract", "m", "d", "o", "--layers", "a, b")["layers"] == ["a", "b"]
    assert parsed("train", "softmax", "d", "--classes", "a, b")["classes"] == ["a", "b"]
    assert parsed("export", "m", "--input-size", "24x32")["input_size"] == (24, 32)
    assert parsed("train", "softmax", "d", "--image-size", "24")["image_size"] == (24, 24)


def test_every_option_has_a_type_that_is_parsed_here() -> None:
    for command in load_commands([]):
        for argument in arguments_of(command):
            if not argument.positional and argument.type is not bool:
                values.parser_of(argument.type)


def test_options_stand_anywhere_among_the_arguments() -> None:
    for words in (
        ("predict", "--top", "3", "m", "a.png", "b.png"),
        ("predict", "m", "--top=3", "a.png", "b.png"),
        ("predict", "m", "a.png", "--top", "3", "--overwrite", "b.png"),
    ):
        options = parsed(*words)
        assert (options["model"], options["inputs"]) == ("m", ["a.png", "b.png"])
        assert options["top"] == 3


def test_what_looks_like_an_option_may_be_a_value_or_a_name() -> None:
    for value, numbers in (("-1,1", [-1, 1]), ("-.5,.5", [-0.5, 0.5]), ("-1e3,2", [-1000, 2])):
        for words in (
            ["--value-range", value, "--top", "3"],
            [f"--value-range={value}", "--top=3"],
        ):
            options = parsed("predict", *words, "m", "a.png")
            assert (options["value_range"], options["top"]) == (numbers, 3)
            assert (options["model"], options["inputs"]) == ("m", ["a.png"])
    # Behind two hyphens all are names, and `-` is one anywhere.
    options = parsed("predict", "m", "--top", "3", "-", "--", "--top", "-x.png")
    assert (options["model"], options["top"]) == ("m", 3)
    assert options["inputs"] == ["-", "--top", "-x.png"]
    # A single dash is no option that takes the next word with it.
    options = parsed("predict", "m", "-", "a.png", "b.png", "--top", "3")
    assert options["inputs"] == ["-", "a.png", "b.png"]
    assert parsed("predict", "m", "x", "--json", "--overwrite")["json"] is True


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--overwrit", "; did you mean --overwrite?"),
        ("--batchsize", "; did you mean --batch-size?"),
        ("--zzz", ""),
        ("--x", ""),
    ],
)
def test_only_a_similar_option_is_suggested(
    option: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "m", "x", option])
    first = capsys.readouterr().err.splitlines()[0]
    assert first == f"torchlift predict: no such argument: {option}{hint}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "torchlift: a command is missing"),
        (["frobnicate"], "torchlift: no command 'frobnicate'"),
        (["predict", "m"], "torchlift predict: missing: inputs"),
        (["quantize", "a", "b"], "torchlift quantize: missing: --data"),
        (["predict", "m", "x", "--top", "z"], "--top: a whole number was expected, not 'z'"),
        (["predict", "m", "x", "--top"], "--top: expected one argument"),
        (["predict", "m", "x", "--nope"], "no such argument: --nope"),
        (["train", "m", "x", "--flip=yes"], "--flip: stands alone, without a value such as 'yes'"),
        (["summary", "m", "--inp", "3x3"], "no such argument: --inp"),
        (["export", "m", "--input-size", "3xx"], "--input-size: a size such as 224 or 240x320"),
        (["train", "softmax", "d", "--sampling", "x"], "--sampling: one of shuffle, shuffle-once"),
        (["train", "softmax", "d", "--lr", "x"], "--lr: a number or one of find was expected"),
        (["plot", "pie", "x"], "kind: one of filters, feature-maps"),
        (["convert", MODEL, "out.xyz"], "out.xyz: a folder or .pt2 or .onnx or .t7 is written"),
        (["convert", MODEL, "model.pth"], "model.pth: a folder or .pt2 or .onnx or .t7"),
        (["export", MODEL, "out.pb"], "out.pb: .onnx is written, not .pb"),
    ],
)
def test_wrong_usage_is_one_or_two_lines_and_exits_with_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: Any = main(words)
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) <= 2
    assert not re.search(r"typing|<class|NoneType|Parser key", captured.err)


def test_a_folder_may_have_a_version_in_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model-1.5", "v2.0", "model.d/"):
        if name.endswith("/"):
            assert main(["convert", MODEL, f"{tmp_path}/{name}"]) == 0
        else:
            assert main(["convert", MODEL, str(tmp_path / name)]) == 0
        assert (tmp_path / name / "config.json").is_file()


def test_options_stand_in_titled_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    text = capsys.readouterr().out
    titles = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert len([title for title in titles if title not in ("positional arguments", "options")]) >= 6
    assert "How to open the model" in titles


@pytest.mark.parametrize(
    "command",
    [
        *("inspect", "check", "quantize", "evaluate", "extract", "calibrate"),
        *("train", "finetune", "sweep", "split", "plot", "lab"),
    ],
)
def test_help_says_that_a_dataset_may_be_at_an_address(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "address such as s3://, hf://, https:// or zip://" in text


def test_only_defaults_that_say_something_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "How many classes to list for each image. (default: 5)" in text
    assert "(default: auto)" in text
    assert not re.search(r"default: (False|None|==)", text)
    # An argument that is no option says itself what it is where it is left out.
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    assert "default:" not in capsys.readouterr().out


def test_every_help_is_there() -> None:
    assert {command.__name__ for command in load_commands([])} == set(COMMANDS)


def test_messages_of_the_library_name_options() -> None:
    options = {"overwrite", "input_size", "keep", "lr", "resize"}
    for text, expected in [
        ("x exists; overwrite=True replaces it", "x exists; --overwrite replaces it"),
        ("give input_size=(H, W)", "give --input-size HxW"),
        ("input_size=(224, 224) does not fit", "--input-size 224x224 does not fit"),
        ("keep=['a', 'b'] are no layers", "--keep a,b are no layers"),
        ("lr=0 must be positive", "--lr 0 must be positive"),
        ("resize=… needs mean and std", "--resize … needs mean and std".replace(" …", "")),
        ("input_shape=(C, H, W) is unknown", "input_shape=(C, H, W) is unknown"),
        ("a==b and x = 3", "a==b and x = 3"),
    ]:
        assert as_options(text, options) == expected


def test_a_file_that_exists_is_said_in_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "x.onnx"
    target.touch()
    assert main(["export", MODEL, str(target)]) == 1
    error = capsys.readouterr().err
    assert error == f"torchlift: {target} already exists; --overwrite replaces it\n"


def test_a_full_stdout_is_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was "None: No space left on device" (F8)."""
    import torchlift.cli.main as cli

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli, "show", full)
    assert main(["inspect", MODEL]) == 1
    assert capsys.readouterr().err == "torchlift: stdout: No space left on device\n"
