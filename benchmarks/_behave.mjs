// One behaviour of one Node client, in a process of its own: `_behave.mjs ADAPTER VARIANT SCENARIO URL`. See `_behave.py`.
import path from "node:path";
import { createRequire } from "node:module";

const PATIENCE = 3;
// two events that every client knows, with what belongs into them
const FIRST = "Page.loadEventFired";
const SECOND = "Page.domContentEventFired";
const FIRED = { timestamp: 1 };
const EVALUATE = { expression: "1+1" };
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const tell = (fine, verdict) => {
  console.log(JSON.stringify({ fine, verdict }));
  process.exit(0);
};

const ends = (work, seconds = PATIENCE) =>
  Promise.race([
    Promise.resolve(work).then((value) => ["result", value], (error) => ["error", error]),
    sleep(seconds).then(() => ["hangs", undefined]),
  ]);

async function goesOn(session) {
  const [how, error] = await ends(session.send("Runtime.evaluate", EVALUATE));
  if (how === "result") return "";
  return how === "hangs" ? "later commands HANG" : `later commands fail: ${error.constructor.name}`;
}

const emit = (session, ...events) => session.send("Fake.emit", { events });
const event = () => {
  let set;
  const wait = new Promise((resolve) => (set = resolve));
  return { set, wait };
};

async function after(session, done, act) {
  const acting = ends(act);
  const [how] = await ends(done.wait);
  await acting;
  const later = await goesOn(session);
  if (how === "hangs") return [false, "DEADLOCK" + (later ? ", whole connection" : "")];
  return [!later, later || "ok"];
}

const SCENARIOS = {
  "command-in-handler": async (client, session) => {
    const done = event();
    client.on(session, FIRST, async () => {
      await session.send("Runtime.evaluate", EVALUATE);
      done.set();
    });
    return after(session, done, emit(session, [FIRST, FIRED]));
  },
  "handler-waits-for-event": async (client, session) => {
    const done = event();
    const second = event();
    client.on(session, FIRST, async () => {
      await second.wait;
      done.set();
    });
    client.on(session, SECOND, () => second.set());
    return after(session, done, emit(session, [FIRST, FIRED], [SECOND, FIRED]));
  },
  "slow-handlers": async (client, session) => {
    client.on(session, FIRST, () => sleep(0.01));
    const emitting = ends(emit(session, ...Array(300).fill([FIRST, FIRED])), 10);
    await sleep(0.05);
    const start = performance.now();
    const [how] = await ends(session.send("Runtime.evaluate", EVALUATE), 10);
    const waited = performance.now() - start;
    await emitting;
    return [how === "result" && waited < 300, how === "result" ? `${waited.toFixed(0)} ms` : how];
  },
  "not-json": async (client, session) => {
    await ends(session.send("Fake.raw", { text: "<html>bad gateway</html>" }));
    const later = await goesOn(session);
    return [!later, later || "ok"];
  },
  "unknown-id": async (client, session) => {
    await ends(session.send("Fake.raw", { text: '{"id":1999999,"result":{}}' }));
    const later = await goesOn(session);
    return [!later, later || "ok"];
  },
  "empty-reply": async (client, session) => {
    const [how, value] = await ends(session.send("Fake.empty"));
    const later = await goesOn(session);
    if (later) return [false, later];
    return [how !== "hangs", { hangs: "its command HANGS", result: `returns ${value}`, error: "error" }[how]];
  },
  cancelled: async () => [true, "no cancellation"],
  "two-handlers": async (client, session) => {
    const called = [];
    client.on(session, FIRST, () => called.push(1));
    client.on(session, FIRST, () => called.push(2));
    await ends(emit(session, [FIRST, FIRED]));
    await sleep(0.2);
    return [called.length === 2, called.length === 2 ? "ok" : `handler ${called} only`];
  },
  deadline: async (client, session) => {
    if (!client.sendWithin) return [false, "none for a command"];
    const start = performance.now();
    const [how, error] = await ends(client.sendWithin(session, "Fake.silent", 0.5));
    const took = (performance.now() - start) / 1000;
    return [how === "error", how === "error" ? `${error.constructor.name} after ${took.toFixed(1)} s` : how];
  },
  "raising-handler": async (client, session) => {
    const told = [];
    const others = [];
    process.on("uncaughtException", (error) => told.push(error));
    process.on("unhandledRejection", (error) => told.push(error));
    client.on(session, FIRST, () => {
      throw new RangeError("on purpose");
    });
    client.on(session, SECOND, (event) => others.push(event));
    const [how, error] = await ends(emit(session, [FIRST, FIRED], [SECOND, FIRED]));
    if (how === "error") return [false, `raised out of an unrelated command: ${error.constructor.name}`];
    const killed = told.length ? "kills the process by default" : "";
    const later = await goesOn(session);
    if (later) return [false, killed ? `${killed}; with a hook: ${later}` : later];
    if (!others.length) return [false, "later events lost"];
    return [false, killed || "reaches nobody but the log"];
  },
  dropped: (client, session) => wireEnds(session, "Fake.drop"),
  closed: (client, session) => wireEnds(session, "Fake.close"),
  "page-crashes": (client) => pageEnds(client, "Page.crash"),
  "page-closes": (client) => pageEnds(client, "Page.close"),
};

async function wireEnds(session, method) {
  let failed = 0;
  const fail = () => failed++;
  for (let i = 0; i < 100; i++) session.send("Fake.silent").then(fail, fail);
  await sleep(0.3);
  await ends(session.send(method), 0.5);
  await sleep(PATIENCE);
  return [failed === 100, `${failed} of 100 fail`];
}

async function pageEnds(client, method) {
  const session = await client.newTab();
  await session.send("Runtime.evaluate", EVALUATE);
  const waiting = session.send("Runtime.evaluate", { expression: "new Promise(() => {})", awaitPromise: true });
  waiting.catch(() => {});
  await sleep(0.3);
  const start = performance.now();
  ends(session.send(method), 6);
  const [how, error] = await ends(waiting, 6);
  const took = (performance.now() - start) / 1000;
  if (how === "hangs") return [false, "HANGS"];
  return [true, `fails after ${took.toFixed(1)} s: ${error?.constructor.name}`];
}

const [adapter, , scenario, url] = process.argv.slice(2);
const folder = process.env.BENCH_NODE;
const require = createRequire(path.join(folder, "package.json"));
const { Client } = await import(`./peers/${adapter}.mjs`);
process.on("unhandledRejection", () => {});
const client = new Client(require, folder);
await client.open(url);
const session = scenario.startsWith("page-") ? undefined : await client.attach();
const [how, value] = await ends(SCENARIOS[scenario](client, session), 30);
if (how === "result") tell(...value);
else tell(false, `${how}: ${value}`.slice(0, 100));
