// One client of `tab.py` in Node: puppeteer-core, whose locators wait as Tab and Playwright do. Prints JSON.
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/`);
const puppeteer = require("puppeteer-core");
const [address, given, count] = process.argv.slice(2);
const steps = JSON.parse(given), sessions = Number(count);

const version = await (await fetch(`${address.replace(/\/$/, "")}/json/version`)).json();
const browser = await puppeteer.connect({ browserWSEndpoint: version.webSocketDebuggerUrl, defaultViewport: null });
const page = await browser.newPage();
const verbs = {
  goto: (url) => page.goto(url),
  fill: (selector, value) => page.locator(selector).fill(value),
  select: (selector, value) => page.locator(selector).fill(value),
  click: (selector) => page.locator(selector).click(),
  press: async (selector, key) => { await page.focus(selector); await page.keyboard.press(key); },
  wait: (selector) => page.waitForSelector(selector, { visible: true }),
  read: (expression) => page.evaluate(expression),
};
let began = 0, before = process.cpuUsage();
for (let session = 0; session <= sessions; session++) {
  if (session === 1) { before = process.cpuUsage(); began = performance.now(); }
  for (const [name, ...values] of steps) await verbs[name](...values);
}
const used = process.cpuUsage(before);
console.log(JSON.stringify({
  cpu: (used.user + used.system) / 1e6 / sessions,
  wall: (performance.now() - began) / 1e3 / sessions,
}));
await page.close();
await browser.disconnect();
