// The console: state, routes, and what people do. Views are functions of the state; `patch` brings the page up to date.

import * as api from "./api.js";
import { h, patch } from "./dom.js";
import { usd } from "./format.js";
import { button, confirmDialog } from "./parts.js";
import { accountView } from "./views/account.js";
import { agentsView, taskView } from "./views/agents.js";
import { browserView, browsersView, createDialog } from "./views/browsers.js";
import { filesView, uploadDialog } from "./views/files.js";
import { sessionDialog, taskDialog } from "./views/new-work.js";
import { grantDialog, keyDialog, operatorProjectDialog } from "./views/operator.js";
import { profileDialog, profilesView } from "./views/profiles.js";
import { shareDialog, sharesView } from "./views/shares.js";
import { signInView } from "./views/sign-in.js";

const VIEWS = [
  ["browsers", "Browsers", browsersView],
  ["agents", "Agents", agentsView],
  ["shares", "Shares", sharesView],
  ["files", "Files", filesView],
  ["profiles", "Profiles", profilesView],
  ["account", "Account", accountView],
];
const DIALOGS = { create: createDialog, session: sessionDialog, task: taskDialog, share: shareDialog, upload: uploadDialog, profile: profileDialog, key: keyDialog, project: operatorProjectDialog, grant: grantDialog, confirm: confirmDialog };
const root = document.getElementById("app");
const announcements = document.getElementById("announcements");

export const state = {
  signedIn: null,
  snapshot: null,
  link: "connecting",
  route: [],
  dialog: null,
  busy: new Set(),
  problem: null,
  notices: [],
  copied: null,
  details: new Map(),
  pictures: new Map(),
  skew: 0,
};
let stopListening = null;
let beat = 0;

/** The present by the server's clock, as far as it is known. */
const now = () => Date.now() + state.skew;

const actions = {
  now,
  isDark,
  render,
  say,
  go(path) {
    location.hash = path;
  },
  open(dialog) {
    Object.assign(state, { dialog, problem: null });
    render();
  },
  close() {
    state.dialog = null;
    root.querySelector("dialog")?.close(); // before it is taken away: that gives the focus back to the button that opened it
    render();
  },
  /** Copy a text. The button says so itself: a notice could cover what was copied. */
  async copy(text, name) {
    try {
      await navigator.clipboard.writeText(text);
      if (!name) return say("Copied.");
      state.copied = name;
      announcements.textContent = "Copied.";
      setTimeout(() => {
        if (state.copied === name) state.copied = null;
        render();
      }, 2500);
      render();
    } catch {
      say("The browser does not allow copying here; select the text instead.", "bad");
    }
  },
  /** Do something that takes a while, once at a time per name, and tell how it ended. */
  async act(name, work, done) {
    if (state.busy.has(name)) return undefined;
    state.busy.add(name);
    state.problem = null;
    render();
    try {
      const result = await work();
      if (done) say(done);
      return result;
    } catch (error) {
      if (error.status === 401 && state.signedIn) signedOut();
      else if (state.dialog || !state.signedIn) state.problem = error.message;
      else say(error.message, "bad");
      return undefined;
    } finally {
      state.busy.delete(name);
      render();
    }
  },
  stopBrowser: (id) => actions.act(`stop ${id}`, () => api.change(`/browsers/${id}`, { action: "stop" }), "Browser stopped, unused minutes refunded."),
  async signIn(key) {
    const done = await actions.act("sign in", () => api.signIn(key));
    if (done) begin();
  },
  async signOut() {
    await actions.act("sign out", () => api.signOut());
    signedOut();
  },
  /** What `ask` finds, by default the API at `name`; undefined until it does; asked again when `revision` changes, and the old answer stays till then. */
  detail(name, revision, ask = () => api.get(name)) {
    const known = state.details.get(name);
    if (known?.revision === revision) return known.value;
    const entry = { revision, value: known?.value };
    state.details.set(name, entry);
    ask()
      .catch((error) => ({ problem: error.message }))
      .then((value) => {
        entry.value = value;
        render();
      });
    return entry.value;
  },
  /** Let the next view that shows a detail ask for it; the old answer stays till then. */
  askAgain(name) {
    const known = state.details.get(name);
    if (known) known.revision = null;
  },
  /** Counts on every 5 s, while the page is visible: pictures are asked for by it. */
  beat() {
    if (!document.hidden) beat = Math.floor(Date.now() / 5000);
    return beat;
  },
};

function say(text, kind = "good") {
  const notice = { text, kind, key: `${Date.now()} ${text}` };
  state.notices.push(notice);
  announcements.textContent = text;
  setTimeout(() => {
    state.notices = state.notices.filter((other) => other !== notice);
    render();
  }, kind === "bad" ? 9000 : 4000);
  render();
}

