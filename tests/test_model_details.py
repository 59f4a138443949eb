"""What is said of a model on the command line: how images are resized, and the class names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.inference import Classifier
from torchlift.converters.saved import open_model, save

DIGITS = FIXTURES / "digits"


def test_the_resizing_that_is_chosen_travels_with_the_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    statistics = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    table = t7.LuaTable({key: t7.LuaTable.from_list(value) for key, value in statistics.items()})
    t7.save(table, tmp_path / "meanStd.t7")
    alexnet = str(FIXTURES / "models" / "alexnetowtbn_small.t7")
    options = ["--mean-std", str(tmp_path / "meanStd.t7")]
    chosen = ["--resize", "image.scale-bicubic:^256"]
    assert main(["convert", alexnet, str(tmp_path / "default"), *options]) == 0
    assert main(["convert", alexnet, str(tmp_path / "chosen"), *options, *chosen]) == 0
    assert main(["export", str(tmp_path / "chosen"), str(tmp_path / "chosen.onnx")]) == 0
    default, model = (open_model(tmp_path / name) for name in ("default", "chosen"))
    assert (default.preprocessing.resize, default.preprocessing.size) == (
        "pil-bilinear",
        (224, 224),
    )
    assert any("resized to 224×224 by pil-bilinear" in note for note in default.notes)
    assert (model.preprocessing.size, model.preprocessing.crop) == ("^256", (224, 224))
    assert model.preprocessing.resize == "image.scale-bicubic"
    assert Classifier(tmp_path / "chosen.onnx", "cpu").preprocessing == model.preprocessing
    capsys.readouterr()
    assert main(["convert", alexnet, str(tmp_path / "none"), *chosen]) == 1
    assert "needs mean and std" in capsys.readouterr().err


def test_labels_in_another_order_are_no_renaming(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model's own names in another order would call each output by another class's name."""
    image = tmp_path / "0.png"
    Image.fromarray(np.asarray(t7.load(DIGITS / "digits-test.t7")["data"])[0, 0]).save(image)
    names = list(t7.load(DIGITS / "digits_classes.t7").values())
    (tmp_path / "sorted.txt").write_text("\n".join(sorted(names)), encoding="utf-8")
    model = tmp_path / "model"
    listed, scale = DIGITS / "digits_classes.t7", DIGITS / "digits_meanStd.t7"
    save(open_model(DIGITS / "digits-lenet5-bn.t7", labels=listed, mean_std=scale), model)
    for command in (["predict", model, image], ["export", model, tmp_path / "m.onnx"]):
        words = [*map(str, command), "--labels", str(tmp_path / "sorted.txt")]
        assert main(words) == 1
        err = capsys.readouterr().err
        assert "--labels" in err
        assert "in another order: output 1 is 'zero', not 'eight'" in err
    assert not (tmp_path / "m.onnx").exists()
    # Other names are a renaming, and the same names in the same order change nothing.
    for text in ([f"digit {name}" for name in names], names):
        (tmp_path / "other.txt").write_text("\n".join(text), encoding="utf-8")
        words = ["predict", str(model), str(image), "--json"]
        assert main([*words, "--labels", str(tmp_path / "other.txt")]) == 0
        result = json.loads(capsys.readouterr().out)["results"][0]
        assert {one["label"] for one in result["predictions"]} <= set(text)
