// What the page of `torchlift serve` and the page without a server share.

export const $ = (id) => document.getElementById(id);

export function element(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

export function percent(probability) {
  return probability === null ? "not a number" : `${(100 * probability).toFixed(1)} %`;
}

/** Return a line with a class, its probability and a bar. */
export function predictionLine(prediction) {
  const line = document.createElement("li");
  const name = element("div", "");
  name.className = "name";
  name.append(element("span", prediction.label), element("span", percent(prediction.probability)));
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = prediction.probability ?? 0;
  bar.setAttribute("aria-label", `Probability of ${prediction.label}`);
  line.dataset.probability = prediction.probability;
  line.dataset.index = prediction.index;
  line.append(name, bar);
  return line;
}

/** Show what a file says of itself, what runs it, and how its check ended. */
export function showCard(card, others) {
  const facts = [
    ...others,
    ["SHA-256", card.sha256],
    ["Gives", card.output_kind],
    ["Arithmetic", card.arithmetic],
    ["Classes", card.labels && String(card.labels.length)],
    ["Preprocessing", card.preprocessing && describe(card.preprocessing)],
    ["Output image", card.image_to_image && describe(card.image_to_image)],
    ["Source", card.source && Object.values(card.source).join(", SHA-256 ")],
    ["Written by", card.torchlift_version && `torchlift ${card.torchlift_version}`],
    ["Check report", card.check ? verdict(card.check) : "none beside the file"],
  ];
  $("card").replaceChildren(
    ...facts.filter(([, value]) => value).flatMap(([term, value]) => [
      element("dt", term), element("dd", value),
    ]),
  );
  $("labels").textContent = card.labels ? card.labels.join(", ") : "The file has no labels.";
}

function describe(preprocessing) {
  const shown = Object.entries(preprocessing).filter(
    ([, value]) => value !== null && value !== false && String(value) !== "",
  );
  return shown.map(([name, value]) => `${name} ${[].concat(value).join(", ")}`).join("; ");
}

function verdict(check) {
  const agreeing = check.count ? `, ${check.agreeing} of ${check.count} predictions agree` : "";
  return `${check.passed ? "passed" : "FAILED"}, profile ${check.profile}${agreeing}`;
}

/**
 * Call `use` with a list of images whenever some are chosen, dropped, pasted, or taken by the
 * camera, which `say` tells about. `ready` tells whether images are taken now.
 */
export function takeImages(use, say, ready) {
  let stream = null;
  const images = (list) => [...(list ?? [])].filter((file) => file.type.startsWith("image/"));
  const take = (list) => list.length && ready() && use(list);
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    take([...$("file").files]);
    $("file").value = "";
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    take(images(event.dataTransfer.files));
  });
  document.addEventListener("paste", (event) => take(images(event.clipboardData.files)));
  $("camera").addEventListener("click", async () => {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      $("video").srcObject = stream;
      await $("video").play();
      $("camera-box").hidden = false;
      $("shoot").focus();
    } catch {
      say("The camera cannot be used here: it needs HTTPS or this machine.");
    }
  });
  $("stop").addEventListener("click", () => {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    $("camera-box").hidden = true;
    $("camera").focus();
  });
  $("shoot").addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [$("video").videoWidth, $("video").videoHeight];
    canvas.getContext("2d").drawImage($("video"), 0, 0);
    canvas.toBlob((blob) => blob && take([new File([blob], "camera.png")]), "image/png");
  });
}
