// How the console talks with the server: the REST API, with the cookie, and the stream of changes.

// The browser sends the cookie to every port of this host; this half of the sign-in never leaves this origin.
const KEPT_AS = `cdpbridge-console ${new URL(document.baseURI).pathname}`;
const proof = () => localStorage.getItem(KEPT_AS) ?? "";

export class Refused extends Error {
  constructor(status, detail) {
    super(typeof detail === "string" ? detail : (detail ?? []).map((item) => item.msg).join("; ") || `status ${status}`);
    this.status = status;
  }
}

async function send(method, path, body) {
  const options = { method, headers: { "X-Cdpbridge-Console": proof() }, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  return answered(path, options);
}

async function answered(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  const text = await answer.text();
  let found = null;
  try {
    found = text ? JSON.parse(text) : null;
  } catch {
    found = { detail: text.slice(0, 200) };
  }
  if (!answer.ok) throw new Refused(answer.status, found?.detail);
  return found;
}

export async function signIn(key) {
  const found = await send("POST", "console/sign-in", { key });
  localStorage.setItem(KEPT_AS, found.proof);
  return found;
}

export async function signOut() {
  const found = await send("POST", "console/sign-out", {});
  localStorage.removeItem(KEPT_AS);
  return found;
}

/** An address of the console for what sends no headers: pictures, links and streams. */
export const linked = (path) => `${path}${path.includes("?") ? "&" : "?"}proof=${encodeURIComponent(proof())}`;

export const get = (path) => send("GET", `api/v2${path}`);
export const post = (path, body) => send("POST", `api/v2${path}`, body);
export const change = (path, body) => send("PATCH", `api/v2${path}`, body);
export const remove = (path) => send("DELETE", `api/v2${path}`);
/** The operator's side: projects, keys, credits and workers; refused without an admin key. */
export const admin = (method, path, body) => send(method, `admin/v1${path}`, body);
/** What the API does not tell: the ledger, and the files of a project. */
export const own = (path) => send("GET", `console${path}`);

/** Send a file as the form allows that the API has signed for it. */
export function upload(signed, file) {
  const body = new FormData();
  for (const [name, value] of Object.entries(signed.fields)) body.append(name, value);
  body.append("file", file);
  return answered(signed.url, { method: signed.method, body, credentials: "omit" });
}

/** Listen to changes; `on` has `snapshot(value)`, `signedOut()`, and `state("live" | "lost")`. Returns what ends it. */
export function listen(on) {
  let source = null;
  let timer = 0;
  let ended = false;
  function open() {
    source = new EventSource(linked("console/events"));
    source.onopen = () => on.state("live");
    source.addEventListener("snapshot", (event) => on.snapshot(JSON.parse(event.data)));
    source.addEventListener("signed-out", () => {
      close();
      on.signedOut();
    });
    source.onerror = async () => {
      if (ended) return;
      on.state("lost");
      source.close();
      // A refused stream and a server that is away look alike to EventSource; the REST API tells them apart.
      try {
        await get("/billing/account");
      } catch (error) {
        if (error.status === 401) {
          close();
          on.signedOut();
          return;
        }
      }
      if (!ended) timer = setTimeout(open, 2000);
    };
  }
  function close() {
    ended = true;
    clearTimeout(timer);
    source?.close();
  }
  open();
  return close;
}
