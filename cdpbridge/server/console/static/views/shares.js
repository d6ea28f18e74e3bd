import * as api from "../api.js";
import { h } from "../dom.js";
import { ago, moment, short } from "../format.js";
import { badge, button, dialogForm, empty, field, table } from "../parts.js";

const OVER = new Set(["stopped", "failed"]);

export function sharesView(state, actions) {
  const { shares } = state.snapshot;
  return [
    h("div.heading", {}, h("h1", {}, "Shares"), h("div.actions", {}, button("Share a session", () => actions.open({ kind: "share" }), { kind: "primary" }))),
    h("p.hint", {}, "Anyone who has the address of a share can watch its session, and cannot take it over. Deleting the share disconnects its viewers."),
    shares.length
      ? table(
          "Shares, newest first",
          ["Session", "Status", "Views", "Last viewed", "Shared", ""],
          shares.map((share) => row(share, state, actions)),
        )
      : empty("Nothing is shared", "A session of an agent can be shared with people who have no key."),
  ];
}

function row(share, state, actions) {
  const session = state.snapshot.sessions.find((candidate) => candidate.id === share.sessionId);
  return h(
    "tr",
    { key: share.sessionId },
    h("th", { scope: "row" }, session ? h("a", { href: `${location.pathname}#/browsers/${session.browserId}`, title: "Its browser" }, short(share.sessionId)) : short(share.sessionId)),
    h("td", {}, session ? badge(session.state) : ""),
    h("td.number", {}, String(share.views)),
    h("td", { title: moment(share.lastViewedAt) }, ago(share.lastViewedAt, actions.now())),
    h("td", { title: moment(share.createdAt) }, ago(share.createdAt, actions.now())),
    h("td.actions", {}, sharedButtons(share.sessionId, state, actions)),
  );
}

const pathOf = (id) => `/sessions/${id}/public-share`;

function copyAddress(share, actions) {
  return share && actions.copy(share.shareUrl);
}

/** Make a share and copy its address; whether it was made. */
async function makeShare(id, actions) {
  const share = await actions.act(`share ${id}`, () => api.post(pathOf(id)), "Shared.");
  copyAddress(share, actions);
  return Boolean(share);
}

/** What can be done with the share of a session. */
export function sharedButtons(id, state, actions) {
  const again = async () => copyAddress(await actions.act(`share ${id}`, () => api.get(pathOf(id))), actions);
  const unshare = () => actions.act(`unshare ${id}`, () => api.remove(pathOf(id)), "No longer shared.");
  return [
    button("Copy address", again, { key: "copy", label: `Copy address of the share of session ${short(id)}`, disabled: state.busy.has(`share ${id}`) }),
    button("Unshare", unshare, { key: "unshare", label: `Unshare session ${short(id)}`, disabled: state.busy.has(`unshare ${id}`) }),
  ];
}

export function shareButton(id, state, actions) {
  return button("Share", () => makeShare(id, actions), { key: "share", label: `Share session ${short(id)}`, disabled: state.busy.has(`share ${id}`) });
}

export function shareDialog(state, actions) {
  const { sessions } = state.snapshot;
  const candidates = sessions.filter((session) => !session.shared && !OVER.has(session.state));
  async function submit(values) {
    if (await makeShare(values.get("session"), actions)) actions.close();
  }
  return dialogForm(
    state,
    actions,
    { title: "Share a session", name: "share", word: "Share and copy", waiting: "Sharing...", disabled: !candidates.length, submit },
    candidates.length
      ? field("session", "Session", ["select", { autofocus: true }, candidates.map((session) => h("option", { key: session.id, value: session.id }, `${short(session.id)}, started ${ago(session.startedAt, actions.now())}`))])
      : h("p.hint", {}, "There is no running session that is not shared yet."),
  );
}
