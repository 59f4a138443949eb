// What is wrong with the layout of the page, a sentence each.
() => {
  const problems = [];
  const screen = document.documentElement;
  const width = screen.clientWidth;
  const words = (e) => (e.textContent || e.alt || "").trim().slice(0, 40);
  const name = (e) => `<${e.tagName.toLowerCase()}> ${words(e)}`;
  const shown = (e) => e.getClientRects().length > 0;
  const style = (e) => getComputedStyle(e);

  if (screen.scrollWidth > width) {
    problems.push(`the page is ${screen.scrollWidth} wide, the screen ${width}`);
  }

  for (const e of [...document.body.querySelectorAll("*")].filter(shown)) {
    const box = e.getBoundingClientRect();
    // What stands in a region that scrolls may reach beyond the screen.
    const scrolls = (each) => ["auto", "scroll"].includes(style(each).overflowX);
    let region = e.parentElement;
    while (region && !scrolls(region)) region = region.parentElement;
    if (!region && (box.left < -0.5 || box.right > width + 0.5)) {
      problems.push(`${name(e)} reaches from ${box.left} to ${box.right}`);
    }
    const block = style(e).display !== "inline" && e.clientWidth > 0;
    if (block && !scrolls(e) && e.scrollWidth > e.clientWidth + 1) {
      problems.push(`${name(e)} holds more than it shows`);
    }
  }

  // Neighbours in the flow of the page stand beside or below one another.
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
        if (across > 1 && down > 1) problems.push(`${name(a)} lies over ${name(b)}`);
      }
    });
  }
  return problems;
}
