"""What the options of `torchlift serve` decide, as every process of the server gets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: How the log is written.
LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class Settings:
    """The limits of a server and where its models are.

    Attributes:
        path: An `.onnx` file, or a folder of models (see `find_models`).
        provider: What to run on: `auto`, `cpu`, `cuda` or `tensorrt`.
        threads: How many threads of one process work on one operator.
        max_batch: How many examples are run together; 1 runs each request alone, as it came.
        max_delay: How long an example waits for others to be run with, in seconds.
        queue: How many requests may wait.
        timeout: How long a request may take, in seconds.
        max_body: The largest body, in bytes, before and after it is unpacked.
        max_pixels: The largest image, in pixels.
        token: What a client must send as `Authorization: Bearer`, or None.
        cors_origins: The origins whose pages may read answers; `*` is all.
        log_format: How the log is written.
    """

    path: str
    provider: str = "auto"
    threads: int = 1
    max_batch: int = 32
    max_delay: float = 0.002
    queue: int = 1024
    timeout: float = 30
    max_body: int = 64 * 2**20
    max_pixels: int = 50_000_000
    token: str | None = field(default=None, repr=False)
    cors_origins: tuple[str, ...] = ()
    log_format: LogFormat = "text"
