import * as api from "../api.js";
import { h } from "../dom.js";
import { ago, clock, moment, money, reason, short, usd } from "../format.js";
import { badge, button, empty, fact, snippet, table } from "../parts.js";

const LIVE = new Set(["starting", "active"]);

export function browsersView(state, actions) {
  const { browsers, endedTotal } = state.snapshot;
  const running = browsers.filter((browser) => LIVE.has(browser.state) || browser.state === "stopping");
  const ended = browsers.filter((browser) => !running.includes(browser));
  return [
    h(
      "div.heading",
      {},
      h("h1", {}, "Browsers"),
      h(
        "div.actions",
        {},
        running.some((browser) => browser.state === "active")
          ? button("Stop all", () => confirm(`Stop ${running.length} browsers?`) && running.forEach((browser) => actions.stopBrowser(browser.id)), { kind: "danger" })
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
            ended.map((browser) =>
              h(
                "tr",
                { key: browser.id },
                h("th", { scope: "row" }, h("a", { href: `${location.pathname}#/browsers/${browser.id}` }, short(browser.id))),
                h("td", { title: moment(browser.finishedAt) }, ago(browser.finishedAt, actions.now())),
                h("td", {}, reason(browser.endReason)),
                h("td", {}, browser.startedAt && browser.finishedAt ? clock(Date.parse(browser.finishedAt) - Date.parse(browser.startedAt)) : ""),
                h("td", {}, browser.profileName ?? (browser.profileId ? short(browser.profileId) : "")),
                h("td", {}, browser.country ?? ""),
                h("td.number", {}, usd(Number(browser.chargedUsd) - Number(browser.refundedUsd), 6)),
              ),
            ),
          ),
          endedTotal > ended.length ? h("p.hint", {}, `The newest ${ended.length} of ${endedTotal}.`) : null,
        ]
      : h("p.hint", {}, "None yet."),
  ];
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
      { href: `${location.pathname}#/browsers/${browser.id}`, "aria-label": `Browser ${short(browser.id)}` },
      h("span", {}, active ? "No picture" : browser.state),
      active ? h("img", { src: `console/thumbnails/${browser.id}?${actions.beat()}`, alt: "", loading: "lazy", onload: shown, onerror: shown }) : null,
    ),
    h("div.line", {}, h("strong", {}, browser.profileName ?? (browser.profileId ? short(browser.profileId) : `Browser ${short(browser.id)}`)), badge(stopping ? "stopping" : browser.state)),
    h(
      "dl.facts",
      {},
      fact("Time left", active ? h(`span${left < 60_000 ? ".urgent" : ""}`, {}, clock(left)) : ""),
      fact("Cost now", figures ? usd(figures.cost) : ""),
      fact("Refund if stopped", figures ? usd(figures.back) : ""),
      fact("Clients", String(browser.clients)),
      fact("Country", browser.country ?? "none"),
      fact("Profile", browser.profileId ? (browser.profileWritable === false ? "read only" : "saved at the end") : "none"),
    ),
    h(
      "div.actions",
      {},
      h("a.button", { href: `${location.pathname}#/browsers/${browser.id}` }, "Open"),
      button(stopping ? "Stopping..." : "Stop", () => actions.stopBrowser(browser.id), { kind: "danger", disabled: stopping, label: `Stop browser ${short(browser.id)}` }),
    ),
  );
}

/** A picture that could not be had leaves the words below it to be read. */
function shown(event) {
  event.target.hidden = event.type === "error";
}

