"""The README.md of a saved model is a model card, and nobody's text is lost with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from saved_support import tiny
from support import FIXTURES
from torch import nn

from torchlift import __version__
from torchlift.cli.main import main
from torchlift.converters import saved
from torchlift.converters.errors import WriteError
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.saved import Provenance, SavedModel
from torchlift.converters.saved.card import is_card, is_edited, model_card
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.training.run_folder import open_run


def test_convert_writes_a_card_that_says_where_the_model_comes_from(tmp_path: Path) -> None:
    digits = FIXTURES / "digits"
    options = [
        "--mean-std",
        f"{digits}/digits_meanStd.t7",
        "--labels",
        f"{digits}/digits_classes.t7",
    ]
    file = digits / "digits-lenet5-bn.t7"
    assert main(["convert", str(file), str(tmp_path / "m"), *options]) == 0
    card = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["library_name"] == "torchlift"
    assert head["pipeline_tag"] == "image-classification"
    assert "torch7" in head["tags"]
    assert "license" not in head
    model = saved.load(tmp_path / "m")
    assert model.source is not None
    for text in (
        *("digits-lenet5-bn.t7", model.source.sha256, "1x32x32", "log_probabilities"),
        *("BatchNorm2d", "mean           [60.4", "9  nine", "self-check: "),
    ):
        assert text in card, text


def test_only_a_classifier_of_images_is_tagged_as_one(tmp_path: Path) -> None:
    painter = tiny(image_to_image=ImageToImage(1))
    features = replace(tiny(), output_kind="features")
    vectors = replace(tiny(), input_shape=None)
    for number, (model, is_tagged) in enumerate(
        [(tiny(), True), (painter, False), (features, False), (vectors, False)]
    ):
        text = (saved.save(model, tmp_path / f"{number}") / "README.md").read_text(encoding="utf-8")
        assert ("pipeline_tag" in yaml.safe_load(text.split("---\n")[1])) == is_tagged


def test_text_of_a_file_is_no_markup(tmp_path: Path) -> None:
    """Labels, notes and the name of the file may be anybody's."""
    evil = "x\n\n# Free <script>alert(1)</script> ![](http://a.b/c.png)\n---\nlicense: mit ```"
    model = tiny(labels=[evil, "b", "c"], notes=[evil], source=Provenance(evil, "0" * 64))
    text = (saved.save(model, tmp_path / "m") / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    assert set(yaml.safe_load(head)) == {"library_name", "tags", "pipeline_tag"}
    html = MarkdownIt("commonmark").render(body)
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("<h1>") == 1


def test_text_of_a_file_is_shown_as_it_is_but_for_what_a_terminal_obeys() -> None:
    labels = ["Straße 空", "a\x1b[2J\u202e", "x" * 201, "y" * 200]
    card = model_card(SavedModel(nn.Linear(4, 4), "logits", labels=labels))
    shown = card.split("## Classes\n\n")[1].split("\n\n")[0].splitlines()
    assert shown == [
        "    0  Straße 空",
        "    1  a\\x1b[2J\\u202e",
        f"    2  {'x' * 200}…",
        f"    3  {'y' * 200}",
    ]


@pytest.mark.parametrize(("count", "more"), [(40, ""), (41, "1 more"), (1040, "1,000 more")])
def test_a_card_shows_forty_classes_and_how_many_more_there_are(count: int, more: str) -> None:
    labels = list(map(str, range(count)))
    card = model_card(SavedModel(nn.Linear(4, count), "logits", labels=labels))
    shown = card.split("## Classes\n\n")[1].split("\n\n")[0].splitlines()
    assert shown[39].split() == ["39", "39"]
    assert shown[40:] == ([f"    … {more}"] if more else [])


def test_a_card_that_somebody_edited_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    folder = saved.save(tiny(), tmp_path / "m")
    card = folder / "README.md"
    assert is_card(card)
    assert not is_edited(card)
    text = card.read_text(encoding="utf-8")
    card.write_text(text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    assert not is_edited(card)  # as Git may check it out
    for edited in (
        text.replace("# license: say", "license: mit\n# say"),
        text + "More.\n",
        "\n" + text,
        text.replace("\n<!-- torchlift wrote", "\n\n<!-- torchlift wrote"),
    ):
        card.write_text(edited, encoding="utf-8")
        assert is_card(card)
        assert is_edited(card)
        with pytest.raises(WriteError, match="already exists"):
            saved.save(tiny(), folder)
        assert card.read_text(encoding="utf-8") == edited
    saved.save(tiny(), folder, overwrite=True)
    assert not is_edited(card)


def test_a_readme_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    folder = saved.save(tiny(), tmp_path / "m")
    (folder / "README.md").write_text("# My thesis\n", encoding="utf-8")
    with pytest.raises(WriteError, match=r"it also contains README\.md"):
        saved.save(tiny(), folder, overwrite=True)
    assert (folder / "README.md").read_text(encoding="utf-8") == "# My thesis\n"
    assert saved.load(folder).output_kind == "logits"


def test_a_run_goes_on_only_while_the_card_of_its_model_is_torchlifts(tmp_path: Path) -> None:
    """It writes the model again, without having been told to overwrite anything."""
    run = tmp_path / "run"
    open_run(run, {}, {}, resume=False, overwrite=False)
    card = saved.save(tiny(), run / "model") / "README.md"
    open_run(run, {}, {}, resume=True, overwrite=False)
    card.write_text(card.read_text(encoding="utf-8") + "More.\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"README\.md was edited.*move it elsewhere"):
        open_run(run, {}, {}, resume=True, overwrite=False)
    card.write_text("# My thesis\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"it also contains model/README\.md"):
        open_run(run, {}, {}, resume=False, overwrite=True)
    assert card.read_text(encoding="utf-8") == "# My thesis\n"


def test_a_card_says_the_facts_and_the_steps_on_one_line_each() -> None:
    preprocessing = Preprocessing("gray", (8, 8), mean=(0.5,))
    source = Provenance("Net.T7", "ab" * 32)
    model = tiny(preprocessing=preprocessing, source=source, labels=["a\nb", "x" * 201, "y" * 200])
    card = model_card(model)
    assert "- torch7\npipeline_tag: image-classification" in card
    assert "# A Torch7 model, converted to PyTorch" in card
    lines = card.splitlines()
    for line in (
        "    source      Net.T7",
        f"    SHA-256     {'ab' * 32}",
        "    input       1x8x8",
        "    output      logits, 3 numbers",
        "    parameters  239",
        f"    written by  torchlift {__version__}",
        '    color          "gray"',
        "    size           [8, 8]",
        "    mean           [0.5]",
        "    0  a\\nb",
        f"    1  {'x' * 200}…",
        f"    2  {'y' * 200}",
    ):
        assert line in lines, line
    other = model_card(replace(model, source=Provenance("net.onnx", "cd" * 32), input_shape=None))
    assert "- torchlift\n" in other
    assert "# A PyTorch model\n" in other
    assert "\n    input " not in other
    wide = SavedModel(nn.Tanh(), "features")
    wide.set_inputs(parse_inputs(",".join(["3"] * 101)))
    assert f"    input       {'3,' * 100}…\n" in model_card(wide)
    plain = model_card(SavedModel(nn.Tanh(), "features"))
    for title in ("Preprocessing", "Classes", "What was checked"):
        assert f"## {title}" not in plain
    assert "    output      features\n    parameters  0\n" in plain


def test_a_mark_in_a_text_is_not_that_of_the_card(tmp_path: Path) -> None:
    """The last one counts; what is no text is nobody's card."""
    false = "<!-- torchlift wrote this card; SHA-256 of the text above: " + "0" * 64 + " -->"
    card = tmp_path / "README.md"
    assert not is_card(card)
    assert not is_edited(card)
    card.write_text(model_card(tiny(notes=[false])), encoding="utf-8")
    assert is_card(card)
    assert not is_edited(card)
    card.write_bytes(b"\xff\xfe no card")
    assert not is_card(card)
    assert is_edited(card)
    card.write_text(f"Mine.\n{false}\n", encoding="utf-8")
    assert is_card(card)
    assert is_edited(card)
