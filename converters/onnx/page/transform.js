// From the pixels of an image to what a network makes of them, as `torchlift apply` does.

// What red, green and blue give to the brightness: of Pillow's gray, in whole numbers, and of YUV.
const GRAY = [19595, 38470, 7471];
const BRIGHTNESS = [0.299, 0.587, 0.114];

/**
 * Return the pixels that a model makes of an image, `{ width, height, rgba, counts }`; `counts`
 * says how many pixels each class has, where the model gives classes.
 */
export async function transform(ort, session, image, card) {
  const [rows, columns] = [extended(image.height, card), extended(image.width, card)];
  const input = toInput(ort, image, rows, columns, card);
  const outputs = await session.run({ [session.inputNames[0]]: input });
  const output = outputs[session.outputNames[0]];
  const made = cut(output.data, size(output.dims, image, rows, columns, card), image, card);
  if (card.gives_classes) return classMap(made, card);
  return toPixels(made, card.keeps_color ? image : null, card);
}

/** Return which pixel of a side stands at each place, when its border's pixels are repeated. */
function extended(side, { border, multiple }) {
  const length = Math.ceil((side + 2 * border) / multiple) * multiple;
  return Int32Array.from({ length }, (_, place) => Math.min(Math.max(place - border, 0), side - 1));
}

function toInput(ort, { rgba, width }, rows, columns, { takes_image, order, levels }) {
  const [pixels, channels] = [rows.length * columns.length, order.length || 1];
  const data = new (levels ? Float32Array : Uint8Array)(pixels * channels);
  const [ofPixel, ofChannel] = takes_image ? [channels, 1] : [1, pixels];
  let to = 0;
  for (const row of rows) {
    for (const column of columns) {
      const from = 4 * (row * width + column);
      for (let channel = 0; channel < channels; channel++) {
        const byte = order.length ? rgba[from + order[channel]] : gray(rgba, from);
        data[to + channel * ofChannel] = levels ? levels[channel][byte] : byte;
      }
      to += ofPixel;
    }
  }
  const sides = [rows.length, columns.length];
  const dims = takes_image ? [...sides, channels] : [1, channels, ...sides];
  return new ort.Tensor(levels ? "float32" : "uint8", data, dims);
}

function gray(rgba, from) {
  const sum = GRAY[0] * rgba[from] + GRAY[1] * rgba[from + 1] + GRAY[2] * rgba[from + 2];
  return (sum + 32768) >> 16;
}

/** Return height and width of an output; some networks flatten the image that they give. */
function size(dims, image, rows, columns, { scale, channels }) {
  if (dims.length === 4) return dims.slice(2);
  const pixels = dims[1] / channels;
  const [height, width] = [rows.length * scale, columns.length * scale];
  for (let lost = 0; lost < Math.min(height, width); lost++) {
    if ((height - lost) * (width - lost) === pixels) return [height - lost, width - lost];
  }
  throw new Error(`its output of ${dims.slice(1).join("×")} is no image`);
}

/** Return the part of an output that belongs to the image as it was. */
function cut(data, [rows, columns], image, { scale, channels }) {
  const [height, width] = scale ? [image.height * scale, image.width * scale] : [rows, columns];
  if (rows < height || columns < width) {
    throw new Error(`it gives ${rows}×${columns} pixels, fewer than the ${height}×${width} of the image`);
  }
  const value = (channel, row, column) => data[(channel * rows + row) * columns + column];
  return { height, width, channels, value };
}

function classMap({ height, width, channels, value }, { palette }) {
  const rgba = new Uint8ClampedArray(4 * height * width).fill(255);
  const counts = new Array(channels).fill(0);
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++, to += 4) {
      let best = 0;
      for (let channel = 1; channel < channels; channel++) {
        if (value(channel, row, column) > value(best, row, column)) best = channel;
      }
      counts[best]++;
      rgba.set(palette.slice(3 * best, 3 * best + 3), to);
    }
  }
  return { height, width, rgba, counts };
}

/** Return an output as bytes; a given image keeps its colors, and gets the output's brightness. */
function toPixels({ height, width, channels, value }, colored, { out_order, gain, offset }) {
  const rgba = new Uint8ClampedArray(4 * height * width).fill(255);
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++, to += 4) {
      for (let color = 0; color < 3; color++) {
        const channel = channels === 1 ? 0 : out_order[color];
        const level = value(channel, row, column) * gain[channel] + offset[channel];
        if (!Number.isFinite(level)) throw new Error("a value of its output is not a number");
        // Such an array clips, and rounds a half to the even number.
        rgba[to + color] = level;
      }
      if (colored) recolor(rgba, to, colored.rgba);
    }
  }
  return { height, width, rgba, counts: null };
}

/** Give a gray pixel the colors of another image, whose brightness it keeps. */
function recolor(rgba, at, colors) {
  const brightness = BRIGHTNESS.reduce((sum, part, color) => sum + part * colors[at + color], 0);
  const change = rgba[at] - brightness;
  for (let color = 0; color < 3; color++) rgba[at + color] = colors[at + color] + change;
}
