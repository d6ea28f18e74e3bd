import * as api from "../api.js";
import { h } from "../dom.js";
import { ago, clock, moment, money, reason, short, simulated, usd } from "../format.js";
import { countryField, orderOf, profileField, screenFields } from "../orders.js";
import { badge, button, copyButton, dialogForm, empty, fact, field, snippet, table } from "../parts.js";
import { recordingView } from "./recording.js";

const SNIPPETS = [
  ["cdpbridge", (url) => `url = "${url}"\nasync with cdpbridge.cdp.connect(url) as connection:\n    tab = cdpbridge.Tab(await connection.new_tab())\n    await tab.goto("https://example.com")\n    print(await tab.title())`],
  ["Playwright", (url) => `url = "${url}"\nbrowser = playwright.chromium.connect_over_cdp(url)\npage = browser.contexts[0].new_page()\npage.goto("https://example.com")`],
];
const FOLDED = 10;

const RECORDINGS = {
  recording: "is made",
  saved: "saved",
  size_limit: "ended at its size limit",
  server_lost: "until the server was killed",
  empty: "nothing was seen",
  failed: "failed",
};
const LIVE = new Set(["starting", "active"]);

export function browsersView(state, actions) {
  const { browsers, endedTotal } = state.snapshot;
  const running = browsers.filter((browser) => LIVE.has(browser.state) || browser.state === "stopping");
  const ended = browsers.filter((browser) => !running.includes(browser));
  const unfold = () => {
    state.unfolded = true;
    actions.render();
  };
  return [
    h(
      "div.heading",
      {},
      h("h1", {}, "Browsers"),
      h(
        "div.actions",
        {},
        running.some((browser) => browser.state === "active")
          ? button("Stop all", () => actions.open(stopAll(running, actions)), { kind: "danger" })
          : null,
        button("New browser", () => actions.open({ kind: "create" }), { kind: "primary" }),
      ),
    ),
    running.length
      ? h("ul.cards", { "aria-label": "Running browsers" }, running.map((browser) => card(browser, state, actions)))
      : empty("No browser is running", "Rent one here, or with ", h("code", {}, "cdpbridge.open_browser()"), ". It costs nothing until then."),
    h("h2", {}, "Ended"),
    ended.length
      ? [
          table(
            "Ended browsers, newest first",
            ["Browser", "Ended", "Why", "Used", "Profile", "Country", "Paid"],
            ended.slice(0, state.unfolded ? ended.length : FOLDED).map((browser) =>
              h(
                "tr",
                { key: browser.id },
                h("th", { scope: "row" }, h("a", { href: `${location.pathname}#/browsers/${browser.id}` }, short(browser.id)), browser.label ? ` ${browser.label}` : null),
                h("td", { title: moment(browser.finishedAt) }, ago(browser.finishedAt, actions.now())),
                h("td", {}, reason(browser.endReason)),
                h("td", {}, browser.startedAt && browser.finishedAt ? clock(Date.parse(browser.finishedAt) - Date.parse(browser.startedAt)) : ""),
                h("td.wrap", {}, browser.profileName ?? (browser.profileId ? short(browser.profileId) : "")),
                h("td", {}, country(browser)),
                h("td.number", {}, usd(Number(browser.chargedUsd) - Number(browser.refundedUsd), 6)),
              ),
            ),
            { dense: true },
          ),
          ended.length > FOLDED && !state.unfolded ? h("div.actions.more", {}, button(`Show ${ended.length - FOLDED} more`, unfold)) : null,
          endedTotal > ended.length && state.unfolded ? h("p.hint", {}, `The newest ${ended.length} of ${endedTotal}.`) : null,
        ]
      : h("p.hint", {}, "None yet."),
  ];
}

function stopAll(running, actions) {
  const work = () => running.forEach((browser) => actions.stopBrowser(browser.id));
  const text = "What their clients are doing ends at once. Unused minutes are refunded, and profiles are saved.";
  return { kind: "confirm", title: running.length === 1 ? "Stop the browser?" : `Stop ${running.length} browsers?`, text, word: "Stop all", work };
}

