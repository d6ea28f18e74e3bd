import * as api from "../api.js";
import { h } from "../dom.js";
import { ago, moment, short, size } from "../format.js";
import { badge, button, dialogForm, empty, field, table } from "../parts.js";

// The disk sends no event when it changes.
const ASKED_EVERY = 5_000;

export function filesView(state, actions) {
  const found = actions.detail("files", Math.floor(actions.now() / ASKED_EVERY), () => api.own("/files"));
  const upload = found?.files ? button("Upload a file", () => actions.open({ kind: "upload", types: found.uploadTypes, bytes: found.uploadBytes }), { kind: "primary" }) : null;
  const heading = h("div.heading", {}, h("h1", {}, "Files"), h("div.actions", {}, upload));
  if (!found) return [heading, h("p.loading", {}, "Loading the files...")];
  if (found.problem) return [heading, h("p.notice.bad", {}, found.problem)];
  if (!found.files.length) return [heading, empty("No file yet", "What is uploaded for a session, what its browser downloads, and what an agent writes, is listed here.")];
  return [
    heading,
    table(
      "Files, the last changed first",
      ["File", "Kind", "Size", "Changed", "Of"],
      found.files.map((file) => row(file, actions)),
    ),
    found.total > found.files.length ? h("p.hint", {}, `The newest ${found.files.length} of ${found.total}.`) : null,
  ];
}

function row(file, actions) {
  const owner = file.taskId ? ["tasks", file.taskId, "task"] : ["browsers", file.browserId, file.sessionId ? "session" : "browser"];
  return h(
    "tr",
    { key: file.path },
    h("th.wrap", { scope: "row" }, h("a", { href: api.linked(file.path), download: file.name, title: file.name }, file.name)),
    h("td", {}, badge(file.kind)),
    h("td.number", {}, size(file.size)),
    h("td", { title: moment(file.modifiedAt) }, ago(file.modifiedAt, actions.now())),
    h("td", {}, h("a", { href: `${location.pathname}#/${owner[0]}/${owner[1]}` }, `${owner[2]} ${short(owner[2] === "session" ? file.sessionId : owner[1])}`)),
  );
}

export function uploadDialog(state, actions) {
  const { types, bytes } = state.dialog;
  const candidates = state.snapshot.browsers.filter((browser) => browser.state === "active");
  const sessions = new Map(state.snapshot.sessions.map((session) => [session.browserId, session.id]));
  async function submit(values) {
    const file = values.get("file");
    const body = { fileName: file.name, contentType: file.type, sizeBytes: file.size };
    const id = values.get("browser");
    const sent = await actions.act("upload", async () => {
      const signed = await api.post(`/files/browsers/${id}/presigned-url`, body);
      await api.upload(signed, file);
      return signed;
    }, `Uploaded ${file.name}.`);
    if (!sent) return;
    actions.askAgain("files");
    actions.close();
  }
  const judge = ({ target }) => target.setCustomValidity(target.files[0] ? refusal(target.files[0], types, bytes) : "");
  return dialogForm(
    state,
    actions,
    { title: "Upload a file", name: "upload", word: "Upload", waiting: "Uploading...", disabled: !candidates.length, submit },
    candidates.length
      ? [
          field("browser", "For", ["select", { autofocus: true }, candidates.map((browser) => h("option", { key: browser.id, value: browser.id }, described(browser, sessions.get(browser.id))))]),
          field("file", "File", ["input", { type: "file", required: true, accept: types.join(","), onchange: judge }], `A picture, PDF, Word, Excel, text, CSV or Markdown file, ${size(bytes)} at most.`),
        ]
      : h("p.hint", {}, "A file is uploaded for a browser, and none is running."),
  );
}

/** Why the server would not take a file; empty when it would. */
function refusal(file, types, bytes) {
  if (!file.size) return "The file is empty.";
  if (file.size > bytes) return `The file has ${size(file.size)}, and ${size(bytes)} is the limit.`;
  return types.includes(file.type) ? "" : "Files of this kind are not taken.";
}

function described(browser, session) {
  const name = session ? `session ${short(session)}` : `browser ${short(browser.id)}`;
  return browser.profileName ? `${name}, ${browser.profileName}` : name;
}