export function browserView(state, actions, id) {
  const browser = state.snapshot.browsers.find((candidate) => candidate.id === id);
  if (!browser) return [h("h1", {}, "Browser"), empty("This browser is not among the newest", "Its record is in the API: ", h("code", {}, `GET /api/v2/browsers/${id}`))];
  const at = actions.now();
  const active = browser.state === "active";
  const figures = active ? money(browser, at) : null;
  const stopping = browser.state === "stopping" || state.busy.has(`stop ${id}`);
  const addresses = active ? actions.detail(`/browsers/${id}`, browser.state) : undefined;
  return [
    h(
      "div.heading",
      {},
      h("h1", {}, browser.profileName ?? `Browser ${short(id)}`, " ", badge(stopping && active ? "stopping" : browser.state)),
      h("div.actions", {}, active ? button(stopping ? "Stopping..." : "Stop and refund", () => actions.stopBrowser(id), { kind: "danger", disabled: stopping }) : null),
    ),
    h(
      "div.split",
      {},
      h(
        "section",
        { "aria-label": "Live view" },
        active && addresses?.liveUrl ? h("iframe.live-view", { key: id, src: addresses.liveUrl, title: "Live view of this browser", allow: "clipboard-read; clipboard-write; fullscreen" }) : null,
        active ? null : empty(`Ended: ${reason(browser.endReason) || browser.state}`, browser.finishedAt ? `${moment(browser.finishedAt)}, paid ${usd(Number(browser.chargedUsd) - Number(browser.refundedUsd), 6)}` : ""),
      ),
      h(
        "section",
        { "aria-label": "Facts" },
        h(
          "dl.facts.wide",
          {},
          fact("Id", h("code", {}, id)),
          fact("Started", moment(browser.startedAt)),
          fact(active ? "Stops at" : "Ended", moment(active ? browser.timeoutAt : browser.finishedAt)),
          active ? fact("Time left", clock(Date.parse(browser.timeoutAt) - at)) : fact("Why", reason(browser.endReason)),
          figures ? [fact("Cost now", usd(figures.cost, 6)), fact("Charged so far", usd(figures.charged, 6)), fact("Refund if stopped now", usd(figures.back, 6))] : [fact("Charged", usd(browser.chargedUsd, 6)), fact("Refunded", usd(browser.refundedUsd, 6))],
          fact("Profile", browser.profileName ?? browser.profileId ?? "none", browser.profileWritable === false ? " (another browser saves it)" : ""),
          fact("Country", browser.country ?? "none"),
          fact("Clients connected", String(browser.clients)),
        ),
        active ? attach(addresses, actions) : null,
      ),
    ),
  ];
}

function attach(addresses, actions) {
  if (!addresses) return h("p.hint", {}, "Loading the addresses...");
  if (addresses.problem) return h("p.notice.bad", {}, addresses.problem);
  const url = addresses.cdpUrl;
  const masked = url.replace(/[^/]{8,}$/, "...");
  return [
    h("h2", {}, "Attach"),
    h("p.hint", {}, "The address gives full control of the browser: treat it as a password. It is copied, not shown."),
    h("div.actions", {}, button("Copy cdpUrl", () => actions.copy(url)), addresses.liveUrl ? button("Copy live view address", () => actions.copy(addresses.liveUrl)) : null),
    snippet(`async with cdpbridge.cdp.connect("${masked}") as connection:\n    session = await connection.new_tab("https://example.com")\n    print(await session.send("Runtime.evaluate", {"expression": "document.title"}))`, () => actions.copy(`async with cdpbridge.cdp.connect("${url}") as connection:\n    session = await connection.new_tab("https://example.com")\n    print(await session.send("Runtime.evaluate", {"expression": "document.title"}))`), "cdpbridge code"),
    snippet(`browser = playwright.chromium.connect_over_cdp("${masked}")\npage = browser.contexts[0].new_page()\npage.goto("https://example.com")`, () => actions.copy(`browser = playwright.chromium.connect_over_cdp("${url}")\npage = browser.contexts[0].new_page()\npage.goto("https://example.com")`), "Playwright code"),
  ];
}

export function createDialog(state, actions) {
  const { account, profiles } = state.snapshot;
  const busy = state.busy.has("create");
  return h(
    "form",
    {
      async onsubmit(event) {
        event.preventDefault();
        const values = new FormData(event.target);
        const body = { timeout: Number(values.get("timeout")) };
        if (values.get("profile")) body.profileId = values.get("profile");
        if (values.get("country")) body.proxyCountryCode = values.get("country") === "none" ? null : values.get("country");
        const made = await actions.act("create", () => api.post("/browsers", body), "Browser started.");
        if (made) {
          actions.close();
          actions.go(`/browsers/${made.id}`);
        }
      },
    },
    h("h2", { id: "dialog-title" }, "New browser"),
    h("label", { for: "timeout" }, `Minutes (1 to ${account.maxMinutes})`),
    h("input", { id: "timeout", name: "timeout", type: "number", min: 1, max: account.maxMinutes, step: 1, required: true, initial: Math.min(15, account.maxMinutes) }),
    h("label", { for: "profile" }, "Profile"),
    h("select", { id: "profile", name: "profile" }, h("option", { value: "" }, "None: nothing is saved"), profiles.map((profile) => h("option", { key: profile.id, value: profile.id }, profile.name ?? short(profile.id)))),
    h("label", { for: "country" }, "Proxy country"),
    h("select", { id: "country", name: "country" }, h("option", { value: "" }, "The server's default"), h("option", { value: "none" }, "No proxy"), account.countries.map((country) => h("option", { key: country, value: country }, country))),
    h("p.hint", {}, `${usd(account.usdPerHour, 2)} an hour, charged at the start; minutes that are not used come back at the stop.`),
    h("div.actions", {}, button("Cancel", actions.close), h("button.primary", { type: "submit", disabled: busy }, busy ? "Starting..." : "Start")),
  );
}
