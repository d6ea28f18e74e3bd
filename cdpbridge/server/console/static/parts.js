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

/** A button. One that is disabled for a while keeps the focus, which the attribute `disabled` would take away. */
export function button(text, onclick, { kind = "", label, disabled = false, key } = {}) {
  return h(`button${kind ? `.${kind}` : ""}`, { type: "button", onclick: disabled ? null : onclick, "aria-disabled": disabled ? "true" : null, "aria-label": label, key }, text);
}

/** Why what a form has asked for was not done. */
export function problem(state) {
  return state.problem ? h("p.notice.bad", { key: "problem", role: "alert" }, state.problem) : null;
}

/** The form of a dialog. What goes wrong is said in it: the rest of the page is out of reach meanwhile. */
export function dialogForm(state, actions, { title, name, word, waiting, kind = "primary", disabled = false, submit }, ...fields) {
  const busy = state.busy.has(name);
  return h(
    "form",
    {
      async onsubmit(event) {
        event.preventDefault();
        if (!disabled && !busy) await submit(new FormData(event.target));
      },
    },
    h("h2", { id: "dialog-title" }, title),
    fields,
    problem(state),
    h("div.actions", {}, button("Cancel", actions.close), h(`button.${kind}`, { type: "submit", "aria-disabled": busy || disabled ? "true" : null }, busy ? waiting : word)),
  );
}

/** A question ahead of what cannot be taken back; the dialog has its words, and `work` for a yes. */
export function confirmDialog(state, actions) {
  const { title, text, word, work } = state.dialog;
  function submit() {
    actions.close();
    work();
  }
  return dialogForm(state, actions, { title, name: "confirm", word, waiting: word, kind: "danger", submit }, h("p", {}, text));
}

/** A labelled field of a form. */
export function field(name, text, control, hint) {
  const [tag, properties, ...children] = control;
  const about = hint ? `${name}-hint` : null;
  return h(
    "div.field",
    { key: name },
    h("label", { for: name }, text),
    h(tag, { id: name, name, "aria-describedby": about, ...properties }, children),
    hint ? h("p.hint", { id: about }, hint) : null,
  );
}

/** A button that copies `text`, and says for a while that it has. */
export function copyButton(text, state, actions, { word = "Copy", name = word } = {}) {
  const copied = state.copied === name;
  return button(copied ? "Copied" : word, () => actions.copy(text, name), { label: copied || name === word ? null : `${word} ${name}` });
}

/** A code block with a button that copies it; `text` is what is shown, `whole` what is copied. */
export function snippet(text, whole, label, state, actions) {
  return h(
    "div.snippet",
    {},
    h("div.line", {}, h("span", {}, label), copyButton(whole, state, actions, { name: label })),
    h("pre", { tabindex: "0", role: "region", "aria-label": label }, h("code", {}, text)),
  );
}

/** On a phone each row is a block, and each cell tells its column; a dense one has two lines of plain values. */
export function table(caption, heads, rows, { dense = false } = {}) {
  for (const row of rows) row.children.forEach((cell, place) => { cell.properties["data-label"] = heads[place]; });
  return h(
    "div.scroll",
    { tabindex: "0", role: "region", "aria-label": caption },
    h(
      dense ? "table.dense" : "table",
      {},
      h("caption.visually-hidden", {}, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows),
    ),
  );
}
