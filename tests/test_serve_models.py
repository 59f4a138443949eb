"""The models of a process: loaded, replaced and unloaded while the server runs, without a socket.

What is protected: what a client has unloaded stays so, what it has loaded again is watched again,
and the metrics name the files that are served and no others.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serve_support import digits_model

pytest.importorskip("fastapi")

from serve_app_support import within

from torchlift.cli.serve import model as model_file
from torchlift.cli.serve import models as models_file
from torchlift.cli.serve.batching import Waiting
from torchlift.cli.serve.errors import RequestError
from torchlift.cli.serve.metrics import MODEL_INFO, RELOAD_FAILURES
from torchlift.cli.serve.models import Models
from torchlift.cli.serve.settings import Settings
from torchlift.converters.errors import TorchliftError
from torchlift.converters.inference.onnx_overrides import OnnxOverrides
from torchlift.converters.onnx import annotate

BLACK = np.zeros((1, 1, 32, 32), np.float32)


def other_model(file: Path, first: str = "nil") -> None:
    """Write the model with other labels, in one step."""
    labels = file.parent / "labels.txt"
    names = [first, *map(str, range(1, 10))]
    labels.write_text("\n".join(names), encoding="utf-8")
    said = OnnxOverrides.of(labels=str(labels), replaces=True)
    annotate(digits_model(file.parent / ".source"), file, said=said, overwrite=True)
    labels.unlink()
    shutil.rmtree(file.parent / ".source")


def during(folder: Path, work: Callable[[Models], Awaitable[Any]], *unloaded: str) -> Any:
    async def run() -> Any:
        models = Models(Settings(str(folder), provider="cpu"), set(unloaded))
        await models.start()
        try:
            return await work(models)
        finally:
            await models.close()

    return within(run())


def states(models: Models) -> list[tuple[str, str, str, str]]:
    return [(one["name"], one["version"], one["state"], one["reason"]) for one in models.index()]


def served(models: Models, name: str) -> float:
    """What the metrics say of the file that is served now."""
    model = models.find(name).model
    return info(name, model.version, model.sha256)


def info(name: str, version: str, sha256: str) -> float:
    value: float = MODEL_INFO.labels(name, version, sha256)._value.get()
    return value


def first_label(models: Models, name: str = "m") -> str:
    labels = models.find(name).model.metadata.labels
    assert labels is not None
    return labels[0]


def test_a_model_that_is_loaded_again_is_watched_again(tmp_path: Path) -> None:
    file = digits_model(tmp_path, "m.onnx")

    async def work(models: Models) -> None:
        sha256 = models.find("m").model.sha256
        assert served(models, "m") == 1
        await models.unload("m")
        assert info("m", "1", sha256) == 0
        assert states(models) == [("m", "1", "UNAVAILABLE", "unloaded")]
        assert models.names() == []
        other_model(file)
        # What a client has unloaded does not come back by itself.
        await models.reload(at_once=True)
        assert models.names() == []
        await models.load("m")
        assert first_label(models) == "nil"
        other_model(file, "nought")
        await models.reload(at_once=True)
        assert first_label(models) == "nought"
        assert served(models, "m") == 1
        assert states(models) == [("m", "1", "READY", "")]

    during(tmp_path, work)


def test_what_was_unloaded_before_a_process_started_is_not_served_by_it(tmp_path: Path) -> None:
    digits_model(tmp_path, "a.onnx")
    digits_model(tmp_path, "b.onnx")

    async def work(models: Models) -> None:
        assert models.names() == ["a"]
        assert states(models)[1] == ("b", "1", "UNAVAILABLE", "unloaded")
        with pytest.raises(RequestError, match="model 'b' is not loaded"):
            models.find("b")

    during(tmp_path, work, "b")


def test_only_what_has_changed_is_opened_again(tmp_path: Path) -> None:
    changed, same = digits_model(tmp_path, "a.onnx"), digits_model(tmp_path, "b.onnx")

    async def work(models: Models) -> None:
        before = {name: models.find(name) for name in ("a", "b")}
        old = before["a"].model.sha256
        await models.reload(at_once=True)
        assert {name: models.find(name) for name in before} == before
        other_model(changed)
        # It may be still being written: two looks must agree.
        await models.reload(at_once=False)
        assert models.find("a") is before["a"]
        await models.reload(at_once=False)
        assert first_label(models, "a") == "nil"
        assert models.find("b") is before["b"]
        assert (info("a", "1", old), served(models, "a"), served(models, "b")) == (0, 1, 1)
        digits_model(tmp_path, "c.onnx")
        await models.reload(at_once=True)
        assert models.names() == ["a", "b", "c"]
        # A file that is gone leaves the model that was opened.
        same.unlink()
        await models.reload(at_once=True)
        assert models.find("b") is before["b"]

    during(tmp_path, work)


def test_a_version_whose_file_is_gone_is_gone_when_the_model_is_loaded(tmp_path: Path) -> None:
    for version in ("1", "2"):
        digits_model(tmp_path, f"m/{version}/model.onnx")
    digits_model(tmp_path, "other.onnx")

    async def work(models: Models) -> None:
        assert models.versions("m") == ["1", "2"]
        assert [one.version for one in models.statistics("m")] == ["1", "2"]
        assert [one.version for one in models.statistics("m", "2")] == ["2"]
        assert [one.name for one in models.statistics()] == ["m", "m", "other"]
        sha256 = models.find("m").model.sha256
        shutil.rmtree(tmp_path / "m/2")
        await models.load("m")
        assert models.versions("m") == ["1"]
        assert (info("m", "1", sha256), info("m", "2", sha256)) == (1, 0)
        assert models.versions("other") == ["1"]

    during(tmp_path, work)


def test_lists_are_sorted_whatever_was_loaded_last(tmp_path: Path) -> None:
    for name in ("m/9/model.onnx", "m/10/model.onnx", "b.onnx"):
        digits_model(tmp_path, name)

    async def work(models: Models) -> None:
        # Both versions go, and both come.
        for name, left in (("b", ["m"]), ("m", ["b"])):
            await models.unload(name)
            assert models.names() == left
            await models.load(name)
        await models.unload("b")
        await models.load("b")
        assert models.names() == ["b", "m"]
        assert models.versions("m") == ["9", "10"]
        assert [one[0] for one in states(models)] == ["b", "m", "m"]
        assert [one.name for one in models.statistics()] == ["b", "m", "m"]

    during(tmp_path, work)


def test_what_is_not_there_has_no_statistics(tmp_path: Path) -> None:
    digits_model(tmp_path, "m.onnx")

    async def work(models: Models) -> None:
        for name, version in (("none", None), ("m", "7")):
            with pytest.raises(RequestError, match="no ") as refused:
                models.statistics(name, version)
            assert refused.value.status == 404

    during(tmp_path, work)


def test_a_model_that_could_not_be_opened_can_be_unloaded(tmp_path: Path) -> None:
    """Then it is tried no more, and nothing is wrong in asking twice."""
    digits_model(tmp_path, "m.onnx")

    async def work(models: Models) -> None:
        (tmp_path / "new.onnx").write_bytes(b"no model")
        await models.unload("new")
        await models.unload("new")
        assert states(models)[1] == ("new", "1", "UNAVAILABLE", "unloaded")
        digits_model(tmp_path, "new.onnx")
        await models.reload(at_once=True)
        assert models.names() == ["m"]

    during(tmp_path, work)


def test_a_model_that_cannot_be_opened_leaves_the_old_one_and_is_counted(tmp_path: Path) -> None:
    file = digits_model(tmp_path, "m.onnx")
    failures = RELOAD_FAILURES.labels("m")._value

    async def work(models: Models) -> None:
        before, count = models.find("m"), failures.get()
        file.write_bytes(b"no model")
        await models.reload(at_once=True)
        assert failures.get() == count + 1
        with pytest.raises(RequestError, match="'m', version 1, cannot be opened") as refused:
            await models.load("m")
        assert refused.value.status == 400
        assert "no model" not in refused.value.message
        assert str(tmp_path) not in refused.value.message
        assert failures.get() == count + 2
        assert models.find("m") is before
        (tmp_path / "new.onnx").write_bytes(b"no model")
        assert states(models)[1] == ("new", "1", "UNAVAILABLE", "cannot be opened")
        with pytest.raises(RequestError, match="no model 'gone' in the repository") as refused:
            await models.load("gone")
        assert refused.value.status == 404

    during(tmp_path, work)


def test_a_folder_that_is_gone_leaves_the_models(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    digits_model(folder, "m.onnx")

    async def work(models: Models) -> None:
        shutil.rmtree(folder)
        await models.reload(at_once=True)
        assert states(models) == [("m", "1", "READY", "")]
        await models.unload("m")
        assert states(models) == []
        with pytest.raises(RequestError, match="no model 'm'"):
            await models.unload("m")

    during(folder, work)


@pytest.mark.parametrize("error", [OSError("no such disk"), TorchliftError("two are called m")])
def test_models_go_on_while_their_files_cannot_be_looked_up(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits_model(tmp_path, "m.onnx")

    def fail(path: Path) -> None:
        raise error

    async def work(models: Models) -> None:
        before = models.find("m")
        with monkeypatch.context() as patch:
            patch.setattr(models_file, "find_models", fail)
            await models.reload(at_once=True)
            assert states(models) == [("m", "1", "READY", "")]
            with pytest.raises(RequestError, match="no model 'm' in the repository") as refused:
                await models.load("m")
            assert refused.value.status == 404
        assert models.find("m") is before

    during(tmp_path, work)


def test_a_file_that_is_gone_when_it_is_opened_leaves_the_old_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = digits_model(tmp_path, "m.onnx")

    def gone(*_: Any) -> None:
        raise FileNotFoundError("it has just been removed")

    async def work(models: Models) -> None:
        before = models.find("m")
        other_model(file)
        with monkeypatch.context() as patch:
            patch.setattr(models_file, "ServedModel", gone)
            await models.reload(at_once=True)
            with pytest.raises(RequestError, match="'m', version 1, cannot be opened"):
                await models.load("m")
        assert models.find("m") is before

    during(tmp_path, work)


def test_a_model_is_closed_when_its_last_user_has_gone(tmp_path: Path) -> None:
    """A request that runs when its model is replaced is answered by the old one."""
    file = digits_model(tmp_path, "m.onnx")

    async def work(models: Models) -> None:
        old = models.find("m")
        with old.used():
            other_model(file)
            await models.reload(at_once=True)
            assert first_label(models) == "nil"
            await asyncio.sleep(0.05)
            with Waiting(1, lambda count: None).enter() as ticket:
                ((row,),) = await old.batcher.submit({"input": BLACK}, ticket)
            assert row.shape == (10,)
            assert not old.batcher._task.done()
        while models._closing:
            await asyncio.sleep(0.01)
        assert old.batcher._task.done()
        assert not models.find("m").batcher._task.done()

    during(tmp_path, work)


def test_counts_go_on_when_a_model_is_replaced(tmp_path: Path) -> None:
    file = digits_model(tmp_path, "m.onnx")

    async def work(models: Models) -> None:
        statistics = models.find("m").statistics
        other_model(file)
        await models.reload(at_once=True)
        assert models.find("m").statistics is statistics

    during(tmp_path, work)


def test_a_file_is_watched_with_patience_and_one_that_cannot_be_opened_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, aside = digits_model(tmp_path, "m.onnx"), tmp_path / "aside"
    (tmp_path / "bad").write_bytes(b"no model")
    failures = RELOAD_FAILURES.labels("m")._value

    async def work(models: Models) -> None:
        looks: list[bool] = []

        async def look(*, at_once: bool) -> None:
            looks.append(at_once)

        with monkeypatch.context() as patch:
            patch.setattr(models_file, "_INTERVAL", 0.001)
            patch.setattr(models, "reload", look)
            watching = asyncio.create_task(models.watch())
            while len(looks) < 3:
                await asyncio.sleep(0.001)
            watching.cancel()
        # One that has just changed may be still being written.
        assert not any(looks)
        count = failures.get()
        for place in (1, 2):
            file.rename(aside)
            (tmp_path / "bad").rename(file)
            for _ in range(4):
                await models.reload(at_once=False)
            assert failures.get() == count + place
            # The file that is served is back, as it was.
            file.rename(tmp_path / "bad")
            aside.rename(file)
            await models.reload(at_once=False)
        assert failures.get() == count + 2

    during(tmp_path, work)


def test_a_model_runs_on_what_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = digits_model(tmp_path, "m.onnx")
    asked: list[Any] = []
    opened = model_file.open_session

    def session(*given: Any) -> Any:
        asked.append(given)
        return opened(*given)

    monkeypatch.setattr(model_file, "open_session", session)
    settings = Settings(str(file), provider="cpu", threads=3, max_batch=5, max_delay=0.25)

    async def start() -> None:
        models = Models(settings, set())
        await models.start()
        batcher = models.find("m").batcher
        assert (batcher._max_batch, batcher._max_delay) == (5, 0.25)
        assert batcher._statistics is models.find("m").statistics
        await models.close()

    within(start())
    assert asked == [(file, "cpu", 3)]
