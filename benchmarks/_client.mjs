// One measurement of one Node client, in a process of its own: `_client.mjs ADAPTER VARIANT WORKLOAD URL AMOUNT`, with the
// folder of the packages in BENCH_NODE. The same workloads, in the same words, as `_client.py`.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";

const EXPRESSION = { expression: "1+1", returnByValue: true };
const now = () => performance.now();
const cpu = () => {
  const used = process.cpuUsage();
  return used.user + used.system;
};
const status = (field) => {
  const text = fs.readFileSync("/proc/self/status", "utf8");
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)[1]) * 1024;
};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function oneAtATime(session, amount) {
  for (let i = 0; i < amount; i++) await session.send("Runtime.evaluate", EXPRESSION);
}

async function inFlight(sessions, amount) {
  const each = Math.floor(amount / sessions.length);
  await Promise.all(sessions.map((session) => oneAtATime(session, each)));
}

async function clocked(work, amount) {
  global.gc?.();
  const cpu0 = cpu();
  const wall0 = now();
  await work();
  const wall = now() - wall0;
  return { cpu_us: (cpu() - cpu0) / amount, per_second: (amount / wall) * 1000 };
}

async function events(client, workload, amount) {
  const session = await client.attach();
  const [, size, heard] = workload.split("-");
  let seen = [];
  if (heard === "heard") client.on(session, "Network.requestWillBeSent", (event) => seen.push(event.requestId));
  const flood = { count: Math.max(Math.floor(amount / 2), 100), size: Number(size) };
  await session.send("Fake.flood", flood);
  seen = [];
  flood.count = amount;
  const result = await clocked(() => session.send("Fake.flood", flood), amount);
  if (heard === "heard") result.lost = amount - seen.length;
  return result;
}

async function large(client, amount) {
  const session = await client.attach();
  await session.send("Runtime.evaluate", EXPRESSION);
  global.gc?.();
  const before = status("VmRSS");
  const cpu0 = cpu();
  const wall0 = now();
  const reply = await session.send("Fake.big", { bytes: amount });
  const result = { cpu_ms: (cpu() - cpu0) / 1000, wall_ms: now() - wall0 };
  result.memory_ratio = (status("VmHWM") - before) / amount;
  if (reply.data.length !== amount) throw new Error("short reply");
  let longest = 0;
  let last = now();
  const tick = () => {
    longest = Math.max(longest, now() - last - 1);
    last = now();
  };
  const timer = setInterval(tick, 1);
  await session.send("Fake.big", { bytes: amount });
  tick();
  clearInterval(timer);
  result.blocked_ms = longest;
  return result;
}

async function consoleFlood(client, amount) {
  const session = await client.newTab();
  let seen = [];
  let wanted = 0;
  let done;
  client.on(session, "Runtime.consoleAPICalled", (event) => {
    seen.push(event);
    if (seen.length === wanted) done();
  });
  await session.send("Runtime.enable");
  const flood = async (count) => {
    seen = [];
    wanted = count;
    const all = new Promise((resolve) => (done = resolve));
    const expression = `for (let i = 0; i < ${count}; i++) console.log('line', i)`;
    await session.send("Runtime.evaluate", { expression });
    await all;
  };
  await flood(Math.max(Math.floor(amount / 2), 50));
  return clocked(() => flood(amount), amount);
}

const NETWORK = [
  "Network.requestWillBeSent",
  "Network.requestWillBeSentExtraInfo",
  "Network.responseReceived",
  "Network.responseReceivedExtraInfo",
  "Network.dataReceived",
  "Network.loadingFinished",
  "Network.loadingFailed",
  "Network.requestServedFromCache",
  "Network.resourceChangedPriority",
  "Page.loadEventFired",
];

async function network(client, pages) {
  const session = await client.newTab();
  let seen = [];
  let done = () => {};
  for (const method of NETWORK) client.on(session, method, (event) => seen.push(event));
  client.on(session, "Page.frameStoppedLoading", () => done());
  await session.send("Page.enable");
  await session.send("Network.enable");
  const visit = async (count) => {
    for (let number = 0; number < count; number++) {
      const loaded = new Promise((resolve) => (done = resolve));
      await session.send("Page.navigate", { url: `${process.env.BENCH_PAGE}?${number}` });
      await loaded;
    }
  };
  await visit(1);
  seen = [];
  const result = await clocked(() => visit(pages), 1);
  return {
    cpu_us: result.cpu_us / seen.length,
    per_second: result.per_second * seen.length,
    events: seen.length,
  };
}

async function firstAnswer(client, url) {
  const start = now();
  const cpu0 = cpu();
  await client.open(url);
  const session = await client.newTab();
  await session.send("Runtime.evaluate", EXPRESSION);
  return { ms: now() - start, with_driver_ms: now() - start, cpu_ms: (cpu() - cpu0) / 1000 };
}

async function idle(make, url, amount) {
  const first = make();
  await first.open(url);
  global.gc?.();
  const before = status("VmRSS");
  const cpu0 = cpu();
  const clients = [];
  for (let i = 0; i < amount; i++) {
    const client = make();
    await client.open(url);
    clients.push(client);
  }
  const connect = cpu() - cpu0;
  global.gc?.();
  const grown = status("VmRSS") - before;
  const cpu1 = cpu();
  await sleep(1000);
  const burnt = cpu() - cpu1;
  return { kb_each: grown / amount / 1000, connect_ms: connect / amount / 1000, idle_percent: burnt / 10000 };
}

async function measure(make, workload, url, amount) {
  if (workload === "idle") return idle(make, url, amount);
  const client = make();
  if (workload === "chromium-first") return firstAnswer(client, url);
  await client.open(url);
  if (workload === "chromium-console") return consoleFlood(client, amount);
  if (workload === "chromium-network") return network(client, amount);
  if (workload === "chromium-evaluate") {
    const pages = Array(100).fill(await client.newTab());
    await inFlight(pages, 300);
    return clocked(() => inFlight(pages, amount), amount);
  }
  if (workload.startsWith("events-")) return events(client, workload, amount);
  if (workload === "large") return large(client, amount);
  const sessions = [];
  for (let i = 0; i < (workload === "sessions" ? 100 : 1); i++) sessions.push(await client.attach());
  if (workload === "sequential") {
    await oneAtATime(sessions[0], Math.max(Math.floor(amount / 2), 50));
    return clocked(() => oneAtATime(sessions[0], amount), amount);
  }
  const workers = workload === "sessions" ? sessions : Array(100).fill(sessions[0]);
  amount -= amount % workers.length;
  await inFlight(workers, Math.max(Math.floor(amount / 2), 100));
  return clocked(() => inFlight(workers, amount), amount);
}

const [adapter, , workload, url, amount] = process.argv.slice(2);
const folder = process.env.BENCH_NODE;
const require = createRequire(path.join(folder, "package.json"));
const { Client } = await import(`./peers/${adapter}.mjs`);
console.log(JSON.stringify(await measure(() => new Client(require, folder), workload, url, Number(amount))));
process.exit(0);
