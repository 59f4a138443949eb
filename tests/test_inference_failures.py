"""What fails while a model runs: a device's memory, a full disk, wrong texts and options."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES
from torch import nn

from torchlift.converters.errors import WriteError
from torchlift.converters.inference import (
    InferenceError,
    TorchPredictor,
    open_predictor,
    open_results,
)
from torchlift.converters.inference.onnx_weights import _DIMS, _dimensions
from torchlift.converters.inference.providers import Session
from torchlift.converters.inference.results import ResultWriter
from torchlift.converters.inference.text.tokenizer import _character_at
from torchlift.converters.saved import SavedModel


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Failed to allocate memory for 5 bytes", "cuda has too little memory for them; run small"),
        ("Got invalid dimensions\nfor input: x", r"\(2, 3\): Got invalid dimensions$"),
    ],
)
def test_a_session_says_what_it_failed_on(message: str, said: str) -> None:
    class Runtime:
        def get_outputs(self) -> list[Any]:
            return []

        def io_binding(self) -> Any:
            raise RuntimeError(message)

        def run(self, *_: Any) -> Any:
            raise RuntimeError(message)

    session = Session(Runtime(), "CUDAExecutionProvider", "")  # type: ignore[arg-type]
    with pytest.raises(InferenceError, match=f"ONNX Runtime fails on inputs of shape .*{said}"):
        session.run({"x": np.zeros((2, 3), np.float32)})


def test_a_disk_that_is_full_names_the_file_of_results() -> None:
    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stream: Any = SimpleNamespace(write=full, flush=lambda: None)
    writer = ResultWriter(Path("results.jsonl"), stream, lambda *_: b"row", [])
    with pytest.raises(WriteError, match=r"results\.jsonl.*No space left"):
        writer("a.png", [])


def test_a_byte_that_begins_no_character_is_shown_as_itself() -> None:
    text = "aé€".encode()
    assert [_character_at(text, place) for place in (0, 1, 2, 3, 4, 5)] == [
        ("a", 1),
        *[("é", 3)] * 2,
        *[("€", 6)] * 3,
    ]
    assert _character_at(b"a\xffb", 1) == ("\\xff", 2)
    assert _character_at(b"\xe2\x82", 1) == ("\\x82", 2)


def test_sizes_of_a_tensor_stand_in_one_field_or_in_several() -> None:
    """Protobuf packs them, and readers must take both (`repeated int64 dims`)."""
    assert [*_dimensions([(_DIMS, 2), (9, memoryview(b"x")), (_DIMS, 300)])] == [2, 300]
    assert [*_dimensions([(_DIMS, memoryview(b"\x02\xac\x02"))])] == [2, 300]


def test_a_list_of_batches_is_run_one_after_the_other() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    predictor = TorchPredictor(SavedModel(network, "logits", (1, 2, 2)), "cpu")
    batches = [np.random.default_rng(n).random((n, 1, 2, 2), np.float32) for n in (1, 3)]
    with torch.no_grad():
        expected = network(torch.from_numpy(np.concatenate(batches))).numpy()
    assert np.allclose(predictor(batches), expected, atol=1e-6)


def test_what_is_for_a_file_of_another_program_is_not_for_a_t7() -> None:
    file = FIXTURES / "digits" / "digits-lenet5.t7"
    with pytest.raises(InferenceError, match=r"digits-lenet5\.t7: output_kind=… is for an \.onnx"):
        open_predictor(file, "cpu", output_kind="logits")


def test_where_files_have_no_locks_results_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows, where no other process can rename a file that is open."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with open_results(tmp_path / "r.csv") as write:
        write("a.png", [], "broken")
    assert (tmp_path / "r.csv").read_text(encoding="utf-8").endswith("a.png,,,,,broken\n")
    assert [file.name for file in tmp_path.iterdir()] == ["r.csv"]
