"""The application of the server in memory: requests without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serve_support import Answer, digit_images
from starlette.types import Message

from torchlift.cli.serve.app import Service, create_app
from torchlift.cli.serve.gate import Gate
from torchlift.cli.serve.models import Models
from torchlift.cli.serve.settings import Settings

(IMAGE,) = digit_images(1)
INFER = "/v2/models/digits/infer"
#: One black image, as JSON alone.
REQUEST = json.dumps(
    {
        "id": "seven",
        "inputs": [
            {"name": "input", "datatype": "FP32", "shape": [1, 1, 32, 32], "data": [0.0] * 1024}
        ],
    }
).encode()


@dataclass
class Application:
    """An application whose models are loaded."""

    service: Service
    gate: Gate

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        path, _, query = path.partition("?")
        named = {"host": "here:8000", "content-length": str(len(body)), **(headers or {})}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
            "client": ("192.0.2.7", 1234),
            "server": ("here", 8000),
        }
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            return waiting.pop() if waiting else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.gate(scope, receive, send)
        start, *parts = sent
        found = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], found, b"".join(part["body"] for part in parts))


@asynccontextmanager
async def application(path: Path, **changed: Any) -> AsyncIterator[Application]:
    """Load the models of a file or folder; `changed` are settings. Nothing waits for a batch."""
    settings = replace(Settings(str(path), provider="cpu", max_delay=0), **changed)
    models = Models(settings, set())
    await models.start()

    async def alone(operation: str, argument: str) -> list[Any]:
        return [await service.operate(operation, argument)]

    with ThreadPoolExecutor(2) as decoders:
        service = Service(settings, models, decoders, alone)
        yield Application(service, Gate(create_app(service), settings, lambda: service.draining))
        await models.close()


def within(work: Coroutine[Any, Any, Any], seconds: float = 20) -> Any:
    """Run to the end; what hangs is an error."""
    return asyncio.run(asyncio.wait_for(work, seconds))


def asked(work: Callable[[Application], Awaitable[Any]], path: Path, **settings: Any) -> Any:
    async def run() -> Any:
        async with application(path, **settings) as running:
            return await work(running)

    return within(run())


def answers(path: Path, *requests: tuple[Any, ...], **settings: Any) -> list[Answer]:
    async def work(running: Application) -> list[Answer]:
        return [await running.ask(*request) for request in requests]

    found: list[Answer] = asked(work, path, **settings)
    return found
