"""Whether examples of different requests may run together: what a file says, and what is tried.

What is protected: no client's answer depends on the examples of another.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from onnx import helper, save_model

pytest.importorskip("fastapi")

from test_serve_model import FLOAT, INT64, SETTINGS, opened, written

from torchlift.cli.serve.describe import config
from torchlift.converters.inference.metadata import Metadata


@pytest.mark.parametrize(
    ("nodes", "together"),
    [
        ([("Sqrt", ["x"], "y")], True),
        # What is behind in a batch sees what is before, or the other way round.
        ([("CumSum", ["x", "0"], "y")], False),
        (
            [
                ("ReduceSum", ["x", "0"], "all"),
                ("CumSum", ["x", "0"], "before"),
                ("Sub", ["all", "before"], "behind"),
                ("Add", ["behind", "x"], "y"),
            ],
            False,
        ),
        ([("Sub", ["x", "sum"], "y"), ("ReduceMean", ["x", "0"], "sum")][::-1], False),
        # Within an example everything may mix.
        ([("CumSum", ["x", "1"], "y")], True),
        # What is no number for an example alone is none beside others.
        ([("Neg", ["x"], "n"), ("Log", ["n"], "y")], True),
        # The logarithm of twice a number below one half has no root.
        ([("Add", ["x", "x"], "twice"), ("Log", ["twice"], "l"), ("Sqrt", ["l"], "y")], True),
        # Where something is infinite, the rest is compared all the same.
        (
            [
                ("Add", ["x", "x"], "twice"),
                ("Floor", ["twice"], "whole"),
                ("Log", ["whole"], "infinite"),
                ("ReduceMean", ["x", "0"], "mean"),
                ("Add", ["infinite", "mean"], "y"),
            ],
            False,
        ),
        # Small numbers are measured by small ones.
        (
            [
                ("Mul", ["x", "small"], "little"),
                ("ReduceMean", ["little", "0"], "mean"),
                ("Sub", ["little", "mean"], "y"),
            ],
            False,
        ),
    ],
    ids=[
        "apart",
        "from before",
        "from behind",
        "mean",
        "within",
        "no number",
        "partly no number",
        "infinite",
        "small",
    ],
)
def test_examples_run_together_where_none_changes_another(
    nodes: list[tuple[str, list[str], str]], together: bool, tmp_path: Path
) -> None:
    model = opened(written(tmp_path / "m.onnx", nodes, ["batch", 4], ["batch", 4]))
    assert model.has_batch
    assert model.may_batch == together
    # What is done is what the configuration says.
    told = config(model, SETTINGS)
    assert told.get("dynamic_batching") == (
        {"max_queue_delay_microseconds": 3000} if together else None
    )
    assert "dynamic_batching" not in config(model, replace(SETTINGS, max_batch=1))


@pytest.mark.parametrize("mixes", [True, False, None])
def test_what_the_file_says_of_its_batches_holds(mixes: bool | None, tmp_path: Path) -> None:
    said = Metadata(depends_on_batch=mixes)
    nodes = [("Sqrt", ["x"], "y")]
    model = opened(written(tmp_path / "m.onnx", nodes, ["batch", 4], ["batch", 4], said))
    assert model.may_batch == (not mixes)


@pytest.mark.parametrize(
    ("width", "program", "together"),
    # What sizes are tried: 32, 64 and 224. Of others only torchlift's own files are known.
    [(32, None, True), (64, None, True), (224, None, True), (5, None, False), (5, "0.2.0", True)],
)
def test_a_size_that_the_file_does_not_say_is_looked_for(
    width: int, program: str | None, together: bool, tmp_path: Path
) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [info("x", FLOAT, ["batch", "size"])],
        [info("y", FLOAT, ["batch", 2])],
        [helper.make_tensor("w", FLOAT, [width, 2], [1.0] * (2 * width))],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(made, Metadata(torchlift_version=program).to_props())
    save_model(made, tmp_path / "m.onnx")
    model = opened(tmp_path / "m.onnx")
    assert (model.has_batch, model.may_batch) == (True, together)


@pytest.mark.parametrize(("axis", "together"), [("1", True), ("0", False)])
def test_an_output_has_a_row_for_each_example(axis: str, together: bool, tmp_path: Path) -> None:
    """The least of all examples has one row, however many they are. The graph does not say so."""
    nodes = [
        # Zero, and then the axis, which no inference of shapes knows.
        ("Shape", ["x"], "shape"),
        ("Slice", ["shape", "0", "1"], "count"),
        ("Sub", ["count", "count"], "zero"),
        ("Add", ["zero", axis], "axes"),
        ("ReduceMin", ["x", "axes"], "y"),
    ]
    model = opened(written(tmp_path / "m.onnx", nodes, ["batch", 4], ["n", None]))
    assert (model.has_batch, model.may_batch) == (True, together)


@pytest.mark.parametrize(("axis", "together"), [("1", True), ("0", False)])
def test_whole_numbers_are_tried_with_more_than_zeros(
    axis: str, together: bool, tmp_path: Path
) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["float"], to=FLOAT),
            helper.make_node("CumSum", ["float", axis], ["y"]),
        ],
        "g",
        [info("x", INT64, ["batch", 4])],
        [info("y", FLOAT, ["batch", 4])],
        [helper.make_tensor(axis, INT64, [1], [int(axis)])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    save_model(made, tmp_path / "m.onnx")
    assert opened(tmp_path / "m.onnx").may_batch == together


def test_numbers_that_count_are_compared_by_their_rows(tmp_path: Path) -> None:
    """A class is no scale: whole numbers of two examples may differ by any amount."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ArgMax", ["x"], ["y"], axis=1)],
        "g",
        [info("x", FLOAT, ["batch", 4])],
        [info("y", INT64, ["batch", 1])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    save_model(made, tmp_path / "m.onnx")
    assert opened(tmp_path / "m.onnx").may_batch
