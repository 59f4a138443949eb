"""The server beside a bare session: `python benchmarks/serve.py`.

The server has one core, its clients another. Requests of the binary protocol hold batches that are
ready; `/predict` gets JPEG files. What both are compared with runs on the server's core, in a
process of its own: ONNX Runtime on the same batches, and a loop that decodes, prepares and runs the
same files. Where LitServe is installed it serves the same networks beside it. The table goes into
`docs/benchmarks.md` (not with `--print`).
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import machine, table, write_section
from PIL import Image

#: Clients at a time, and images of a request.
CLIENTS, BATCH = (1, 8, 64), 8
SERVER_CORE, CLIENT_CORE = 0, 1

_BARE = """
import sys, time, numpy as np
from torchlift.converters.inference.providers import open_session
session = open_session(sys.argv[1], "cpu", threads=1)
inputs = {{"input": np.random.default_rng(0).random(({batch}, 3, 224, 224), np.float32)}}
session.run(inputs)
end, count = time.perf_counter() + {seconds}, 0
began = time.perf_counter()
while time.perf_counter() < end:
    session.run(inputs)
    count += {batch}
print(count / (time.perf_counter() - began))
"""
_BARE_FILES = """
import io, sys, time
from pathlib import Path
from torchlift.converters.inference import Classifier, OnnxPredictor
classifier = Classifier(OnnxPredictor(sys.argv[1], "cpu"))
files = [file.read_bytes() for file in sorted(Path(sys.argv[2]).glob("*.jpg"))]
classifier.predict([files[0]])
end, count = time.perf_counter() + {seconds}, 0
began = time.perf_counter()
while time.perf_counter() < end:
    classifier.predict([files[count % len(files)]])
    count += 1
print(count / (time.perf_counter() - began))
"""


@dataclass
class Load:
    """What clients got.

    Attributes:
        rate: Images a second.
        p50: Half of the requests took less, in seconds.
        p99: All but a hundredth took less.
    """

    rate: float
    p50: float
    p99: float


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="how long each load runs")
    parser.add_argument("--requests", type=int, default=100_000, help="for the memory; 0 for none")
    parser.add_argument("--print", action="store_true", help="do not write docs/benchmarks.md")
    options = parser.parse_args()
    os.sched_setaffinity(0, {CLIENT_CORE})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = section(folder, options.seconds, options.requests)
    print(text)
    if not options.print:
        write_section("The server", text)


def section(folder: Path, seconds: float, requests: int) -> str:
    """Return the section of the page."""
    rows: list[list[str]] = []
    photographs(folder)
    for network in ("alexnet-owt-bn", "resnet18"):
        model = folder / f"{network}.onnx"
        in_process(_EXPORT, network, model)
        bare = float(in_process(_BARE.format(batch=BATCH, seconds=seconds), model))
        loop = float(in_process(_BARE_FILES.format(seconds=seconds), model, folder))
        rows.append([network, "bare session", f"{bare:.1f}", "1.00", "", ""])
        with serving(model) as (port, _):
            for clients in CLIENTS:
                found = load(port, clients, seconds, binary_request(network), BATCH)
                rows.append(row(network, f"binary, {clients} clients", found, bare))
            rows.append([network, "bare loop over JPEG files", f"{loop:.1f}", "1.00", "", ""])
            for clients in CLIENTS:
                found = load(port, clients, seconds, file_requests(folder), 1)
                rows.append(row(network, f"/predict, {clients} clients", found, loop))
        if importlib.util.find_spec("litserve"):
            with litserve(model) as port:
                for clients in CLIENTS:
                    found = load(port, clients, seconds, uploads(folder), 1)
                    rows.append(row(network, f"LitServe, {clients} clients", found, loop))
    small = folder / "small.onnx"
    in_process(_EXPORT, "small", small)
    rates = {}
    for batch in (1, 32):
        with serving(small, f"--max-batch={batch}") as (port, _):
            found = load(port, 64, seconds, small_request(), 1)
            rates[batch] = found.rate
            rows.append(row("small", f"binary, 64 clients, --max-batch {batch}", found, rates[1]))
    memory = memory_of(small, requests) if requests else ""
    header = ["network", "what", "images a second", "ratio", "p50", "p99"]
    return f"""\
`python benchmarks/serve.py`, on {machine("onnxruntime", "fastapi", "uvicorn")}.

The server on one core, clients on another; {seconds:g} seconds each. Binary requests of the two
large networks hold {BATCH} images of 224×224; the ratio is to the bare session or loop above, which
runs on the server's core alone. *small* is LeNet-5 on one image a request: batching makes it
{rates[32] / rates[1]:.1f} times as fast.

{table(header, rows)}
{memory}"""


def row(network: str, what: str, found: Load, limit: float) -> list[str]:
    """Return a row of the table."""
    times = [f"{1000 * value:.1f} ms" for value in (found.p50, found.p99)]
    return [network, what, f"{found.rate:.1f}", f"{found.rate / limit:.2f}", *times]


_EXPORT = f"""
import sys, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel
from torchlift.transfer.networks import alexnet_owt_bn, lenet5
torch.manual_seed(0)
name = sys.argv[1]
if name == "small":
    model = SavedModel(lenet5(channels=1).eval(), "logits", (1, 32, 32))
