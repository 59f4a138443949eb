"""The addresses of the server and what answers them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from ... import __version__
from ...converters.errors import TorchliftError
from . import openapi
from .batching import Ticket, Waiting
from .body import SMALL, Bodies, packed, packing_of
from .card import card
from .classify import classify
from .describe import config, metadata
from .errors import RequestError
from .images import images_of
from .inference_protocol import answer, parse_infer, read_json
from .metrics import QUEUE_LENGTH, exposition
from .models import Loaded, Models
from .settings import Settings
from .statistics import added

#: The policy of the page: its own files, images that a person chose, the camera.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
#: The page's files: the folder of each, and its type.
_STATIC = {
    "app.js": (files(__package__) / "page", "text/javascript"),
    **{
        name: (files("torchlift.converters.onnx") / "page", kind)
        for name, kind in (
            ("shared.js", "text/javascript"),
            ("style.css", "text/css"),
            ("icon.svg", "image/svg+xml"),
        )
    },
}

#: What the server can do beyond the protocol's core, in the protocol's words.
_EXTENSIONS = [
    *("binary_tensor_data", "classification", "model_configuration", "model_repository"),
    "statistics",
]

#: Runs an operation in every process: its name and its argument.
Everywhere = Callable[[str, str], Awaitable[list[Any]]]


@dataclass
class Service:
    """What the addresses share.

    Attributes:
        settings: The limits.
        models: The models of this process.
        decoders: Threads that decode images.
        everywhere: Runs an operation of `operate` in every process.
        draining: Whether the server is about to stop.
    """

    settings: Settings
    models: Models
    decoders: Executor
    everywhere: Everywhere
    draining: bool = False
    waiting: Waiting = field(init=False)
    bodies: Bodies = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = Waiting(self.settings.queue, QUEUE_LENGTH.set)
        self.bodies = Bodies(self.settings.max_body, self.settings.timeout)

    @asynccontextmanager
    async def work(self, loaded: Loaded) -> AsyncIterator[Ticket]:
        """Have a place in the queue, for as long as a request may take.

        Raises:
            RequestError: If the queue is full, or the time is over.
        """
        began, passed = time.perf_counter(), False
        try:
            with self.waiting.enter() as ticket:
                async with asyncio.timeout(self.settings.timeout):
                    yield ticket
            passed = True
        except TimeoutError:
            limit = f"{self.settings.timeout:g}"
            raise RequestError(504, f"no answer within {limit} seconds") from None
        finally:
            loaded.statistics.answered(time.perf_counter() - began, passed)

    def check_ready(self) -> None:
        """Refuse new work of a server that stops.

        Raises:
            RequestError: If it does.
        """
        if self.draining:
            raise RequestError(503, "the server is stopping", {"Retry-After": "1"})

    async def operate(self, operation: str, argument: str) -> Any:
        """Do in this process what `everywhere` asks of all: load, unload or tell statistics."""
        if operation == "load":
            await self.models.load(argument)
        elif operation == "unload":
            await self.models.unload(argument)
        else:
            name, _, version = argument.rpartition("/")
            found = self.models.statistics(name or None, version or None)
            return [one.to_json() for one in found]
        return None


def create_app(service: Service) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="torchlift", version=__version__, docs_url=None, redoc_url=None, **openapi.APP
    )
    _add_health(app, service)
    _add_models(app, service)
    _add_inference(app, service)
    _add_repository(app, service)
    _add_page(app, service)

    for kind in (RequestError, HTTPException, Exception):
        app.add_exception_handler(kind, _answer_error)
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    """Answer with an error, the framework's own too; the gate logs what nobody expected."""
    if isinstance(error, HTTPException):
        error = RequestError(error.status_code, str(error.detail), error.headers)
    elif not isinstance(error, RequestError):
        error = RequestError(500, "an error of the server; its log says more")
    text = json.dumps({"error": error.message})
    return Response(text, error.status, error.headers, "application/json")


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/v2/health/live", name="live", **openapi.EMPTY)
    async def live() -> Response:
        return Response()

    @app.get("/v2/health/ready", name="ready", **openapi.READY)
    async def ready() -> Response:
        service.check_ready()
        return Response()

    @app.get("/v2", name="server", **openapi.ANSWER)
    async def server() -> Response:
        return _json({"name": "torchlift", "version": __version__, "extensions": _EXTENSIONS})

    @app.get("/metrics", name="metrics", **openapi.TEXT)
    async def metrics() -> Response:
        text, content_type = await asyncio.to_thread(exposition)
        return Response(text, headers={"content-type": content_type})


