// A download and an upload with puppeteer-core, wherever the browser runs: node puppeteer_files.cjs "$(address of `cdpbridge tunnel ID --ws`)"
const fs = require("fs");
const path = require("path");
const puppeteer = require("puppeteer-core");
const [address, folder = "."] = process.argv.slice(2);
(async () => {
  const browser = await puppeteer.connect({ browserWSEndpoint: address });
  const page = await browser.newPage();
  await page.setContent('<a href="data:text/csv,a,b" download="report.csv">report</a> <input type="file">');
  const session = await browser.target().createCDPSession();
  const setting = { behavior: "allow", downloadPath: path.resolve(folder), eventsEnabled: true };
  await session.send("Browser.setDownloadBehavior", setting);
  const done = new Promise((resolve) =>
    session.on("Browser.downloadProgress", (event) => event.state === "completed" && resolve(event.filePath)));
  await page.click("a");
  const report = await done;
  console.log(fs.readFileSync(report, "utf8"));
  await (await page.$("input")).uploadFile(report);
  console.log(await page.evaluate("document.querySelector('input').files[0].text()"));
  await page.close();
  await browser.disconnect();
})();
