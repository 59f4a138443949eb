"""What a model's file says of itself is checked when it is opened, and refused by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from saved_support import tiny
from support import FIXTURES

from torchlift.converters import saved
from torchlift.converters.errors import TorchliftError
from torchlift.converters.images import Preprocessing, PreprocessingError
from torchlift.converters.inference import OnnxPredictor
from torchlift.converters.onnx import OnnxError, describe_file
from torchlift.converters.saved import SavedModelError, describe_folder

ONNX = FIXTURES / "0.1.0" / "model.onnx"
OWN = Preprocessing("gray", (32, 32), value_range=255, mean=(60.0,), std=(84.0,)).to_json()


def own(**changes: Any) -> str:
    return json.dumps({**OWN, **changes})


@pytest.mark.parametrize(
    ("entry", "text", "said"),
    [
        ("labels", "5", "labels is 5; a list was expected"),
        ("labels", '{"a": 1}', "labels is an object; a list was expected"),
        ("labels", '["a", 1]', r"labels\[1\] is 1; a text was expected"),
        ("labels", '["a"]', "1 class names for 10 outputs"),
        ("labels", '"abcdefghij"', "labels is 'abcdefghij'; a list was expected"),
        ("labels", "[" * 100_000, "nested too deeply"),
        ("labels", "", "damaged"),
        ("output", '"evil"', "output_kind is 'evil'; one of"),
        ("precision", '"fp99"', "precision is 'fp99'; one of"),
        ("source", '{"file": 5}', r"source\.file is 5; a text"),
        ("format_version", "true", "format_version is True"),
        ("kept_outputs", "[0]", r"kept_outputs\[0\] is 0"),
        ("kept_columns", "[1]", "a list of 2 was expected"),
        ("kept_columns", "[0, 2]", r"kept_columns\[0\] is 0"),
        ("depends_on_batch", "1", "depends_on_batch is 1"),
        ("image_to_image", "{}", "not an image output of torchlift"),
        ("vocabularies", "5", "vocabularies is 5; a list"),
        ("vocabularies", "[1]", r"vocabularies\[0\]"),
        ("inputs", "5", "inputs is 5; a text"),
        ("exporter", "[]", "exporter is a list of 0; a text"),
        ("baked_preprocessing", own(evil=1), "'evil' is unknown"),
        ("preprocessing", "[]", "a list of 0; an object"),
        ("preprocessing", own(mean=["a"]), r"mean\[0\] is 'a'; a number"),
        ("preprocessing", own(mean=[True]), r"mean\[0\] is True; a number"),
        ("preprocessing", own(mean=[1, 2]), "mean has 2 values"),
        ("preprocessing", own(mean=[float("nan")]), "a number was expected"),
        ("preprocessing", own(std=[1e-40]), "out of the range of float32"),
        ("preprocessing", own(color="RGB"), "color is 'RGB', but the network takes 1×32×32"),
        ("preprocessing", own(size=[40000, 40000]), r"size\[0\] is 40000"),
        ("preprocessing", own(size=[64, 64]), "images become 64×64, but the network takes"),
        ("preprocessing", own(size="^9000", crop=[32, 32]), "size is '\\^9000', but the network"),
        ("preprocessing", own(size="9" * 400, crop=[32, 32]), "not a size of image.scale"),
        ("preprocessing", own(size=[32.0, 32]), r"size\[0\] is 32\.0; a whole number"),
        ("preprocessing", own(evil=1), "'evil' is unknown"),
        ("preprocessing", own(round_pixels=1), "round_pixels is 1"),
    ],
)
def test_a_damaged_entry_is_refused_by_whatever_opens_the_file(
    entry: str, text: str, said: str, tmp_path: Path
) -> None:
    model = onnx.load(ONNX)
    properties = {each.key: each.value for each in model.metadata_props} | {entry: text}
    onnx.helper.set_model_props(model, properties)
    file = tmp_path / "damaged.onnx"
    onnx.save(model, file)
    with pytest.raises(TorchliftError, match=said) as opened:
        OnnxPredictor(file, "cpu")
    with pytest.raises(OnnxError, match=said) as described:
        describe_file(file)
    for message in (str(opened.value), str(described.value)):
        assert message.startswith(f"{file}: the metadata {entry!r}")
        assert len(message) < 400 + len(str(file))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input_shape": [1, -8, 8]}, r"input_shape\[1\] is -8"),
        ({"input_shape": ["1", "8", "8"]}, r"input_shape\[0\] is '1'"),
        ({"input_shape": [1, 10**6, 10**6]}, "too large for an example"),
        ({"labels": {"a": 1}}, "labels is an object"),
        ({"notes": "abc"}, "notes is 'abc'; a list"),
        ({"source": {"file": 5, "sha256": ""}}, r"source\.file is 5"),
        ({"source": {"file": "x"}}, r"no entry 'source\.sha256'"),
        ({"parameters": -1}, "parameters is -1"),
        ({"torchlift_version": 5}, "torchlift_version is 5"),
        ({"format_version": True}, "format version True"),
        ({"preprocessing": own(mean=["a"])}, "preprocessing is "),
        ({"preprocessing": {**OWN, "size": [40000, 1]}}, r"size\[0\] is 40000"),
        ({"preprocessing": {**OWN, "size": [2, 2, 2]}}, "a list of 3; a list of 2 was expected"),
        ({"preprocessing": {**OWN, "size": [9, 9]}}, "images become 9×9"),
    ],
)
def test_a_damaged_config_is_refused_before_anything_is_built(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """Also by `inspect`, which builds nothing."""
    file = saved.save(tiny(), tmp_path / "m") / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}))
    for opens in (saved.load, describe_folder):
        with pytest.raises(SavedModelError, match=said) as error:
            opens(tmp_path / "m")
        assert str(file) in str(error.value)


def test_labels_of_a_saved_model_fit_its_outputs(tmp_path: Path) -> None:
    file = saved.save(tiny(), tmp_path / "m") / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "labels": ["a"]}))
    with pytest.raises(SavedModelError, match="1 class names for 3 outputs"):
        saved.load(tmp_path / "m")


def test_an_image_is_not_resized_beyond_all_measure() -> None:
    """A shorter side of 16 pixels is harmless for most images, but not for a strip."""
    import numpy as np

    strip = np.zeros((1, 5000, 3), np.uint8)
    with pytest.raises(PreprocessingError, match="1×5000 would be resized to 16000×80000000"):
        Preprocessing(size=16000)([strip])
