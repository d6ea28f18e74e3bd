// Cost per day, as bars that a screen reader can read, too: the same numbers stand in a table below.

import { h, svg } from "./dom.js";
import { usd } from "./format.js";

// On a phone fewer pixels are drawn, so that the words stay as large as they are.
const NARROW = matchMedia("(max-width: 48rem)");
const HEIGHT = 180;
const BOTTOM = 22;
const LEFT = 52;

export function costChart(days) {
  const width = NARROW.matches ? 400 : 1100;
  const paid = days.map((day) => Number(day.chargedUsd) - Number(day.refundedUsd));
  const most = Math.max(...paid, 0);
  const top = most > 0 ? nice(most) : 1;
  const step = (width - LEFT) / days.length;
  const scale = (value) => ((HEIGHT - BOTTOM - 8) * value) / top;
  const lines = [0, 0.5, 1].map((share) => {
    const y = HEIGHT - BOTTOM - scale(top * share);
    return [
      svg("line", { x1: LEFT, x2: width, y1: y, y2: y, class: "grid" }),
      svg("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, most > 0 || share === 0 ? usd(top * share, top < 0.1 ? 3 : 2) : ""),
    ];
  });
  const bars = days.map((day, place) => {
    const height = Math.max(paid[place] > 0 ? 2 : 0, scale(paid[place]));
    return svg(
      "rect",
      { key: day.day, x: LEFT + place * step + step * 0.15, y: HEIGHT - BOTTOM - height, width: step * 0.7, height, rx: 2, class: "bar" },
      svg("title", {}, `${day.day}: ${usd(paid[place])}`),
    );
  });
  const labels = days
    .map((day, place) => [day, place])
    .filter(([, place]) => (days.length - 1 - place) % 7 === 0)
    .map(([day, place]) => {
      const last = place === days.length - 1; // in the middle of its bar it would be cut off
      return svg("text", { x: last ? width : LEFT + (place + 0.5) * step, y: HEIGHT - 6, "text-anchor": last ? "end" : "middle" }, day.day.slice(5));
    });
  const total = paid.reduce((sum, value) => sum + value, 0);
  return h(
    "figure.chart",
    {},
    svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `Cost per day of the last ${days.length} days, ${usd(total)} in all` }, lines, bars, labels),
    h("figcaption", {}, `${usd(total)} in the last ${days.length} days`),
  );
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= value);
}