function card(browser, state, actions) {
  const at = actions.now();
  const active = browser.state === "active";
  const stopping = browser.state === "stopping" || state.busy.has(`stop ${browser.id}`);
  const figures = active ? money(browser, at) : null;
  const left = Date.parse(browser.timeoutAt) - at;
  return h(
    "li.card",
    { key: browser.id },
    h(
      "a.thumbnail",
      { href: `${location.pathname}#/browsers/${browser.id}` },
      h("span", {}, `Browser ${short(browser.id)}${active ? "" : `: ${browser.state}`}`),
      active ? h("img", { src: api.linked(`console/thumbnails/${browser.id}?${actions.beat()}`), alt: "", loading: "lazy", onload: shown, onerror: shown }) : null,
    ),
    h("div.line", {}, h("strong", {}, browser.label ?? browser.profileName ?? (browser.profileId ? short(browser.profileId) : `Browser ${short(browser.id)}`)), badge(stopping ? "stopping" : browser.state)),
    h(
      "dl.facts",
      {},
      fact("Time left", active ? h(`span${left < 60_000 ? ".urgent" : ""}`, {}, clock(left)) : ""),
      fact("Cost now", figures ? usd(figures.cost) : ""),
      fact("Refund if stopped", figures ? usd(figures.back) : ""),
      fact("Clients", String(browser.clients)),
      fact("Country", country(browser) || "none"),
      fact("Profile", browser.profileId ? (browser.profileWritable === false ? "read only" : "saved at the end") : "none"),
    ),
    h(
      "div.actions",
      {},
      h("a.button", { href: `${location.pathname}#/browsers/${browser.id}` }, "Open"),
      button(stopping ? "Stopping..." : "Stop", () => actions.stopBrowser(browser.id), { kind: "danger", disabled: stopping, label: stopping ? null : `Stop browser ${short(browser.id)}` }),
    ),
  );
}

/** A picture that could not be had leaves the words below it to be read. */
function shown(event) {
  event.target.hidden = event.type === "error";
}

export function browserView(state, actions, id) {
  const known = state.snapshot.browsers.find((candidate) => candidate.id === id);
  const found = known ? undefined : actions.detail(`older ${id}`, "", () => api.get(`/browsers/${id}`));
  if (found?.problem) return [h("div.heading", {}, h("h1", {}, "Browser")), empty("There is no such browser here", found.problem)];
  if (!known && !found) return [h("div.heading", {}, h("h1", {}, "Browser")), h("p.loading", {}, "Loading the browser...")];
  const browser = known ?? older(found);
  const at = actions.now();
  const active = browser.state === "active";
  const figures = active ? money(browser, at) : null;
  const stopping = browser.state === "stopping" || state.busy.has(`stop ${id}`);
  const addresses = active && known ? actions.detail(`/browsers/${id}`, browser.state) : undefined;
  return [
    h(
      "div.heading",
      {},
      h("h1", {}, browser.label ?? browser.profileName ?? `Browser ${short(id)}`, " ", badge(stopping && active ? "stopping" : browser.state)),
      h("div.actions", {}, active ? button(stopping ? "Stopping..." : "Stop and refund", () => actions.stopBrowser(id), { kind: "danger", disabled: stopping }) : null),
    ),
    h(
      "div.split",
      {},
      h(
        "section",
        { "aria-label": "Live view" },
        active && addresses?.liveUrl ? h("iframe.live-view", { key: id, src: `${addresses.liveUrl}?theme=${actions.isDark() ? "dark" : "light"}`, title: "Live view of this browser", allow: "clipboard-read; clipboard-write; fullscreen" }) : null,
        active ? null : empty(`Ended: ${reason(browser.endReason) || browser.state}`, browser.finishedAt ? `${moment(browser.finishedAt)}, paid ${usd(browser.paidUsd ?? browser.chargedUsd - browser.refundedUsd, 6)}` : ""),
      ),
      h(
        "section",
        { "aria-label": "Facts" },
        h(
          "dl.facts.wide",
          {},
          fact("Id", h("code", {}, id)),
          browser.label ? fact("Label", browser.label) : null,
          fact("Started", moment(browser.startedAt)),
          fact(active ? "Stops at" : "Ended", moment(active ? browser.timeoutAt : browser.finishedAt)),
          active ? fact("Time left", clock(Date.parse(browser.timeoutAt) - at)) : fact("Why", reason(browser.endReason)),
          figures ? [fact("Cost now", usd(figures.cost, 6)), fact("Charged so far", usd(figures.charged, 6)), fact("Refund if stopped now", usd(figures.back, 6))] : browser.paidUsd ? fact("Paid", usd(browser.paidUsd, 6)) : [fact("Charged", usd(browser.chargedUsd, 6)), fact("Refunded", usd(browser.refundedUsd, 6))],
          fact("Profile", browser.profileName ?? browser.profileId ?? "none", browser.profileWritable === false ? " (another browser saves it)" : ""),
          fact("Country", country(browser) || "none"),
          active ? fact("Clients connected", String(browser.clients)) : null,
          fact("Recording", RECORDINGS[browser.recording] ?? "none"),
        ),
        active ? attach(addresses, state, actions) : null,
      ),
    ),
    recordingView(browser, state, actions),
  ];
}

