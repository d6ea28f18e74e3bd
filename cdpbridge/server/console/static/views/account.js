import * as api from "../api.js";
import { costChart } from "../chart.js";
import { h } from "../dom.js";
import { moment, short, simulated, usd } from "../format.js";
import { button, fact, table } from "../parts.js";
import { operatorSection } from "./operator.js";

const MORE = 50;
const MOST = 2000;

export function accountView(state, actions) {
  const { account, days } = state.snapshot;
  const moved = days.filter((day) => Number(day.chargedUsd) || Number(day.refundedUsd)).reverse();
  return [
    h("div.heading", {}, h("h1", {}, "Account")),
    h(
      "dl.facts.wide.panel",
      {},
      fact("Project", account.name ?? ""),
      fact("Credits left", usd(account.balanceUsd, 6), simulated(account)),
      fact("Plan", account.plan, `, up to ${account.maxMinutes} min a browser`),
      fact("Price", `${usd(account.usdPerHour, 4)} per browser hour${simulated(account)}`),
      fact("Slots", `${account.active} of ${account.limit} in use`),
      fact("Isolation of browsers", account.isolation),
    ),
    h("h2", {}, "Cost per day"),
    costChart(days),
    moved.length
      ? table(
          "Cost per day",
          ["Day", "Charged", "Refunded", "Paid"],
          moved.map((day) =>
            h("tr", { key: day.day }, h("th", { scope: "row" }, day.day), h("td.number", {}, usd(day.chargedUsd, 6)), h("td.number", {}, usd(day.refundedUsd, 6)), h("td.number", {}, usd(Number(day.chargedUsd) - Number(day.refundedUsd), 6))),
          ),
        )
      : h("p.hint", {}, "Nothing was spent in these days."),
    h("h2", {}, "Ledger"),
    ledger(state, actions),
    operatorSection(state, actions),
  ];
}

/** Every movement of money, what it was for, and what was left after it. */
function ledger(state, actions) {
  const limit = state.ledgerLimit ?? MORE;
  const found = actions.detail("ledger", `${state.snapshot.lastEntry} ${limit}`, () => api.own(`/ledger?limit=${limit}`));
  if (!found) return h("p.loading", {}, "Loading the ledger...");
  if (found.problem) return h("p.notice.bad", {}, found.problem);
  const more = () => {
    state.ledgerLimit = Math.min(MOST, limit + MORE);
    actions.render();
  };
  const { entries, total } = found;
  return [
    table(
      "Ledger, newest entry first",
      ["When", "What for", "Amount", "Balance after"],
      entries.map((entry) => h("tr", { key: entry.id }, h("td", {}, moment(entry.at)), h("th", { scope: "row" }, purpose(entry)), h("td.number", {}, signed(entry.amountUsd)), h("td.number", {}, usd(entry.balanceUsd, 6)))),
    ),
    total > entries.length ? h("div.actions.more", {}, h("span.hint", {}, `The newest ${entries.length} of ${total}.`), entries.length < MOST ? button("Show older entries", more) : null) : null,
  ];
}

function purpose({ kind, entry, browserId }) {
  const browser = browserId ? h("a", { href: `${location.pathname}#/browsers/${browserId}` }, `browser ${short(browserId)}`) : "";
  if (kind === "charge") return [`${entry[0].toUpperCase()}${entry.slice(1)} of `, browser];
  if (kind === "refund") return ["Unused minutes of ", browser];
  return entry === "start" ? "Credits at the start" : `Credits: ${entry}`;
}

function signed(amount) {
  return `${Number(amount) < 0 ? "\u2212" : "+"}${usd(Math.abs(amount), 6)}`;
}
