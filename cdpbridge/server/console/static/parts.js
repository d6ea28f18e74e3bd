// What several views are made of.

import { h } from "./dom.js";

export function badge(word, kind) {
  return h(`span.badge.${kind ?? word}`, {}, word);
}

export function empty(title, ...text) {
  return h("div.empty", {}, h("h3", {}, title), h("p", {}, text));
}

export function fact(name, ...value) {
  return h("div.fact", {}, h("dt", {}, name), h("dd", {}, value));
}

export function button(text, onclick, { kind = "", label, disabled = false, key } = {}) {
  return h(`button${kind ? `.${kind}` : ""}`, { type: "button", onclick, disabled, "aria-label": label, key }, text);
}

/** A code block with a button that copies it. */
export function snippet(text, copied, label) {
  return h("div.snippet", {}, h("pre", { tabindex: "0", "aria-label": label }, h("code", {}, text)), button("Copy", () => copied(text), { label: `Copy ${label}` }));
}

export function table(caption, heads, rows) {
  return h(
    "div.scroll",
    { tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption.visually-hidden", {}, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows),
    ),
  );
}
