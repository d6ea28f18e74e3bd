// @playwright/test on rented browsers, one a worker: every test with `page` or `context` runs there as it is.
const { test: base, chromium, expect } = require("@playwright/test");
const api = process.env.CDPBRIDGE_PROVIDER ?? "https://api.browser-use.com/api/v2";
const headers = { "X-Browser-Use-API-Key": process.env.BROWSER_USE_API_KEY, "Content-Type": "application/json" };
const call = async (method, path, body) =>
  (await fetch(api + path, { method, headers, body: JSON.stringify(body) })).json();
const test = base.extend({ browser: [async ({}, use) => {
  const rental = await call("POST", "/browsers", { timeout: 15 });
  try { await use(await chromium.connectOverCDP(rental.cdpUrl)); }
  finally { await call("PATCH", `/browsers/${rental.id}`, { action: "stop" }); }
}, { scope: "worker" }] });
test("the page has a title", async ({ page }) => {
  await page.goto(process.env.SITE ?? "https://example.com");
  await expect(page).toHaveTitle(/Example|Sign in/);
});
