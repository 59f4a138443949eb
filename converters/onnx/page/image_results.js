// What a page shows of an image that a network made: it and the one before, and a link to save it.
import { element } from "./shared.js";

/** Show what was made of an image, and return what to say of it. */
export function show(result, { png, made, counts }, card) {
  const url = URL.createObjectURL(png);
  const after = document.createElement("img");
  [after.src, after.alt] = [url, `${result.name}, after`];
  [after.width, after.height] = [made.width, made.height];
  result.article.prepend(comparison(result, after));
  const link = element("a", "Save as PNG");
  [link.href, link.download] = [url, `${result.name.replace(/\.[^.]*$/, "")}-${card.model}.png`];
  link.setAttribute("aria-label", `Save as PNG: ${link.download}`);
  link.className = "button";
  result.status.after(link);
  if (counts) result.list.replaceChildren(...classLines(counts, card));
  return `${made.width}×${made.height}`;
}

export function clear() {}

export function start() {}

/** Return two images, one on the other, and a slider that says how much of each is seen. */
function comparison({ preview, name }, after) {
  const [both, slider] = [element("div", ""), document.createElement("input")];
  const figure = element("figure", "");
  both.className = "comparison";
  preview.className = "before";
  preview.alt = `${name}, before`;
  both.append(after, preview);
  [slider.type, slider.min, slider.max, slider.value] = ["range", 0, 100, 50];
  slider.setAttribute("aria-label", `How much of ${name} is seen as it was before`);
  const move = () => both.style.setProperty("--seen", `${slider.value}%`);
  slider.addEventListener("input", move);
  const point = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const { left, width } = both.getBoundingClientRect();
    slider.value = (100 * (event.clientX - left)) / width;
    move();
  };
  both.addEventListener("pointerdown", point);
  both.addEventListener("pointermove", point);
  // The browser's own drag of an image would take the pointer.
  both.addEventListener("dragstart", (event) => event.preventDefault());
  move();
  const caption = element("figcaption", "");
  caption.append(element("span", "before"), slider, element("span", "after"));
  figure.append(both, caption);
  return figure;
}

/** Return a line for each class that has pixels, the most frequent first. */
function classLines(counts, { labels, image: { palette } }) {
  const all = counts.reduce((one, other) => one + other, 0);
  return counts
    .map((count, index) => ({ count, index, label: labels ? labels[index] : String(index) }))
    .filter(({ count }) => count)
    .sort((one, other) => other.count - one.count)
    .map(({ count, index, label }) => {
      const [line, color, row] = [element("li", ""), element("span", ""), element("div", "")];
      color.className = "swatch";
      color.style.backgroundColor = `rgb(${palette.slice(3 * index, 3 * index + 3).join()})`;
      const name = element("span", "");
      name.append(color, label);
      row.className = "name";
      row.append(name, element("span", `${((100 * count) / all).toFixed(1)} %`));
      line.dataset.index = index;
      line.dataset.count = count;
      line.append(row);
      return line;
    });
}