/** A browser that is not in the stream of events, as the API has it. */
function older(found) {
  const { id, startedAt, timeoutAt, finishedAt, profileId, profileWritable, endReason } = found;
  return { id, startedAt, timeoutAt, finishedAt, profileId, profileWritable, endReason, label: found.metadata?.label ?? null, state: found.status, country: found.proxyCountryCode, countrySimulated: found.proxySimulated, paidUsd: found.browserCost, usdPerHour: 0, minimumMinutes: 1, clients: 0 };
}

function attach(addresses, state, actions) {
  if (!addresses) return h("p.hint", {}, "Loading the addresses...");
  if (addresses.problem) return h("p.notice.bad", {}, addresses.problem);
  if (!addresses.cdpUrl) return null; // stopped meanwhile
  const url = addresses.cdpUrl;
  const masked = url.replace(/[^/]{8,}$/, "...");
  return [
    h("h2", {}, "Attach"),
    h("p.hint", {}, "The address gives full control of the browser: treat it as a password. It is copied, not shown."),
    h("div.actions", {}, copyButton(url, state, actions, { word: "Copy cdpUrl" }), addresses.liveUrl ? copyButton(addresses.liveUrl, state, actions, { word: "Copy live view address" }) : null),
    ...SNIPPETS.map(([name, code]) => snippet(code(masked), code(url), name, state, actions)),
  ];
}

export function createDialog(state, actions) {
  const { account, profiles } = state.snapshot;
  async function submit(values) {
    const body = { timeout: Number(values.get("timeout")), ...orderOf(values) };
    if (values.get("recording")) body.enableRecording = true;
    const made = await actions.act("create", () => api.post("/browsers", body), "Browser started.");
    if (made) {
      actions.close();
      actions.go(`/browsers/${made.id}`);
    }
  }
  return dialogForm(
    state,
    actions,
    { title: "New browser", name: "create", word: "Start", waiting: "Starting...", submit },
    field("timeout", `Minutes (1 to ${account.maxMinutes})`, ["input", { type: "number", min: 1, max: account.maxMinutes, step: 1, required: true, autofocus: true, initial: Math.min(15, account.maxMinutes) }]),
    profileField(profiles),
    countryField(account),
    screenFields(),
    account.canRecord ? h("label.check", {}, h("input", { name: "recording", type: "checkbox" }), "Record a video") : null,
    h("p.hint", {}, `${usd(account.usdPerHour, 2)} an hour${simulated(account)}, charged at the start; minutes that are not used come back at the stop.`),
  );
}

/** Its proxy country; one without an upstream is not what it says. */
function country(browser) {
  return browser.country ? `${browser.country}${browser.countrySimulated ? " (simulated: connects directly)" : ""}` : "";
}