function signedOut() {
  stopListening?.();
  stopListening = null;
  Object.assign(state, { signedIn: false, snapshot: null, dialog: null, problem: null, details: new Map(), pictures: new Map() });
  render();
}

function begin() {
  state.signedIn = true;
  stopListening?.();
  stopListening = api.listen({
    snapshot(value) {
      state.snapshot = value;
      state.skew = Date.parse(value.now) - Date.now();
      render();
    },
    state(link) {
      state.link = link;
      render();
    },
    signedOut() {
      signedOut();
      say("Signed out: the key is no longer valid, or the server was restarted.", "bad");
    },
  });
  render();
}

function theme(next) {
  if (next) localStorage.setItem("cdpbridge-theme", next);
  const chosen = localStorage.getItem("cdpbridge-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
  render();
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** The section that a route belongs to. */
function sectionOf(first) {
  const wanted = first === "tasks" ? "agents" : first;
  return (VIEWS.find(([name]) => name === wanted) ?? VIEWS[0])[0];
}

function page() {
  const [first, id] = state.route;
  const section = sectionOf(first);
  const { snapshot } = state;
  const one = id ? { browsers: browserView, tasks: taskView }[first] : undefined;
  const view = one ? () => one(state, actions, id) : VIEWS.find(([name]) => name === section)[2];
  return [
    h("a.skip", { href: `${location.pathname}${location.hash}`, onclick: (event) => { event.preventDefault(); document.getElementById("main").focus(); } }, "Skip to content"),
    h(
      "header.top",
      {},
      h("a.brand", { href: `${location.pathname}#/browsers` }, h("img", { src: "console/static/icon.svg", alt: "", width: 26, height: 26 }), "cdpbridge"),
      h(
        "nav",
        { "aria-label": "Sections" },
        VIEWS.map(([name, title]) => h("a", { key: name, href: `${location.pathname}#/${name}`, "aria-current": name === section ? "page" : null }, title)),
      ),
      h(
        "div.standing",
        {},
        snapshot
          ? [
              h("span.figure", { title: "Browsers that hold a slot" }, `${snapshot.account.active} of ${snapshot.account.limit} browsers`),
              h("span.figure", { title: snapshot.account.simulated ? "Credits left; the money of this server is simulated" : "Credits left" }, `${usd(snapshot.account.balanceUsd, 2)}${snapshot.account.simulated ? " simulated" : ""}`),
            ]
          : null,
        h(`span.link.${state.link}`, { role: "status" }, { live: "Connected", lost: "Reconnecting", connecting: "Connecting" }[state.link]),
        button(isDark() ? "Light" : "Dark", () => theme(isDark() ? "light" : "dark"), { kind: "quiet", label: isDark() ? "Use the light theme" : "Use the dark theme" }),
        button("Sign out", actions.signOut, { kind: "quiet" }),
      ),
    ),
    h("main", { id: "main", tabindex: "-1" }, snapshot ? view(state, actions) : h("p.loading", {}, "Loading the project...")),
  ];
}

function dialog() {
  if (!state.dialog) return null;
  const content = DIALOGS[state.dialog.kind](state, actions);
  return h("dialog", { key: state.dialog.kind, "aria-labelledby": "dialog-title", onclose: () => actions.close() }, content);
}

function render() {
  const content = state.signedIn === null ? [h("p.loading", {}, "Connecting...")] : state.signedIn ? page() : [signInView(state, actions)];
  const focused = document.activeElement;
  const notices = h("div.notices", { key: "notices" }, state.notices.map((notice) => h(`p.notice.${notice.kind}`, { key: notice.key }, notice.text)));
  patch(root, [h("div.page", { key: "page" }, content), notices, dialog()]);
  const shown = root.querySelector("dialog");
  if (shown && !shown.open) shown.showModal();
  // What was done away with had the focus: the keyboard goes on from here and not from the top of the page.
  if (!focused.isConnected && document.activeElement === document.body) document.getElementById("main")?.focus({ preventScroll: true });
}

function follow() {
  state.route = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean);
  const title = VIEWS.find(([name]) => name === sectionOf(state.route[0]))[1];
  document.title = `${title} - cdpbridge`;
  render();
}

addEventListener("hashchange", () => {
  follow();
  document.getElementById("main")?.focus({ preventScroll: true });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
setInterval(() => state.signedIn && state.snapshot && !document.hidden && render(), 1000);
theme();
follow();
api.get("/billing/account").then(begin, (error) => {
  state.signedIn = false;
  if (error.status !== 401) say(error.message, "bad");
  render();
});
