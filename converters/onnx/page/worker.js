// Decodes images and runs the model, off the page's own thread.
import * as wasm from "./ort.wasm.min.mjs";
import { transform } from "./transform.js";

let ort = wasm;
let session = null;
let card = null;

/** Fetch a file whose size is known, and tell how far it is. */
async function fetchFile(file, bytes) {
  const response = await fetch(new URL(encodeURIComponent(file), import.meta.url));
  if (!response.ok) throw new Error(`${file}: ${response.status} ${response.statusText}`);
  const data = new Uint8Array(bytes);
  let read = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (read + value.length > bytes) throw new Error(`${file} is another file than the page's`);
    data.set(value, read);
    read += value.length;
    postMessage({ type: "progress", fraction: read / bytes });
  }
  if (read !== bytes) throw new Error(`${file} ends after ${read} of ${bytes} bytes`);
  return data;
}

async function load(message) {
  const start = performance.now();
  card = message.card;
  try {
    const data = await fetchFile(card.file, card.bytes);
    if (message.gpu) ort = await import("./ort.webgpu.min.mjs");
    // More threads need headers that a plain host does not send.
    ort.env.wasm.numThreads = 1;
    const executionProviders = message.gpu ? ["webgpu", "wasm"] : ["wasm"];
    session = await ort.InferenceSession.create(data, { executionProviders });
    const milliseconds = Math.round(performance.now() - start);
    postMessage({ type: "ready", provider: executionProviders[0], milliseconds });
  } catch (error) {
    postMessage({ type: "failed", text: `The model cannot be loaded: ${error.message}` });
  }
}

/** Return the pixels of an image, turned as EXIF says. */
async function decode(blob) {
  const bitmap = await createImageBitmap(blob, {
    colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image",
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, rgba: context.getImageData(0, 0, width, height).data };
}

/** Return the scores that a classifier gives. */
async function classify({ width, height, rgba }) {
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  const pixels = new ort.Tensor("uint8", rgb, [height, width, 3]);
  const outputs = await session.run({ [session.inputNames[0]]: pixels });
  return { scores: Float32Array.from(outputs[session.outputNames[0]].data) };
}

/** Return the image that a network makes of another, as a PNG file. */
async function remake(image) {
  const { width, height, rgba, counts } = await transform(ort, session, image, card.image);
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(new ImageData(rgba, width, height), 0, 0);
  return { png: await canvas.convertToBlob({ type: "image/png" }), counts, made: { width, height } };
}

async function run({ id, blob }) {
  const start = performance.now();
  let image;
  try {
    image = await decode(blob);
  } catch {
    postMessage({ type: "problem", id, text: "no image that this browser can read" });
    return;
  }
  try {
    const answer = await (card.image ? remake(image) : classify(image));
    const { width, height } = image;
    const milliseconds = Math.round(performance.now() - start);
    postMessage({ type: "result", id, width, height, milliseconds, ...answer });
  } catch (error) {
    postMessage({ type: "problem", id, text: `the model fails: ${error.message}` });
  }
}

// One image at a time, in the order in which they came.
let last = Promise.resolve();
addEventListener("message", ({ data }) => {
  last = last.then(() => (data.type === "load" ? load(data) : run(data)));
});
