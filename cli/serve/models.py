"""The models of one process: loading, replacing and unloading them while requests run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...converters.errors import TorchliftError
from .batching import Batcher
from .errors import RequestError
from .metrics import MODEL_INFO, RELOAD_FAILURES
from .model import ServedModel
from .repository import Fingerprint, find_models, fingerprint
from .settings import Settings
from .statistics import Statistics

_LOG = logging.getLogger("torchlift.serve")

#: How often files are looked at, in seconds. A file counts as written when two looks agree.
_INTERVAL = 1.0


class Loaded:
    """A model that answers requests.

    Attributes:
        model: The model.
        batcher: Runs it.
        statistics: What it has done.
    """

    def __init__(self, model: ServedModel, settings: Settings, statistics: Statistics) -> None:
        self.model, self.statistics = model, statistics
        self.batcher = Batcher(model, settings.max_batch, settings.max_delay, statistics)
        self._users = 0

    @contextmanager
    def used(self) -> Iterator[Loaded]:
        """Keep the model open until the block ends."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1

    async def close(self) -> None:
        """Wait for those who use the model, then close it."""
        while self._users:
            await asyncio.sleep(0.01)
        await self.batcher.close()


@dataclass
class _Seen:
    """What was last seen of a file that is not served as it is.

    Attributes:
        fingerprint: Its state.
        has_failed: Whether it could not be opened in that state.
    """

    fingerprint: Fingerprint
    has_failed: bool = False


