"""One process of the server: it loads models, answers requests, and stops without losing one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn

from ...converters.inference.threads import available_cpus
from .app import Everywhere, Service, create_app
from .gate import Gate
from .http_protocol import LimitedHttp
from .models import Models
from .settings import Settings

_LOG = logging.getLogger("torchlift.serve")

#: How often draining looks whether all is answered, in seconds.
_TICK = 0.02

#: How long an idle connection stays open, in seconds.
_KEEP_ALIVE = 75


class Worker:
    """A process that serves on a socket.

    Args:
        settings: The limits.
        listener: The socket, bound and listening.
        unloaded: The names of models that clients have unloaded.
    """

    def __init__(self, settings: Settings, listener: socket.socket, unloaded: set[str]) -> None:
        self._settings, self._listener = settings, listener
        self.models = Models(settings, unloaded)
        self._stopping = asyncio.Event()
        self._decoders = ThreadPoolExecutor(available_cpus(), "torchlift-decode")
        self.service = Service(settings, self.models, self._decoders, self._alone)
        self._reloads: set[asyncio.Task[None]] = set()

    async def run(self, on_ready: Callable[[], None], everywhere: Everywhere | None = None) -> None:
        """Serve until `stop` is called.

        Args:
            on_ready: Called when requests are answered.
            everywhere: Runs an operation in every process of the server; by default in this one.

        Raises:
            TorchliftError: If a model cannot be opened.
        """
        if everywhere is not None:
            self.service.everywhere = everywhere
        await self.models.start()
        gate = Gate(create_app(self.service), self._settings, lambda: self.service.draining)
        config = uvicorn.Config(
            gate,
            http=LimitedHttp,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve([self._listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.001)
        watching = asyncio.create_task(self.models.watch())
        on_ready()
        await self._stopping.wait()
        await self._drain(gate)
        watching.cancel()
        server.should_exit = True
        await serving
        await self.models.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Refuse new work, answer what runs, and end."""
        self.service.draining = True
        self._stopping.set()

    def reload(self) -> None:
        """Open files that have changed now."""
        task = asyncio.get_running_loop().create_task(self.models.reload(at_once=True))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _drain(self, gate: Gate) -> None:
        """Wait until every request is answered, for as long as a request may take."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.timeout):
                while gate.running:
                    await asyncio.sleep(_TICK)

    async def _alone(self, operation: str, argument: str) -> list[Any]:
        return [await self.service.operate(operation, argument)]


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve_alone(settings: Settings, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve in this process until SIGTERM or SIGINT; SIGHUP opens files that have changed.

    Args:
        settings: The limits.
        listener: The socket, bound and listening.
        on_ready: Called when requests are answered.

    Raises:
        TorchliftError: If a model cannot be opened.
    """

    async def main() -> None:
        worker = Worker(settings, listener, set())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        loop.add_signal_handler(signal.SIGHUP, worker.reload)
        await worker.run(on_ready)

    asyncio.run(main())
