"""The worker of onnxruntime-web in node: arrays on their way in and out, and what it says.

The package is replaced by a few lines that give back what they are given; skipped without node.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from torchlift.converters.onnx import InstalledRuntime, OnnxError
from torchlift.converters.onnx.runtimes import installed
from torchlift.converters.onnx.runtimes.session import RuntimeSession

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

#: Gives the tensor of the same name back, the last one first, its numbers behind others in memory;
#: a file of one byte is none, an input `bad` no input.
STAND_IN = """
export const env = { wasm: {}, versions: { web: "9.8.7" } };
const ARRAYS = {
  float16: "Uint16Array", bool: "Uint8Array", int64: "BigInt64Array", uint64: "BigUint64Array",
};
export class Tensor {
  constructor(type, data, dims) {
    const count = dims.reduce((one, other) => one * other, 1);
    if (data.length !== count) throw new Error(`${data.length} numbers, ${count} expected`);
    const kind = ARRAYS[type] ?? `${type[0].toUpperCase()}${type.slice(1)}Array`;
    if (data.constructor.name !== kind) throw new Error(`${type} in ${data.constructor.name}`);
    const memory = new data.constructor(count + 2);
    memory.set(data, 1);
    Object.assign(this, { type, data: memory.subarray(1, count + 1), dims });
  }
}
export const InferenceSession = {
  async create(bytes, { executionProviders }) {
    console.log("what libraries print is no answer");
    if (bytes.length === 1) throw new Error("no graph");
    const settings = [env.wasm.numThreads, env.logLevel, ...executionProviders].join();
    if (settings !== "1,fatal,wasm") throw new Error(settings);
    return {
      async run(feeds, names) {
        if (feeds.bad) throw "no kernel";
        return Object.fromEntries(names.toReversed().map((name) => [name, feeds[name]]));
      },
    };
  },
};
"""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> InstalledRuntime:
    package = tmp_path_factory.mktemp("package")
    (package / "dist").mkdir()
    (package / "dist" / "ort.wasm.min.mjs").write_text(STAND_IN, encoding="utf-8")
    worker = Path(installed.__file__).parent / "web_worker.mjs"
    return InstalledRuntime("web", (str(NODE), str(worker), str(package)))


def test_arrays_of_every_type_and_shape_come_back_as_they_went(
    runtime: InstalledRuntime, tmp_path: Path
) -> None:
    (tmp_path / "f.onnx").write_bytes(b"a graph")
    kinds = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
    arrays = {
        kind: np.arange(-3, 9).reshape(2, 3, 2).astype(kind) if kind[0] in "fi"
        else (np.arange(12) % 5).reshape(2, 3, 2).astype(kind)
        for kind in kinds
    }  # fmt: skip
    arrays |= {
        "scalar": np.array(1.5, np.float32),
        "one": np.array([-(2**62)], np.int64),
        "largest": np.array([[2**64 - 1]], np.uint64),
        "empty": np.zeros((0, 3), np.float32),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    with RuntimeSession(runtime, tmp_path / "f.onnx") as session:
        assert (session.version, session.arithmetic) == ("9.8.7", "CPU, WebAssembly")
        for names in ([*arrays], ["turned", "i8", "f4"]):
            found = session.run(arrays, names)
            for name, array in zip(names, found, strict=True):
                assert (array.dtype, array.shape) == (arrays[name].dtype, arrays[name].shape), name
                assert np.array_equal(array, arrays[name]), name


def test_what_fails_is_said_in_the_words_of_the_runtime(
    runtime: InstalledRuntime, tmp_path: Path
) -> None:
    (tmp_path / "f.onnx").write_bytes(b"a graph")
    (tmp_path / "damaged.onnx").write_bytes(b"a")
    with (
        pytest.raises(OnnxError, match=r"^web fails, opening the file: no graph$"),
        RuntimeSession(runtime, tmp_path / "damaged.onnx"),
    ):
        pass
    number = np.ones((1, 2), np.float32)
    with RuntimeSession(runtime, tmp_path / "f.onnx") as session:
        with pytest.raises(OnnxError, match=r"^web fails, running inputs of 1×2: no kernel$"):
            session.run({"bad": number}, ["bad"])
        # It goes on.
        assert session.run({"x": number}, ["x"])[0].tolist() == [[1, 1]]
    missing = InstalledRuntime("web", (*runtime.command[:2], str(tmp_path)))
    with (
        pytest.raises(OnnxError, match=r"^web fails, starting: Cannot find module"),
        RuntimeSession(missing, tmp_path / "f.onnx"),
    ):
        pass
