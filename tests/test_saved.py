"""A saved model opens as an equal model: its outputs, sharing and metadata are unchanged.

The reference is the module before it was saved, so that outputs must be equal bit for bit. Damaged
folders are refused with an error that names the entry, and no folder that is not a saved model is
replaced or left half-written.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from support import FIXTURES, SHARED
from torch import nn

from torchlift.converters import convert, saved, t7
from torchlift.converters.errors import LabelsError, WriteError
from torchlift.converters.images import PreprocessingError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved import Provenance, SavedModel, SavedModelError

FAMILIES = sorted(
    path.stem for path in (FIXTURES / "layers").glob("*.t7") if path.stem != "criterions"
)
IMAGE_MODELS = {
    "digits/digits-lenet5": (1, 32, 32),
    "digits/digits-lenet5-bn": (1, 32, 32),
    "cifar/cifar-convnet-bn": (3, 32, 32),
    "models/softmax": (3, 32, 32),
    "models/convnet": (3, 32, 32),
    "models/convnet_bn": (3, 32, 32),
    "models/lenet5": (1, 32, 32),
    "models/alexnetowtbn_small": (3, 224, 224),
}
#: Saved as a class of torch.nn, which takes batches only.
BATCHES_ONLY = nn.modules.batchnorm._BatchNorm


def layer_cases() -> list[Any]:
    return [
        pytest.param(case, id=f"{family}-{case['name']}")
        for family in FAMILIES
        for case in t7.load(FIXTURES / "layers" / f"{family}.t7").values()
    ]


def run(module: nn.Module, input: Any) -> list[torch.Tensor]:
    torch.manual_seed(0)
    with torch.no_grad():
        return flat(module(copied(input)))


def copied(value: Any) -> Any:
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


def flat(value: Any) -> list[torch.Tensor]:
    items = value.values() if isinstance(value, dict) else value
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for item in items for tensor in flat(item)]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) and a.dtype == b.dtype
        for a, b in zip(first, second, strict=True)
    )


def tiny(**metadata: Any) -> SavedModel:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    return SavedModel(network.eval(), "logits", (1, 8, 8), **metadata)


@pytest.mark.parametrize("case", layer_cases())
def test_every_converted_layer_computes_the_same_bits(case: t7.LuaTable, tmp_path: Path) -> None:
    module = convert(case["module"]).eval()
    input = t7.to_torch(case["input"])
    if isinstance(module, BATCHES_ONLY) and input.dim() in (1, 3):
        input = input[None]
    saved.save(SavedModel(module, "features"), tmp_path / "m")
    assert equal(run(saved.load(tmp_path / "m").module, input), run(module, input))


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_image_models_keep_their_input_shape_and_outputs(name: str, tmp_path: Path) -> None:
    model = saved.open_model(FIXTURES / f"{name}.t7")
    assert model.input_shape == IMAGE_MODELS[name]
    assert model.output_kind == "log_probabilities"
    saved.save(model, tmp_path / "m")
    again = saved.open_model(tmp_path / "m")
    assert again == SavedModel(**{**vars(model), "module": again.module})
    assert not again.module.training
    for batch in (1, 2, 7):
        input = torch.randn(batch, *IMAGE_MODELS[name])
        output = run(again.module, input)
        assert equal(output, run(model.module, input))
        assert len(output[0]) == batch


def test_metadata_is_kept(tmp_path: Path) -> None:
    preprocessing = Preprocessing("gray", (8, 8), "pil-bicubic", None, 255, (12.5,), (3.25,))
    metadata = {
        "labels": ["zéro", 'o"ne', "two"],
        "preprocessing": preprocessing,
        "notes": ["a note"],
        "source": Provenance("m.t7", "ab" * 32),
    }
    saved.save(tiny(**metadata), tmp_path / "m")
    again = saved.load(tmp_path / "m")
    assert {key: getattr(again, key) for key in metadata} == metadata
    assert (again.output_kind, again.input_shape) == ("logits", (1, 8, 8))
    config = json.loads((tmp_path / "m" / "config.json").read_text(encoding="utf-8"))
    assert config["structure"]["children"][3] == {
        "class": "torch.nn.Linear",
        "arguments": {"in_features": 72, "out_features": 3},
    }


def test_shared_modules_stay_shared_and_tied_parameters_tied(tmp_path: Path) -> None:
    first, second, relu = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()
    second.weight = first.weight
    network = nn.Sequential(first, relu, nn.Sequential(second, relu), first)
    saved.save(SavedModel(network, "logits"), tmp_path / "m")
    again = saved.load(tmp_path / "m").module
    assert again[3] is again[0]
    assert again[2][1] is again[1]
    assert again[2][0].weight is again[0].weight
    assert again[2][0].bias is not again[0].bias
    assert len(load_file(tmp_path / "m" / "model.safetensors")) == 3


def test_views_of_one_storage_are_saved_separately(tmp_path: Path) -> None:
    storage = torch.arange(24.0)
    network = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False))
    network[0].weight = nn.Parameter(storage[4:12].view(2, 4))
    network[1].weight = nn.Parameter(storage[12:20].view(2, 4).t())
    saved.save(SavedModel(network, "logits"), tmp_path / "m")
    input = torch.randn(3, 4)
    assert equal(run(saved.load(tmp_path / "m").module, input), run(network, input))
    # safetensors refuses tensors that overlap.
    network[1].weight = nn.Parameter(storage[8:16].view(4, 2))
    saved.save(SavedModel(network, "logits"), tmp_path / "m", overwrite=True)
    assert equal(run(saved.load(tmp_path / "m").module, input), run(network, input))


def test_float64_is_cast_to_float32_with_a_note_by_open_model_only(tmp_path: Path) -> None:
    cases = t7.load(FIXTURES / "layers" / "linear.t7").values()
    linear = next(case["module"] for case in cases if case["class"] == "nn.Linear")
    linear.fields["weight"] = linear["weight"].astype(np.float64)
    linear.fields["bias"] = linear["bias"].astype(np.float64)
    module = convert(linear)
    assert module.weight.dtype == torch.float64
    saved.save(SavedModel(module, "logits"), tmp_path / "m")
    assert saved.load(tmp_path / "m").module.weight.dtype == torch.float64
    cast = saved.open_model(tmp_path / "m")
    assert cast.module.weight.dtype == torch.float32
    assert any("float64 to float32" in note for note in cast.notes)


def test_a_checkpoints_class_names_are_used_unless_others_are_given() -> None:
    file = FIXTURES / "digits" / "digits-lenet5-bn_uncleared.t7"
    assert saved.open_model(file).labels[:2] == ["zero", "one"]
    names = [f"digit {i}" for i in range(10)]
    assert saved.open_model(file, labels=names, at="model").labels == names
    with pytest.raises(LabelsError, match="9 class names for 10 outputs"):
        saved.open_model(file, labels=names[:9])


def test_digits_reach_torch7s_outputs_and_accuracy() -> None:
    """Labels, preprocessing and network together, against what Lua computed and printed."""
    folder = FIXTURES / "digits"
    model = saved.open_model(
        folder / "digits-lenet5-bn.t7",
        labels=folder / "digits_classes.t7",
        mean_std=folder / "digits_meanStd.t7",
    )
    assert model.preprocessing is not None
    assert model.preprocessing.color == "gray"
    assert any("0 to 255" in note for note in model.notes)
    test = t7.load(folder / "digits-test.t7")
    truth = t7.to_torch(t7.load(folder / "digits-lenet5-bn_lua_outputs.t7"))
    with torch.no_grad():
        output = model.module(torch.from_numpy(model.preprocessing(test["data"])))
    expected = truth["log_probabilities"]
    assert (output - expected).abs().max() < 1e-5 * expected.abs().max()
    correct = output.argmax(1).numpy() + 1 == test["label"]
    assert correct.mean() == truth["test_accuracy"]


#: Numbers within 0 to 1.
NORMALIZED = t7.LuaTable({"mean": 0.5, "std": 0.25})
#: Numbers that fit any value range.
CENTERED = t7.LuaTable({"mean": 0.0, "std": 1.0})
DIGITS = FIXTURES / "digits" / "digits-lenet5.t7"


def test_mean_and_std_give_one_note_with_value_range_and_resizing() -> None:
    model = saved.open_model(DIGITS, mean_std=NORMALIZED)
    assert model.preprocessing is not None
    assert model.preprocessing.resize == "pil-bilinear"
    assert model.notes == [
        "mean 0.5 and std 0.25 fit values from 0 to 1; images are resized to 32×32 by pil-bilinear"
    ]
    model = saved.open_model(DIGITS, mean_std=NORMALIZED, resize="image.scale-bicubic:^40")
    assert len(model.notes) == 1
    assert "resized to ^40 by image.scale-bicubic and cropped to 32×32" in model.notes[0]


def test_the_value_range_is_given_where_mean_and_std_fit_any(tmp_path: Path) -> None:
    with pytest.raises(PreprocessingError, match=r"lenet5\.t7: mean 0 and std 1 .*value_range=1"):
        saved.open_model(DIGITS, mean_std=CENTERED)
    model = saved.open_model(DIGITS, mean_std=CENTERED, value_range=255)
    assert model.preprocessing is not None
    assert model.preprocessing.value_range == 255
    with pytest.raises(PreprocessingError, match=r"value_range=1 needs mean and std too"):
        saved.open_model(DIGITS, value_range=1)
    with pytest.raises(PreprocessingError, match=r"resize=pil-box needs mean and std too"):
        saved.open_model(DIGITS, resize="pil-box")
    saved.save(model, tmp_path / "m")
    assert saved.open_model(tmp_path / "m", value_range=255).preprocessing == model.preprocessing
    with pytest.raises(PreprocessingError, match=r"value_range=1 is not the model's own"):
        saved.open_model(tmp_path / "m", value_range=1)


def test_a_checkpoints_own_mean_and_std_are_used(tmp_path: Path) -> None:
    network = t7.load(DIGITS)
    for value_range, mean in ((1, 0.25), (255, 33.5)):
        file = tmp_path / f"{value_range}.t7"
        t7.save({"model": network, "mean": mean, "std": 0.5}, file)
        model = saved.open_model(file)
        assert model.preprocessing is not None
        assert (model.preprocessing.mean, model.preprocessing.value_range) == ((mean,), value_range)
    file = tmp_path / "open.t7"
    t7.save({"model": network, "mean": 0.0, "std": 1.0}, file)
    with pytest.raises(PreprocessingError, match=r"open\.t7: .*value_range=255"):
        saved.open_model(file)
    assert saved.open_model(file, value_range=255).preprocessing is not None


def test_the_input_size_can_be_given_if_it_does_not_follow_from_the_layers() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert saved.infer_input_shape(network) is None
    assert saved.infer_input_shape(network, (50, 70)) == (3, 50, 70)
    assert saved.infer_input_shape(nn.Sequential(nn.Linear(9, 2))) is None
    assert saved.open_model(DIGITS, input_size=(33, 32)).input_shape == (1, 33, 32)
    with pytest.raises(SavedModelError, match=r"lenet5\.t7: .* no input of 64×64; 32×32 fits"):
        saved.open_model(DIGITS, input_size=(64, 64))


def test_a_given_input_size_replaces_resizing_and_crop(tmp_path: Path) -> None:
    """Images of the given size reach the network whole."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    preprocessing = Preprocessing(size="^40", crop=(32, 32), mean=(0.5,), std=(0.25,))
    folder = tmp_path / "m"
    saved.save(SavedModel(network, "features", (3, 32, 32), preprocessing=preprocessing), folder)
    assert saved.open_model(folder).preprocessing == preprocessing
    model = saved.open_model(folder, input_size=(20, 24))
    assert model.input_shape == (3, 20, 24)
    assert model.preprocessing == replace(preprocessing, size=(20, 24), crop=None)


