"""What an `.onnx` file says of itself: whose entries they are, and whether they fit the graph."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import helper

from torchlift.converters.images import Preprocessing
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.inference import InferenceError, OnnxPredictor
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.onnx.annotator import with_metadata
from torchlift.converters.vocabulary import Vocabulary

#: What another program wrote into a file, in part under names of ours.
FOREIGN = {"author": "me", "output": "x", "labels": "three"}


def test_entries_of_ours_are_replaced_or_taken_out_and_those_of_others_stay() -> None:
    own = Metadata(labels=["a"], output_kind="logits")
    props = own.to_props() | {"author": "me", "output": "x"}
    found = replace(own, labels=None, output_kind="features").added_to(props)
    assert "labels" not in found
    assert json.loads(found["output_kind"]) == "features"
    assert (found["author"], found["output"]) == ("me", "x")


def test_a_name_of_format_1_is_ours_in_a_file_of_format_1_alone() -> None:
    """Its `output` is today's `output_kind`; in other files it is somebody else's entry."""
    props = {"torchlift_version": '"0.1.0"', "output": '"logits"', "author": "me"}
    old = Metadata.from_props(props)
    assert (old.output_kind, old.format_version, old.is_foreign) == ("logits", None, False)
    found = old.added_to(props)
    assert "output" not in found
    assert json.loads(found["output_kind"]) == "logits"
    assert (found["author"], found["format_version"]) == ("me", "2")
    other = Metadata.from_props(FOREIGN)
    assert other == replace(Metadata(), torchlift_version=None, format_version=None)
    said = replace(other, labels=["a"]).added_to(FOREIGN)
    assert said == {"author": "me", "output": "x", "labels": '["a"]', "format_version": "2"}
    # It is still not ours when it is read again, and what is said of it is understood.
    again = Metadata.from_props(said)
    assert (again.is_foreign, again.labels, again.output_kind) == (True, ["a"], None)


@pytest.mark.parametrize("version", ["1", "3", "2.0", "true"])
def test_entries_of_another_version_are_refused(version: str) -> None:
    props = Metadata(labels=["a"]).to_props()
    assert props["format_version"] == "2"
    with pytest.raises(InferenceError, match="the metadata 'format_version' is damaged"):
        Metadata.from_props({**props, "format_version": version})


def test_every_entry_is_read_as_it_was_written() -> None:
    said = Metadata(
        labels=["Straße", "空"],
        vocabularies=[Vocabulary("vocab", ("a", None, "b"), 0)],
        preprocessing=Preprocessing("gray", (8, 6), value_range=(-1, 1), round_pixels=True),
        baked_preprocessing=Preprocessing("BGR", 9, mean=(0.5,), std=(0.1, 0.2, 0.3)),
        image_to_image=ImageToImage(255, "BGR", border=3, keeps_color=True),
        precision="fp16",
        output_kind="probabilities",
        depends_on_batch=True,
        inputs="3x8x6",
        kept_outputs=[2, 1],
        kept_columns=[1, 3],
        output_name="y",
        source={"file": "net.t7", "sha256": "ab"},
        exporter="torch 2",
    )
    assert None not in vars(said).values(), "each entry is tried"
    props = said.to_props()
    assert Metadata.from_props(props) == said
    assert props["labels"] == '["Straße", "空"]'
    # No and nothing are said, too.
    empty = replace(said, depends_on_batch=False, labels=[], kept_outputs=[])
    assert Metadata.from_props(empty.to_props()) == empty


def test_an_entry_of_null_says_nothing() -> None:
    found = Metadata.from_props({"format_version": "2", "labels": "null", "preprocessing": "null"})
    assert (found.labels, found.preprocessing, found.format_version) == (None, None, 2)
    # Nor does one that is not there, whatever this version would say.
    assert (found.torchlift_version, found.output_kind) == (None, None)


def test_a_file_that_is_annotated_keeps_its_graph_and_what_others_say_in_it() -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    model = helper.make_model(graph, producer_name="other")
    helper.set_model_props(model, FOREIGN)
    written = onnx.load_from_string(
        with_metadata(model.SerializeToString(), replace(Metadata(), labels=["a"]))
    )
    props = {prop.key: prop.value for prop in written.metadata_props}
    assert (props["author"], props["labels"]) == ("me", '["a"]')
    assert len(props) == len(written.metadata_props)
    del written.metadata_props[:], model.metadata_props[:]
    assert written == model


@pytest.mark.parametrize(
    ("labels", "outputs", "fits"),
    [(2, 2, True), (1, 2, False), (3, 2, False), (3, None, True), (1, 0, False)],
)
def test_there_are_as_many_labels_as_columns(labels: int, outputs: int | None, fits: bool) -> None:
    metadata = Metadata(labels=["a", "b", "c"][:labels])
    if fits:
        metadata.check_fits(None, outputs)
        return
    with pytest.raises(InferenceError, match="the metadata 'labels' does not fit"):
        metadata.check_fits(None, outputs)


def test_preprocessing_fits_the_input_of_the_graph() -> None:
    metadata = Metadata(preprocessing=Preprocessing(size=(8, 6)))
    for shape in ((3, 8, 6), None):
        metadata.check_fits(shape, None)
    for shape in ((3, 6, 8), (1, 8, 6)):
        with pytest.raises(InferenceError, match="the metadata 'preprocessing' does not fit"):
            metadata.check_fits(shape, None)


def test_the_first_format_called_another_rounding_nearest() -> None:
    """What 0.1.0 called `torch-nearest` is today's `torch-nearest-exact`, in files of its own."""
    steps = json.dumps(Preprocessing(size=(8, 8), resize="torch-nearest").to_json())
    for version, resize in (
        ({}, "torch-nearest-exact"),
        ({"format_version": "2"}, "torch-nearest"),
    ):
        for entry in ("preprocessing", "baked_preprocessing"):
            props = {"torchlift_version": '"0.1.0"', entry: steps, **version}
            assert getattr(Metadata.from_props(props), entry).resize == resize


def test_labels_of_a_file_are_counted_when_it_is_opened(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", 1, ["batch", 3])
    y = helper.make_tensor_value_info("y", 1, ["batch", 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    for labels in (["a", "b", "c"], ["a", "b"]):
        metadata = Metadata(labels=labels, output_kind="logits")
        file = tmp_path / "m.onnx"
        file.write_bytes(with_metadata(model.SerializeToString(), metadata))
        if len(labels) == 3:
            assert OnnxPredictor(file, "cpu").labels == labels
        else:
            with pytest.raises(
                InferenceError, match=r"m\.onnx: the metadata 'labels' does not fit"
            ):
                OnnxPredictor(file, "cpu")
