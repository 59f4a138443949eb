"""The file of an evaluation: valid JSON in any locale, and read again, of an older version too."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FIXTURES

from torchlift.transfer.errors import DataError
from torchlift.transfer.evaluation import outcomes, read_evaluation, summarize, write_evaluation
from torchlift.transfer.evaluation.files import EVALUATION


def test_class_names_are_written_as_utf_8_in_any_locale(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from torchlift.transfer.evaluation import outcomes, summarize, write_evaluation\n"
        "batch = outcomes(np.eye(2)[[0, 0]], 'probabilities', np.array([0, 1]))\n"
        "write_evaluation(summarize(batch, ['\\u00e9pagneul', '\\u72ac']), sys.argv[1])\n"
    )
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run(
        [sys.executable, "-c", code, tmp_path], check=True, env=os.environ | ascii_locale
    )
    assert "épagneul" in (tmp_path / "evaluation.json").read_text(encoding="utf-8")
    assert read_evaluation(tmp_path / "evaluation.json").mistakes[0].label == "犬"


def test_values_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    scores = np.array([[0.0, -np.inf], [0.0, -np.inf]])
    result = summarize(outcomes(scores, "log_probabilities", np.array([0, 1])), ["a", "b"])
    assert result.loss == np.inf
    write_evaluation(result, tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_bytes())["loss"] is None
    assert np.isnan(read_evaluation(tmp_path / "evaluation.json").loss)


def test_an_evaluation_of_0_1_0_is_read() -> None:
    result = read_evaluation(FIXTURES / "0.1.0" / "run" / "evaluation.json")
    assert (result.count, result.correct, result.top5_correct) == (60, 36, 52)
    assert sum(row.correct for row in result.classes) == 36
    assert result.recall == pytest.approx(np.mean([row.accuracy for row in result.classes]))
    worst = result.mistakes[0]
    assert worst.input
    assert worst.label != worst.predicted_label


@pytest.mark.parametrize("text", ["", "[]", '{"count": 3}', "null", '{"bins": 1}'])
def test_other_files_are_not_evaluations(tmp_path: Path, text: str) -> None:
    (tmp_path / "evaluation.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"evaluation\.json: holds no evaluation"):
        read_evaluation(tmp_path / "evaluation.json")


def test_the_tables_hold_every_row_and_the_folder_is_known(tmp_path: Path) -> None:
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    result = summarize(outcomes(scores, "probabilities", np.array([0, 1, 1])), ["é", "b"])
    assert not EVALUATION.is_one(tmp_path)
    write_evaluation(result, tmp_path)
    assert EVALUATION.is_one(tmp_path)
    text = (tmp_path / "evaluation.json").read_text(encoding="utf-8")
    assert '"é"' in text
    counts = {"classes": 2, "calibration": 15, "mistakes": 1, "confusion": 2}
    for name, count in counts.items():
        lines = (tmp_path / f"{name}.csv").read_text(encoding="utf-8").splitlines()
        assert len(lines) == 1 + count
    assert lines == ["label,é,b", "é,1,0", "b,1,1"]
    bounds = [(part.low, part.high) for part in result.bins]
    assert bounds == [(number / 15, (number + 1) / 15) for number in range(15)]
    # A confusion of other classes fits no results.
    for confusion in ([[1, 0]], [[1], [1]], [[1, 0, 0], [1, 1, 0]]):
        damaged = json.loads(text) | {"confusion": confusion}
        (tmp_path / "evaluation.json").write_text(json.dumps(damaged), encoding="utf-8")
        with pytest.raises(DataError, match="confusion"):
            read_evaluation(tmp_path / "evaluation.json")


@pytest.mark.parametrize("table", ["classes", "calibration", "mistakes", "confusion"])
def test_a_table_that_is_not_finished_leaves_the_old_one(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = outcomes(np.eye(2)[[0, 0]], "probabilities", np.array([0, 1]))
    result = summarize(batch, ["a", "b"])
    write_evaluation(result, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    writer = csv.writer

    class Failing:
        def __init__(self, stream: Any, **options: Any) -> None:
            self.inner, self.fails = writer(stream, **options), table in stream.name
            self.writerow = self.inner.writerow

        def writerows(self, rows: Any) -> None:
            if self.fails:
                raise OSError("no space")
            self.inner.writerows(rows)

    monkeypatch.setattr(csv, "writer", Failing)
    with pytest.raises(Exception, match="no space"):
        write_evaluation(result, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    # A line ends alike on every system.
    assert all(content.endswith(b"\n") and b"\r" not in content for content in before.values())
