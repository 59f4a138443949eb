"""A damaged folder of a saved model is refused with an error that names the entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from saved_support import tiny

from torchlift.converters import saved
from torchlift.converters.saved import SavedModelError


def first_layer(config: dict[str, Any]) -> dict[str, Any]:
    layer: dict[str, Any] = config["structure"]["children"][0]
    return layer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("format"), "not a model saved by torchlift"),
        (lambda c: c.update(format_version=3), "format version 3"),
        (lambda c: c.update(format_version=0), "format version 0"),
        (lambda c: c.update(format_version=True), "format version True"),
        (lambda c: c.pop("labels"), "no entry 'labels'"),
        (lambda c: c.update(labels=[1]), r"labels\[0\] is 1; a text was"),
        (lambda c: c.update(output_kind="dog"), "output_kind is 'dog'"),
        (lambda c: c.update(input_shape=[1, 2]), "damaged"),
        (lambda c: c.update(input_shape=[2**9, 2**10, 2**10]), "too large for an example"),
        (lambda c: c.update(preprocessing={"color": "blue"}), "color is 'blue'"),
        (lambda c: c.update(preprocessing={"sise": 3}), "sise"),
        (lambda c: c.update(preprocessing="RGB"), r"preprocessing is 'RGB'; an object"),
        (lambda c: c.update(format_version=1, output="logits", preprocessing=7), "preprocessing"),
        (lambda c: c.update(tied={"3.bias": []}), r"tied\.3\.bias is a list of 0; a text"),
        (lambda c: c.update(structure=[]), "structure is a list of 0; an object"),
        (lambda c: first_layer(c).update({"class": "os.system"}), r"0: 'os\.system' is neither"),
        (lambda c: first_layer(c).update({"class": "torch.nn.init"}), "is neither"),
        (lambda c: first_layer(c).update({"class": "torch.nn.Transformer"}), "is neither"),
        (lambda c: first_layer(c).update({"class": 7}), "7 is neither"),
        (lambda c: first_layer(c)["arguments"].update(groups=5), "cannot be built"),
        (lambda c: first_layer(c)["arguments"].update(colour=5), "colour"),
        (lambda c: first_layer(c)["arguments"].update(out_channels=5), "0.weight"),
        # As many numbers in another shape.
        (
            lambda c: first_layer(c)["arguments"].update(kernel_size=[9, 1]),
            "0.weight has the shape",
        ),
        (lambda c: c["structure"]["children"].append({"same_as": "9"}), "'9' is not an earlier"),
        (lambda c: c["structure"]["children"].append(3), "a description of a module was expected"),
        (lambda c: c["structure"].update(children={}), "its arguments or children are damaged"),
        (
            lambda c: first_layer(c).update(arguments=[1]),
            "0: its arguments or children are damaged",
        ),
    ],
)
def test_a_damaged_entry_of_config_json_is_named(change: Any, message: str, tmp_path: Path) -> None:
    saved.save(tiny(), tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    change(config)
    file.write_text(json.dumps(config))
    with pytest.raises(SavedModelError, match=message) as caught:
        saved.load(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[1]", "not a model"),
        ("[" * 100_000, "not JSON"),
        ("\udcff", "not JSON"),
    ],
)
def test_other_contents_of_config_json_are_refused(text: str, message: str, tmp_path: Path) -> None:
    saved.save(tiny(), tmp_path / "m")
    content = text.encode("utf-8", "surrogateescape")
    (tmp_path / "m" / "config.json").write_bytes(content)
    with pytest.raises(SavedModelError, match=message):
        saved.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("3.bias"), r"3\.bias is missing"),
        (lambda t: t.update({"3.bias": torch.zeros(4)}), r"3\.bias has the shape \(4,\), \(3,\)"),
        (lambda t: t.update({"9.bias": torch.zeros(4)}), r"no layer has a tensor 9\.bias"),
        (lambda t: t.update({"3.bias": torch.zeros(3, dtype=torch.int64)}), "int64"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: Any, message: str, tmp_path: Path) -> None:
    saved.save(tiny(), tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    with pytest.raises(SavedModelError, match=message) as caught:
        saved.load(tmp_path / "m")
    assert str(file) in str(caught.value)


def test_a_truncated_or_missing_tensor_file(tmp_path: Path) -> None:
    saved.save(tiny(), tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(SavedModelError, match="damaged"):
        saved.load(tmp_path / "m")
    file.unlink()
    with pytest.raises(SavedModelError, match="no such file"):
        saved.load(tmp_path / "m")


def test_folders_that_are_not_saved_models_are_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match=r"nowhere: no such file or folder$"):
        saved.load(tmp_path / "nowhere")
    with pytest.raises(SavedModelError, match=r"contains no config\.json; `torchlift convert"):
        saved.load(tmp_path)
    saved.save(tiny(), tmp_path / "model")
    with pytest.raises(SavedModelError, match=r"not a saved model, but it contains one: .*model$"):
        saved.load(tmp_path)


def test_opening_runs_no_code_from_the_folder(tmp_path: Path) -> None:
    saved.save(tiny(), tmp_path / "m")
    (tmp_path / "m" / "model.py").write_text("raise SystemExit('code was run')")
    assert saved.load(tmp_path / "m").output_kind == "logits"


def test_a_folder_without_weights_is_no_saved_model(tmp_path: Path) -> None:
    saved.save(tiny(), tmp_path / "m")
    assert saved.is_saved_model(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    assert not saved.is_saved_model(tmp_path / "m")
