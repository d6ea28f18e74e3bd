// Cycles of puppeteer's own `launch`, for rental.py: a page's address a line in, times of the stages in ms out.
// node _launch.mjs FOLDER_OF_NODE_MODULES PATH_OF_CHROMIUM

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [folder, executablePath] = process.argv.slice(2);
const { default: puppeteer } = await import(createRequire(`${folder}/`).resolve('puppeteer-core'));

for await (const page of createInterface({ input: process.stdin })) {
  const times = [];
  let last = performance.now();
  const lap = () => {
    const now = performance.now();
    times.push(now - last);
    last = now;
  };
  // As Playwright does it, which turns the sandbox off by default.
  const browser = await puppeteer.launch({ executablePath, args: ['--no-sandbox'] });
  lap();
  lap();
  const tab = await browser.newPage();
  if ((await tab.evaluate('6 * 7')) !== 42) throw new Error('no answer');
  lap();
  await tab.goto(page);
  lap();
  await browser.close();
  lap();
  console.log(JSON.stringify(times));
}
