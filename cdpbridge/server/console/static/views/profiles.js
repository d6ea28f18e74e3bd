import * as api from "../api.js";
import { h } from "../dom.js";
import { ago, moment } from "../format.js";
import { nameOf } from "../orders.js";
import { button, dialogForm, empty, field, table } from "../parts.js";

const SHOWN = 6;

export function profilesView(state, actions) {
  const { profiles } = state.snapshot;
  return [
    h("div.heading", {}, h("h1", {}, "Profiles"), h("div.actions", {}, button("New profile", () => actions.open({ kind: "profile" }), { kind: "primary" }))),
    profiles.length
      ? table(
          "Profiles",
          ["Name", "Cookies of", "Last used", "Saved", ""],
          profiles.map((profile) => row(profile, state, actions)),
        )
      : empty("No profile yet", "A profile keeps cookies, localStorage and IndexedDB from one browser to the next. ", h("code", {}, 'open_browser(profile="work")'), " makes one."),
  ];
}

function row(profile, state, actions) {
  const domains = profile.cookieDomains;
  const name = nameOf(profile, state.snapshot.profiles);
  return h(
    "tr",
    { key: profile.id },
    h("th.wrap", { scope: "row" }, name),
    h(
      "td",
      { title: domains?.join(", ") },
      !domains?.length ? h("span.hint", {}, "none") : [domains.slice(0, SHOWN).map((domain) => [h("span.chip", { key: domain }, domain), " "]), domains.length > SHOWN ? `and ${domains.length - SHOWN} more` : null],
    ),
    h("td", { title: moment(profile.lastUsedAt) }, ago(profile.lastUsedAt, actions.now())),
    // `updatedAt` is that of a rename, too: without cookies' domains, nothing was ever saved.
    domains === null ? h("td", {}, "never") : h("td", { title: moment(profile.updatedAt) }, ago(profile.updatedAt, actions.now())),
    h(
      "td.actions",
      {},
      button("Rename", () => actions.open({ kind: "profile", profile }), { label: `Rename ${name}` }),
      button("Delete", () => actions.open(deletion(profile, name, actions)), { kind: "danger", label: `Delete ${name}`, disabled: state.busy.has(`delete ${profile.id}`) }),
    ),
  );
}

function deletion(profile, name, actions) {
  const work = () => actions.act(`delete ${profile.id}`, () => api.remove(`/profiles/${profile.id}`), "Profile deleted.");
  return { kind: "confirm", title: "Delete the profile?", text: `"${name}" goes with everything it has saved: cookies, logins, local storage.`, word: "Delete", work };
}

export function profileDialog(state, actions) {
  const { profile } = state.dialog;
  async function submit(values) {
    const name = values.get("name").trim();
    const twin = state.snapshot.profiles.some((other) => other.name === name && other.id !== profile?.id);
    const done = `${profile ? "Profile renamed" : "Profile made"}${twin ? "; another one has that name, too" : ""}.`;
    const work = profile ? () => api.change(`/profiles/${profile.id}`, { name }) : () => api.post("/profiles", { name });
    if (await actions.act("profile", work, done)) actions.close();
  }
  return dialogForm(
    state,
    actions,
    { title: profile ? "Rename profile" : "New profile", name: "profile", word: profile ? "Rename" : "Make", waiting: "Saving...", submit },
    field("name", "Name", ["input", { required: true, maxlength: 100, autofocus: true, initial: profile?.name ?? "" }]),
  );
}