else:
    if name == "resnet18":
        import torchvision
        network = torchvision.models.resnet18(weights=None)
    else:
        network = alexnet_owt_bn()
    shape, mean, std = (3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preprocessing = Preprocessing("RGB", size=(224, 224), mean=mean, std=std)
    model = SavedModel(network.eval(), "logits", shape, preprocessing=preprocessing)
export(model, sys.argv[2])
"""


def in_process(program: str, *arguments: Any) -> str:
    """Run a program on the server's core and return its last line.

    Raises:
        RuntimeError: when it fails.
    """
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-c", program]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return (done.stdout.strip().splitlines() or [""])[-1]


def photographs(folder: Path) -> None:
    """Write 64 JPEG files of 500×375."""
    random = np.random.default_rng(0)
    for number in range(64):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number:02}.jpg")


@contextmanager
def litserve(model: Path) -> Iterator[int]:
    """Serve a model with LitServe on the server's core, and yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    app = Path(__file__).with_name("litserve_app.py")
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, str(app), str(model), str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not _is_healthy(port):
            if process.poll() is not None:
                raise RuntimeError("LitServe did not start")
            time.sleep(0.2)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # Its workers outlive it otherwise.
        process.wait()


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False


@contextmanager
def serving(model: Path, *words: str) -> Iterator[tuple[int, int]]:
    """Serve a model on the server's core, and yield its port and process."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "torchlift.cli", "serve"]
    process = subprocess.Popen(
        [*command, str(model), "--port=0", "--provider=cpu", "--queue=4096", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://\S+:(\d+)", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield int(found[1]), process.pid
                break
        else:
            raise RuntimeError("the server did not start")
    finally:
        process.terminate()
        process.wait()


#: A path with the headers and body of a request.
Request = tuple[str, dict[str, str], bytes]


def tensor_request(model: str, inputs: np.ndarray) -> Request:
    """Return a request of the protocol in its binary form."""
    entry = {
        "name": "input",
        "datatype": "FP32",
        "shape": list(inputs.shape),
        "parameters": {"binary_data_size": inputs.nbytes},
    }
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return f"/v2/models/{model}/infer", headers, head + inputs.tobytes()


def binary_request(model: str) -> list[Request]:
    """Return a batch of images of 224×224."""
    inputs = np.random.default_rng(0).random((BATCH, 3, 224, 224), np.float32)
    return [tensor_request(model, inputs)]


def small_request() -> list[Request]:
    """Return one image of 32×32."""
    return [tensor_request("small", np.random.default_rng(0).random((1, 1, 32, 32), np.float32))]


def file_requests(folder: Path) -> list[Request]:
    """Return the JPEG files as requests."""
    headers = {"Content-Type": "image/jpeg"}
    return [("/predict", headers, file.read_bytes()) for file in sorted(folder.glob("*.jpg"))]


def uploads(folder: Path) -> list[Request]:
    """Return the JPEG files as forms with one file, as LitServe takes them."""
    headers = {"Content-Type": "multipart/form-data; boundary=part"}
    head = b'--part\r\nContent-Disposition: form-data; name="request"; filename="a.jpg"\r\n\r\n'
    return [
        ("/predict", headers, head + body + b"\r\n--part--\r\n")
        for _, _, body in file_requests(folder)
    ]


def load(port: int, clients: int, seconds: float, requests: list[Request], images: int) -> Load:
    """Let clients ask for some seconds, each as fast as it is answered.

    What is answered in these seconds counts. Before them every client has had an answer: where many
    wait, the first takes as long as all of them together.
    """
    times: list[float] = []
    answered = threading.Barrier(clients + 1)
    begin, end = float("inf"), float("inf")

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        started, first = time.perf_counter(), True
        while started < end:
            path, headers, body = requests[number % len(requests)]
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                answered.abort()
                raise RuntimeError(f"status {answer.status}")
            now = time.perf_counter()
            if begin <= now < end:
                times.append(now - started)
            if first:
                answered.wait()
            first = False
            started, number = time.perf_counter(), number + 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    answered.wait()
    begin = time.perf_counter()
    end = begin + seconds
    for thread in threads:
        thread.join()
    p50, p99 = np.percentile(times, [50, 99])
    return Load(len(times) * images / seconds, float(p50), float(p99))


def memory_of(model: Path, requests: int) -> str:
    """Return a sentence on the memory after a tenth of many requests, and after all."""
    with serving(model) as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        path, headers, body = small_request()[0]
        early = 0
        for number in range(1, requests + 1):
            connection.request("POST", path, body, headers)
            connection.getresponse().read()
            if number == requests // 10:
                early = resident(process)
        late = resident(process)
    return (
        f"\nAfter {requests // 10:,} requests the server holds {early / 1e6:.0f} MB, after "
        f"{requests:,} {late / 1e6:.0f} MB ({late / early - 1:+.1%})."
    )


def resident(process: int) -> int:
    """Return the resident memory of a process, in bytes."""
    status = Path("/proc", str(process), "status").read_text(encoding="utf-8")
    size = re.search(r"VmRSS:\s+(\d+)", status)
    assert size is not None
    return int(size[1]) * 1024


if __name__ == "__main__":
    main()