class Models:
    """All models of a process, by name and version.

    Args:
        settings: Where they are and how they run.
        unloaded: The names of those that clients have unloaded.
    """

    def __init__(self, settings: Settings, unloaded: set[str]) -> None:
        self._settings = settings
        self._unloaded = set(unloaded)
        self._loaded: dict[str, dict[str, Loaded]] = {}
        self._statistics: dict[tuple[str, str], Statistics] = {}
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Load every model.

        Raises:
            TorchliftError: If one cannot be loaded.
        """
        for name, versions in self._files().items():
            if name not in self._unloaded:
                for version, path in versions.items():
                    self._put(await self._open(name, version, path))

    def find(self, name: str, version: str | None = None) -> Loaded:
        """Return a model, by default its newest version.

        Raises:
            RequestError: If it is not there, or not loaded.
        """
        versions = self._loaded.get(name)
        if not versions:
            known = name in self._unloaded
            raise RequestError(
                404, f"model {name!r} is not loaded" if known else f"no model {_short(name)}"
            )
        if version is None:
            return versions[max(versions, key=int)]
        if version not in versions:
            there = ", ".join(sorted(versions, key=int))
            raise RequestError(404, f"model {name!r} has no version {_short(version)}: {there}")
        return versions[version]

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model that are loaded, the oldest first."""
        return sorted(self._loaded.get(name, {}), key=int)

    def names(self) -> list[str]:
        """Return the names of the models that are loaded."""
        return sorted(name for name, versions in self._loaded.items() if versions)

    def index(self) -> list[dict[str, str]]:
        """Return the entries of the repository's index."""
        entries = {
            (name, version): {
                "name": name,
                "version": version,
                "state": "READY",
                "reason": "",
            }
            for name, versions in self._loaded.items()
            for version in versions
        }
        for name, versions in self._readable_files().items():
            for version in versions:
                reason = "unloaded" if name in self._unloaded else "cannot be opened"
                state = {"name": name, "version": version, "state": "UNAVAILABLE", "reason": reason}
                entries.setdefault((name, version), state)
        return [entries[key] for key in sorted(entries)]

    def statistics(self, name: str | None = None, version: str | None = None) -> list[Statistics]:
        """Return the statistics of one model, of all its versions, or of all models."""
        if name is not None:
            self.find(name, version)
        return [
            loaded.statistics
            for other, versions in sorted(self._loaded.items())
            for number, loaded in versions.items()
            if name in (None, other) and version in (None, number)
        ]

    async def load(self, name: str) -> None:
        """Load a model of the repository, or load it again.

        Raises:
            RequestError: If it is not there or cannot be opened.
        """
        async with self._lock:
            versions = self._readable_files().get(name)
            if versions is None:
                raise RequestError(404, f"no model {_short(name)} in the repository")
            for version, path in versions.items():
                try:
                    loaded = await self._open(name, version, path)
                except (TorchliftError, OSError) as error:
                    self._failed(name, version, str(error))
                    raise RequestError(
                        400, f"model {name!r}, version {version}, cannot be opened"
                    ) from None
                self._put(loaded)
            for version in set(self._loaded.get(name, {})) - set(versions):
                self._remove(name, version)
            self._unloaded.discard(name)

    async def unload(self, name: str) -> None:
        """Stop serving a model; requests that run are answered.

        Raises:
            RequestError: If it is neither loaded nor in the repository.
        """
        async with self._lock:
            if name not in self._loaded and name not in self._readable_files():
                raise RequestError(404, f"no model {_short(name)}")
            for version in list(self._loaded.get(name, {})):
                self._remove(name, version)
            self._unloaded.add(name)

    async def watch(self) -> None:
        """Replace models whose files change, until it is cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            await self.reload(at_once=False)

    async def reload(self, *, at_once: bool) -> None:
        """Replace models whose files have changed, and load new ones.

        A file that cannot be opened leaves the old model serving.

        Args:
            at_once: Whether a file that has just changed is opened now; otherwise it has to stay
                as it is for a moment first, because it may be still being written.
        """
        async with self._lock:
            try:
                files = await asyncio.to_thread(self._files)
            except (TorchliftError, OSError) as error:
                _LOG.warning("the models cannot be looked up: %s", error)
                return
            for name, versions in files.items():
                for version, path in versions.items():
                    if name not in self._unloaded and self._has_changed(
                        name, version, path, at_once
                    ):
                        await self._replace(name, version, path)

    async def close(self) -> None:
        """Answer what runs and close every model."""
        for name, versions in list(self._loaded.items()):
            for version in list(versions):
                self._remove(name, version)
        await asyncio.gather(*self._closing)

    def _has_changed(self, name: str, version: str, path: Path, at_once: bool) -> bool:
        try:
            now = fingerprint(path)
        except OSError:
            # It is being replaced, or was removed: the model that was opened stays.
            return False
        loaded = self._loaded.get(name, {}).get(version)
        if loaded is not None and loaded.model.fingerprint == now:
            self._seen.pop((name, version), None)
            return False
        before = self._seen.get((name, version))
        if before is None or before.fingerprint != now:
            self._seen[name, version] = _Seen(now)
            return at_once
        return at_once or not before.has_failed

    async def _replace(self, name: str, version: str, path: Path) -> None:
        try:
            loaded = await self._open(name, version, path)
        except (TorchliftError, OSError) as error:
            self._failed(name, version, str(error))
            if seen := self._seen.get((name, version)):
                seen.has_failed = True
            return
        self._put(loaded)
        _LOG.info("model %s, version %s: loaded, sha256 %s", name, version, loaded.model.sha256)

    def _failed(self, name: str, version: str, problem: str) -> None:
        RELOAD_FAILURES.labels(name).inc()
        _LOG.error("model %s, version %s: the file cannot be opened: %s", name, version, problem)

    async def _open(self, name: str, version: str, path: Path) -> Loaded:
        settings = self._settings
        model = await asyncio.to_thread(
            ServedModel, name, version, path, settings.provider, settings.threads
        )
        statistics = self._statistics.setdefault((name, version), Statistics(name, version))
        return Loaded(model, settings, statistics)

    def _put(self, loaded: Loaded) -> None:
        model = loaded.model
        self._remove(model.name, model.version)
        _info(model).set(1)
        self._loaded.setdefault(model.name, {})[model.version] = loaded

    def _remove(self, name: str, version: str) -> None:
        old = self._loaded.get(name, {}).pop(version, None)
        if old is not None:
            _info(old.model).set(0)
            task = asyncio.get_running_loop().create_task(old.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if not self._loaded.get(name):
            self._loaded.pop(name, None)

    def _files(self) -> dict[str, dict[str, Path]]:
        return find_models(Path(self._settings.path))

    def _readable_files(self) -> dict[str, dict[str, Path]]:
        try:
            return self._files()
        except (TorchliftError, OSError):
            return {}


def _info(model: ServedModel) -> Any:
    return MODEL_INFO.labels(model.name, model.version, model.sha256)


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
