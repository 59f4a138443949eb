"""Pages that need no server, opened in a real Chromium."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from browser import Visit
from support import ROOT

#: The npm package, where it is installed.
RUNTIME = Path(os.environ.get("TORCHLIFT_ONNXRUNTIME_WEB", ROOT / "node_modules/onnxruntime-web"))


def package(folder: Path) -> Path:
    """Write what looks like the npm package, for tests that run nothing."""
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "onnxruntime-web", "version": "9.9.9"}')
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (folder / "dist" / name).write_text(name)
    return folder


@contextmanager
def opened(chromium: Any, page: Path, size: tuple[int, int]) -> Iterator[tuple[Visit, Any]]:
    """Serve the folder's parent, as a host of many pages does, and open the page."""
    handler = functools.partial(_QuietHandler, directory=str(page.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce"
        )
        tab = context.new_page()
        visit = Visit(tab)
        tab.on("console", lambda message: visit.messages.append(message.text))
        tab.on("pageerror", lambda error: visit.messages.append(str(error)))
        context.on("request", lambda request: visit.requests.append(request.url))
        tab.goto(f"http://127.0.0.1:{server.server_port}/{page.name}/")
        tab.wait_for_selector("#choose:not([disabled])", timeout=120_000)
        yield visit, context
        origin = f"http://127.0.0.1:{server.server_port}/{page.name}/"
        others = [url for url in visit.requests if not url.startswith((origin, "blob:", "data:"))]
        assert others == []
        context.close()
        server.shutdown()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass
