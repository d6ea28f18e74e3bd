// puppeteer-core on a rented browser. CDPBRIDGE_PROVIDER: the server's base URL; BROWSER_USE_API_KEY: its key.
const puppeteer = require("puppeteer-core");
const api = process.env.CDPBRIDGE_PROVIDER ?? "https://api.browser-use.com/api/v2";
const headers = { "X-Browser-Use-API-Key": process.env.BROWSER_USE_API_KEY, "Content-Type": "application/json" };
const call = async (method, path, body) =>
  (await fetch(api + path, { method, headers, body: JSON.stringify(body) })).json();
(async () => {
  const rental = await call("POST", "/browsers", { timeout: 5 });
  try {
    const browser = await puppeteer.connect({ browserWSEndpoint: rental.cdpUrl.replace("http", "ws") });
    const page = await browser.newPage();
    await page.goto(process.argv[2] ?? "https://example.com");
    console.log(await page.title());
    await browser.disconnect();
  } finally { await call("PATCH", `/browsers/${rental.id}`, { action: "stop" }); }
})();