def test_inferring_the_input_shape_does_not_change_shared_and_tied_layers() -> None:
    first, last = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    last.weight = first.weight
    network = nn.Sequential(first, first, last, nn.Flatten(), nn.Linear(1024, 2)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert saved.infer_input_shape(network) == (1, 32, 32)
    assert saved.output_shape(network, (1, 32, 32)) == (2, 2)
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert network[2].weight is network[0].weight


def test_output_kinds() -> None:
    linear = nn.Linear(2, 2)
    assert saved.infer_output_kind(nn.Sequential(linear, nn.LogSoftmax(1))) == "log_probabilities"
    assert saved.infer_output_kind(nn.Sequential(linear, nn.Softmax(1))) == "probabilities"
    assert saved.infer_output_kind(nn.Sequential(linear, nn.Sigmoid())) == "probabilities"
    assert saved.infer_output_kind(nn.Sequential(linear, nn.Softmax2d())) == "probabilities"
    assert saved.infer_output_kind(nn.Sequential(linear, nn.Tanh())) == "features"
    assert saved.infer_output_kind(nn.Sequential(nn.Sigmoid(), linear)) == "logits"
    assert saved.infer_output_kind(nn.Sequential(nn.ReLU(), linear, nn.Dropout())) == "logits"
    assert saved.infer_output_kind(nn.Sequential(linear, nn.ReLU())) == "features"


def test_only_saved_models_are_replaced_and_only_with_overwrite(tmp_path: Path) -> None:
    saved.save(tiny(), tmp_path / "m")
    with pytest.raises(WriteError, match=r"m already exists; overwrite=True replaces it"):
        saved.save(tiny(), tmp_path / "m")
    saved.save(tiny(labels=["a", "b", "c"]), tmp_path / "m", overwrite=True)
    assert saved.load(tmp_path / "m").labels == ["a", "b", "c"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.tex").write_text("ten years")
    with pytest.raises(WriteError, match="is not a saved model and is not replaced"):
        saved.save(tiny(), tmp_path / "thesis", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="is not a saved model and is not replaced"):
        saved.save(tiny(), tmp_path / "file", overwrite=True)
    with pytest.raises(WriteError, match="no such folder"):
        saved.save(tiny(), tmp_path / "missing" / "m")
    (tmp_path / "link").symlink_to(tmp_path / "m")
    with pytest.raises(WriteError, match="link is a symbolic link and is not replaced"):
        saved.save(tiny(), tmp_path / "link", overwrite=True)
    (tmp_path / "empty").mkdir()
    saved.save(tiny(), tmp_path / "empty")
    assert saved.is_saved_model(tmp_path / "empty")


def test_a_folder_of_the_same_file_names_is_not_a_saved_model(tmp_path: Path) -> None:
    """Other programs also write `config.json` beside `model.safetensors`."""
    folder = tmp_path / "other"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    assert not saved.is_saved_model(folder)
    with pytest.raises(WriteError, match="is not a saved model and is not replaced"):
        saved.save(tiny(), folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_saved_model_with_other_files_beside_it_is_not_replaced(tmp_path: Path) -> None:
    folder = saved.save(tiny(), tmp_path / "m")
    (folder / "__pycache__").mkdir()  # as importing model.py leaves it
    saved.save(tiny(), folder, overwrite=True)
    (folder / "notes.txt").write_text("what I tried")
    with pytest.raises(WriteError, match=r"it also contains notes\.txt"):
        saved.save(tiny(), folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "what I tried"


def test_a_folder_of_0_1_0_opens_and_is_replaced(tmp_path: Path) -> None:
    """It has a `ruff.toml`, which is no longer written."""
    shutil.copytree(FIXTURES / "0.1.0" / "model", tmp_path / "m")
    assert (tmp_path / "m" / "ruff.toml").is_file()
    model = saved.load(tmp_path / "m")
    saved.save(model, tmp_path / "m", overwrite=True)
    names = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert names == ["config.json", "model.py", "model.safetensors"]
    assert saved.load(tmp_path / "m").labels == model.labels


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError("No space left on device (os error 28)"),
    ],
)
def test_a_failed_save_keeps_the_old_model(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved.save(tiny(notes=["old"]), tmp_path / "m")

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("torchlift.converters.saved.folder.save_file", fail)
    with pytest.raises(WriteError, match="No space left"):
        saved.save(tiny(notes=["new"]), tmp_path / "m", overwrite=True)
    assert saved.load(tmp_path / "m").notes == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_modules_that_cannot_be_described_are_named() -> None:
    class Mine(nn.Module):
        pass

    with pytest.raises(SavedModelError, match=r"1\.0: Mine is neither"):
        saved.save(SavedModel(nn.Sequential(nn.ReLU(), nn.Sequential(Mine())), "logits"), "m")
    changed = nn.Linear(2, 2)
    changed.weight = nn.Parameter(torch.zeros(3, 2))
    with pytest.raises(SavedModelError, match=r"0\.weight has the shape \(3, 2\)"):
        saved.save(SavedModel(nn.Sequential(changed), "logits"), "m")
    empty = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(SavedModelError, match=r"1\.weight has no values: its layer was never fil"):
        saved.save(SavedModel(empty, "logits"), "m")


def first_layer(config: dict[str, Any]) -> dict[str, Any]:
    layer: dict[str, Any] = config["structure"]["children"][0]
    return layer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("format"), "not a model saved by torchlift"),
        (lambda c: c.update(format_version=3), "format version 3"),
        (lambda c: c.pop("labels"), "no entry 'labels'"),
        (lambda c: c.update(labels=[1]), "a list of strings"),
        (lambda c: c.update(output_kind="dog"), "output_kind is 'dog'"),
        (lambda c: c.update(input_shape=[1, 2]), "damaged"),
        (lambda c: c.update(preprocessing={"color": "blue"}), "color is 'blue'"),
        (lambda c: c.update(preprocessing={"sise": 3}), "sise"),
        (lambda c: c.update(preprocessing="RGB"), "not a preprocessing"),
        (lambda c: c.update(format_version=1, output="logits", preprocessing=7), "preprocessing"),
        (lambda c: c.update(tied={"3.bias": []}), "a list of strings"),
        (lambda c: c.update(structure=[]), "a description of a module"),
        (lambda c: first_layer(c).update({"class": "os.system"}), r"0: 'os\.system' is neither"),
        (lambda c: first_layer(c).update({"class": "torch.nn.init"}), "is neither"),
        (lambda c: first_layer(c).update({"class": "torch.nn.Transformer"}), "is neither"),
        (lambda c: first_layer(c).update({"class": 7}), "7 is neither"),
        (lambda c: first_layer(c)["arguments"].update(groups=5), "cannot be built"),
        (lambda c: first_layer(c)["arguments"].update(colour=5), "colour"),
        (lambda c: first_layer(c)["arguments"].update(out_channels=5), "0.weight"),
        (lambda c: c["structure"]["children"].append({"same_as": "9"}), "'9' is not an earlier"),
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


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "wild").is_dir(), reason="needs the shared files")
@pytest.mark.parametrize(
    "file", sorted((SHARED / "wild").glob("*.io.t7")), ids=lambda path: path.name[:40]
)
def test_published_models_compute_the_same_bits(file: Path, tmp_path: Path) -> None:
    for number, case in enumerate(t7.load(file).to_list()):
        model = saved.open_model(
            file.with_suffix("").with_suffix(""), at=case["path"] or None, dtype=None
        )
        folder = saved.save(model, tmp_path / str(number))
        dtypes = [p.dtype for p in model.module.parameters()] or [torch.float32]
        tensors = [tensor.to(dtypes[0]) for tensor in flat(t7.to_torch(case["input"]))]
        input = tensors if isinstance(case["input"], t7.LuaTable) else tensors[0]
        assert equal(run(saved.load(folder).module, input), run(model.module, input))
