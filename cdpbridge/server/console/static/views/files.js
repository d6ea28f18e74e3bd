import * as api from "../api.js";
import { h } from "../dom.js";
import { ago, moment, short, size } from "../format.js";
import { badge, empty, table } from "../parts.js";

// The disk tells nobody that it has changed.
const ASKED_EVERY = 5_000;

export function filesView(state, actions) {
  const found = actions.detail("files", Math.floor(actions.now() / ASKED_EVERY), () => api.own("/files"));
  const heading = h("div.heading", {}, h("h1", {}, "Files"));
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
    h("th.told", { scope: "row" }, h("a", { href: file.path, download: file.name, title: file.name }, file.name)),
    h("td", {}, badge(file.kind)),
    h("td.number", {}, size(file.size)),
    h("td", { title: moment(file.modifiedAt) }, ago(file.modifiedAt, actions.now())),
    h("td", {}, h("a", { href: `${location.pathname}#/${owner[0]}/${owner[1]}` }, `${owner[2]} ${short(owner[2] === "session" ? file.sessionId : owner[1])}`)),
  );
}
