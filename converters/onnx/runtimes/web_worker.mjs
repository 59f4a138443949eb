// One .onnx file in onnxruntime-web: node web_worker.mjs PACKAGE MODEL FOLDER.
// It answers as worker.py does, whose first lines say how.
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [place, model, folder] = process.argv.slice(2);
const answer = (values) => process.stdout.write(`${JSON.stringify(values)}\n`);
// The runtime's own messages go to stderr.
console.log = console.error;

// numpy's name of a dtype: that of onnxruntime-web, and the array that holds its numbers.
const TYPES = {
  f4: ["float32", Float32Array],
  f8: ["float64", Float64Array],
  f2: ["float16", Uint16Array],
  u1: ["uint8", Uint8Array],
  i1: ["int8", Int8Array],
  u2: ["uint16", Uint16Array],
  i2: ["int16", Int16Array],
  u4: ["uint32", Uint32Array],
  i4: ["int32", Int32Array],
  u8: ["uint64", BigUint64Array],
  i8: ["int64", BigInt64Array],
  b1: ["bool", Uint8Array],
};

function readArray(ort, file) {
  const bytes = readFileSync(file);
  const start = bytes[6] === 1 ? 10 : 12;
  const length = bytes[6] === 1 ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8);
  const header = bytes.toString("latin1", start, start + length);
  const [type, Numbers] = TYPES[/'descr': '.(..)'/.exec(header)[1]];
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((size) => size.trim());
  const data = new Uint8Array(bytes.subarray(start + length)).buffer;
  return new ort.Tensor(type, new Numbers(data), shape.map(Number));
}

function writeArray(file, tensor) {
  const [name] = Object.entries(TYPES).find(([, [type]]) => type === tensor.type);
  const shape = tensor.dims.map((size) => `${size},`).join("");
  const sign = name.endsWith("1") ? "|" : "<";
  const text = `{'descr': '${sign}${name}', 'fortran_order': False, 'shape': (${shape}), }`;
  const padded = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + "\n";
  const head = Buffer.from(`\x93NUMPY\x01\x00..${padded}`, "latin1");
  head.writeUInt16LE(padded.length, 8);
  const { buffer, byteOffset, byteLength } = tensor.data;
  writeFileSync(file, Buffer.concat([head, Buffer.from(buffer, byteOffset, byteLength)]));
}

const reason = (error) => error?.message || String(error);

let ort, session;
try {
  ort = await import(pathToFileURL(`${place}/dist/ort.wasm.min.mjs`).href);
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "fatal";
  answer({ version: ort.env.versions.web });
  session = await ort.InferenceSession.create(readFileSync(model), { executionProviders: ["wasm"] });
} catch (error) {
  answer({ problem: reason(error) });
  process.exit();
}
answer({ arithmetic: "CPU, WebAssembly" });
for await (const line of createInterface({ input: process.stdin })) {
  const { inputs, outputs } = JSON.parse(line);
  try {
    const feeds = inputs.map((name, i) => [name, readArray(ort, `${folder}/input-${i}.npy`)]);
    const results = await session.run(Object.fromEntries(feeds), outputs);
    outputs.forEach((name, i) => writeArray(`${folder}/output-${i}.npy`, results[name]));
    answer({});
  } catch (error) {
    answer({ problem: reason(error) });
  }
}
