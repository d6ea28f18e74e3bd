import { costChart } from "../chart.js";
import { h } from "../dom.js";
import { usd } from "../format.js";
import { fact, table } from "../parts.js";

export function accountView(state) {
  const { account, days } = state.snapshot;
  const moved = days.filter((day) => Number(day.chargedUsd) || Number(day.refundedUsd)).reverse();
  return [
    h("div.heading", {}, h("h1", {}, "Account")),
    h(
      "dl.facts.wide.panel",
      {},
      fact("Project", account.name ?? ""),
      fact("Credits left", usd(account.balanceUsd, 6)),
      fact("Plan", account.plan, `, up to ${account.maxMinutes} min a browser`),
      fact("Price", `${usd(account.usdPerHour, 4)} per browser hour`),
      fact("Slots", `${account.active} of ${account.limit} in use`),
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
  ];
}