def _add_models(app: FastAPI, service: Service) -> None:
    models = service.models

    @app.get("/v2/models/stats", name="stats", **openapi.STATISTICS)
    async def all_stats() -> Response:
        return _json(await _statistics(service, ""))

    async def one(request: Request) -> Response:
        loaded = _find(service, request)
        what = request.scope["route"].name
        if what == "ready":
            return Response()
        if what == "stats":
            name = f"{loaded.model.name}/{request.path_params.get('version', '')}"
            return _json(await _statistics(service, name))
        if what == "config":
            return _json(config(loaded.model, service.settings))
        return _json(metadata(loaded.model, models.versions(loaded.model.name)))

    for what in ("metadata", "ready", "config", "stats"):
        end = "" if what == "metadata" else f"/{what}"
        special = {"ready": openapi.MODEL_EMPTY, "stats": openapi.MODEL_STATISTICS}
        described = special.get(what, openapi.MODEL)
        for path, extra in (("", {}), ("/versions/{version}", openapi.VERSION)):
            app.add_api_route(
                f"/v2/models/{{model}}{path}{end}",
                one,
                name=what,
                operation_id=f"{what}{'_of_version' if path else ''}",
                **openapi.with_parameters(described, extra),
            )


async def _statistics(service: Service, argument: str) -> dict[str, Any]:
    total: dict[tuple[str, str], dict[str, Any]] = {}
    for process in await service.everywhere("stats", argument):
        for entry in process:
            key = (entry["name"], entry["version"])
            total[key] = added(total[key], entry) if key in total else entry
    return {"model_stats": list(total.values())}


def _add_inference(app: FastAPI, service: Service) -> None:
    async def infer(request: Request) -> Response:
        service.check_ready()
        loaded = _find(service, request)
        with loaded.used():
            async with service.bodies.read(request) as body, service.work(loaded) as ticket:
                length = request.headers.get("inference-header-content-length")
                parsed = await _maybe_in_thread(len(body), parse_infer, body, length, loaded.model)
                try:
                    outputs = await loaded.batcher.submit(parsed.inputs, ticket)
                except TorchliftError:
                    shapes = {name: list(array.shape) for name, array in parsed.inputs.items()}
                    raise RequestError(
                        400, f"the model does not run on inputs of shape {shapes}"
                    ) from None
                size = sum(output.nbytes for output in outputs)
                content, head = await _maybe_in_thread(size, answer, parsed, outputs, loaded.model)
                headers = {}
                if head is not None:
                    headers["Inference-Header-Content-Length"] = str(head)
                if packing := packing_of(request.headers.get("accept-encoding", "")):
                    content = await _maybe_in_thread(len(content), packed, content, packing)
                    headers |= {"Content-Encoding": packing, "Vary": "Accept-Encoding"}
        kind = "application/json" if head is None else "application/octet-stream"
        return Response(content, headers={**headers, "content-type": kind})

    for path, extra in (("", {}), ("/versions/{version}", openapi.VERSION)):
        app.add_api_route(
            f"/v2/models/{{model}}{path}/infer",
            infer,
            methods=["POST"],
            name="infer",
            operation_id=f"infer{'_of_version' if path else ''}",
            **openapi.with_parameters(openapi.INFER, extra),
        )

    @app.post("/predict", name="predict", **openapi.PREDICT)
    async def predict(request: Request) -> Response:
        service.check_ready()
        _require_known(request, "top", "model")
        top = _top(request.query_params.get("top", "5"))
        loaded = _chosen(service, request)
        with loaded.used():
            async with service.bodies.read(request) as body, service.work(loaded) as ticket:
                content_type = request.headers.get("content-type", "")
                images = await _maybe_in_thread(len(body), images_of, content_type, body)
                limit = service.settings.max_pixels
                found = await classify(loaded, images, top, ticket, limit, service.decoders)
        return _json(found)

    @app.get("/card", name="card", **openapi.CARD)
    async def describe(request: Request) -> Response:
        _require_known(request, "model")
        loaded = _chosen(service, request)
        return _json(await asyncio.to_thread(card, loaded.model, service.models.names()))


