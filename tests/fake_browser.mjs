// What the pages' scripts need of a browser, for node: elements keep what they are given.

class Element {
  constructor(kind) {
    Object.assign(this, { kind, children: [], attributes: {}, dataset: {}, listeners: {} });
    Object.assign(this, { textContent: "", hidden: false, disabled: false, value: "" });
    const [style, names] = [{}, new Set()];
    this.style = Object.assign(style, { setProperty: (name, value) => { style[name] = value; } });
    this.classList = { add: (name) => names.add(name), remove: (name) => names.delete(name), names };
  }
  append(...others) { this.children.push(...others); }
  prepend(...others) { this.children.unshift(...others); }
  after(other) { this.next = other; }
  replaceChildren(...others) { this.children = others; }
  setAttribute(name, value) { this.attributes[name] = value; }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  /** Let something happen to the element. */
  async fire(name, event = {}) {
    return this.listeners[name]?.({ preventDefault() {}, type: name, ...event });
  }
  click() { clicked.push(this); return this.fire("click"); }
  focus() { document.activeElement = this; }
  querySelectorAll(kind) {
    const inner = this.children.filter((one) => one instanceof Element);
    return inner.flatMap((one) => [...(one.kind === kind ? [one] : []), ...one.querySelectorAll(kind)]);
  }
  getBoundingClientRect() { return { left: 100, width: 200 }; }
  /** All of its text, of what is in it too. */
  get text() {
    return [this.textContent, ...this.children.map((one) => one.text ?? one)].filter(Boolean).join(" ");
  }
}

const byId = new Map();
/** The elements that were clicked by a script. */
export const clicked = [];
/** Objects by their URLs; those that were given back. */
export const urls = new Map();
export const revoked = [];

globalThis.document = Object.assign(new Element("document"), {
  createElement: (kind) => new Element(kind),
  getElementById(id) {
    if (!byId.has(id)) byId.set(id, new Element(id));
    return byId.get(id);
  },
});
globalThis.$ = document.getElementById;
URL.createObjectURL = (object) => {
  urls.set(`blob:${urls.size}`, object);
  return `blob:${urls.size - 1}`;
};
URL.revokeObjectURL = (url) => revoked.push(url);

/** Wait until what is under way without timers has ended. */
export const settled = () => new Promise((resolve) => { setTimeout(resolve, 5); });
