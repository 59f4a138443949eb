"""The file in which results grow: whose it is, and when a run goes on with it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from torchlift.converters.errors import WriteError
from torchlift.converters.inference import Prediction, open_results, partial_results

CLASSES = [Prediction(index=1, label="dog", probability=0.75)]


def stop_after(target: Path, count: int, **options: Any) -> None:
    """Leave the results of some images in a partial file."""
    with suppress(KeyboardInterrupt), open_results(target, **options) as write:
        for number in range(count):
            write(f"{number}.png", CLASSES)
        raise KeyboardInterrupt


@pytest.mark.parametrize(("before", "now"), [("ab", "cd"), (None, "cd"), ("ab", None)])
def test_a_model_that_may_be_another_one_is_not_gone_on_with(
    before: str | None, now: str | None, tmp_path: Path
) -> None:
    target = tmp_path / "r.jsonl"
    stop_after(target, 4, facts={"top": 5, "fingerprint": before})
    facts = {"top": 5, "fingerprint": now} if now else {"top": 5}
    again = open_results(target, resume="auto", facts=facts)
    with pytest.raises(WriteError, match="a run with another model of that name"), again:
        pass


def test_an_option_that_the_version_before_did_not_have_stops_no_run(tmp_path: Path) -> None:
    target = tmp_path / "r.csv"
    stop_after(target, 4, facts={"top": 5})
    with open_results(target, resume="auto", facts={"top": 5, "download": False}) as write:
        # A CSV is certain of all images but the last two.
        assert len(write.done) == 2


def test_what_goes_on_is_kept_where_the_target_is_to_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "r.jsonl"
    target.write_text("of another run", encoding="utf-8")
    stop_after(target, 3, overwrite=True)
    with open_results(target, overwrite=True, resume="auto") as write:
        assert [done.name for done in write.done] == ["0.png", "1.png", "2.png"]


def test_results_are_known_for_ours_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two must not leave a file that nobody knows."""
    content: list[bytes] = []
    atomic_path = partial_results.atomic_path

    def look(record: Path, **options: Any) -> Any:
        content.append((tmp_path / "r.csv.partial").read_bytes())
        return atomic_path(record, **options)

    monkeypatch.setattr(partial_results, "atomic_path", look)
    with open_results(tmp_path / "r.csv"):
        pass
    assert content == [b""]