def _add_repository(app: FastAPI, service: Service) -> None:
    @app.post("/v2/repository/index", name="repository", **openapi.INDEX)
    async def index(request: Request) -> Response:
        asked = await _object(service, request)
        only_ready = asked.get("ready", False)
        if not isinstance(only_ready, bool):
            raise RequestError(400, "'ready' is no boolean")
        entries = await asyncio.to_thread(service.models.index)
        return _json([one for one in entries if one["state"] == "READY" or not only_ready])

    async def change(request: Request) -> Response:
        _refuse_other_pages(request, service.settings)
        operation, name = request.scope["route"].name, request.path_params["model"]
        parameters = (await _object(service, request)).get("parameters", {})
        if not isinstance(parameters, dict):
            raise RequestError(400, "'parameters' is no JSON object")
        if any(one == "config" or one.startswith("file:") for one in parameters):
            raise RequestError(400, "models come from the server's own files only")
        await service.everywhere(operation, name)
        return _json({})

    for operation in ("load", "unload"):
        app.add_api_route(
            f"/v2/repository/models/{{model}}/{operation}",
            change,
            methods=["POST"],
            name=operation,
            operation_id=operation,
            **openapi.CHANGE,
        )


def _add_page(app: FastAPI, service: Service) -> None:
    @app.get("/", name="page", include_in_schema=False)
    async def page() -> Response:
        text = (files(__package__) / "page" / "index.html").read_bytes()
        headers = {
            "Content-Security-Policy": _PAGE_POLICY,
            "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        }
        return Response(text, media_type="text/html", headers=headers)

    @app.get("/static/{file}", name="static", include_in_schema=False)
    async def static(file: str) -> Response:
        if file not in _STATIC:
            raise RequestError(404, "no such file")
        folder, media_type = _STATIC[file]
        return Response((folder / file).read_bytes(), media_type=media_type)


def _find(service: Service, request: Request) -> Loaded:
    """Return the model that an address names."""
    parameters = request.path_params
    loaded = service.models.find(parameters["model"], parameters.get("version"))
    request.scope["torchlift.model"] = loaded.model.name
    return loaded


def _chosen(service: Service, request: Request) -> Loaded:
    """Return the model that `?model=` names, or the only one."""
    name, names = request.query_params.get("model"), service.models.names()
    if name is None:
        if len(names) != 1:
            listed = ", ".join(names)
            problem = f"which model? model= is one of {listed}" if names else "no model is loaded"
            raise RequestError(400 if names else 404, problem)
        name = names[0]
    loaded = service.models.find(name)
    request.scope["torchlift.model"] = loaded.model.name
    return loaded


def _require_known(request: Request, *known: str) -> None:
    """Refuse parameters of an address that mean nothing, and those that are given twice."""
    names = [name for name, _ in request.query_params.multi_items()]
    if unknown := sorted(set(names) - set(known)):
        raise RequestError(
            422, f"unknown parameter {', '.join(unknown)}; known: {', '.join(known)}"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RequestError(422, f"{', '.join(twice)}: given more than once")


def _top(text: str) -> int:
    if not (text.isascii() and text.isdigit() and text.strip("0")):
        raise RequestError(422, "top: a whole number of at least 1 was expected")
    return int(text[-9:]) if len(text.lstrip("0")) < 10 else 10**9


async def _object(service: Service, request: Request) -> dict[str, Any]:
    """Return the JSON object of a request that may have none."""
    async with service.bodies.read(request) as body:
        return read_json(body) if body.strip() else {}


def _refuse_other_pages(request: Request, settings: Settings) -> None:
    """Keep pages of other origins, which a browser lets send POST requests, off the models."""
    origin = request.headers.get("origin")
    if origin is None or origin in settings.cors_origins:
        return
    if urlsplit(origin).netloc != request.headers.get("host"):
        raise RequestError(403, "a page of another origin changes no models")


async def _maybe_in_thread(size: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, in a thread where the work is large."""
    if size <= SMALL:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def _json(value: Any) -> Response:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "replace"), media_type="application/json")
