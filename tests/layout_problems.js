// Returns the layout problems of the page, one sentence for each.
() => {
  const problems = [];
  const screen = document.documentElement;
  const width = screen.clientWidth;
  const text = (e) => (e.textContent || e.alt || "").trim().slice(0, 40);
  const name = (e) => `<${e.tagName.toLowerCase()}> ${text(e)}`;
  const shown = (e) => e.getClientRects().length > 0;
  const style = (e) => getComputedStyle(e);

  if (screen.scrollWidth > width) {
    problems.push(`the page is ${screen.scrollWidth} px wide, the screen ${width} px`);
  }

  for (const e of [...document.body.querySelectorAll("*")].filter(shown)) {
    const box = e.getBoundingClientRect();
    // The content of a scrolling region may extend beyond the screen.
    const scrolls = (other) => ["auto", "scroll"].includes(style(other).overflowX);
    let region = e.parentElement;
    while (region && !scrolls(region)) region = region.parentElement;
    if (!region && (box.left < -0.5 || box.right > width + 0.5)) {
      problems.push(`${name(e)} extends from ${box.left} to ${box.right}`);
    }
    const block = style(e).display !== "inline" && e.clientWidth > 0;
    if (block && !scrolls(e) && e.scrollWidth > e.clientWidth + 1) {
      problems.push(`${name(e)} is clipped`);
    }
  }

  // Siblings must not overlap.
  const parents = "body, header, main, section, figure, .text, nav ol, ol, ul, li, dl, tr";
  for (const parent of document.querySelectorAll(parents)) {
    const children = [...parent.children].filter(shown);
    children.forEach((a, index) => {
      const p = a.getBoundingClientRect();
      for (const b of children.slice(index + 1)) {
        if (style(a).display === "inline" || style(b).display === "inline") continue;
        const q = b.getBoundingClientRect();
        const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (across > 1 && down > 1) problems.push(`${name(a)} overlaps ${name(b)}`);
      }
    });
  }
  return problems;
}
