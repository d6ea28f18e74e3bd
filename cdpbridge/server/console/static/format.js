// Numbers, money and times as people read them.

const MINUTE = 60_000;

/** What is said beside a price of a server whose money is simulated. */
export function simulated(account) {
  return account.simulated ? " (simulated)" : "";
}

export function usd(amount, digits = 4) {
  return `$${Number(amount).toFixed(digits)}`;
}

/** 1:02:03, or 2:03; never negative. */
export function clock(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, place) => (place ? String(part).padStart(2, "0") : String(part))).join(":");
}

export function ago(text, now) {
  if (!text) return "never";
  const minutes = Math.floor((now - Date.parse(text)) / MINUTE);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ago`;
  return new Date(text).toLocaleDateString(undefined, { dateStyle: "medium" });
}

export function moment(text) {
  return text ? new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) : "";
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export function short(id) {
  return id.slice(0, 8);
}

/** The written rule: each started hour is charged, minutes are rounded up, what is left of the hour comes back. */
export function money(browser, now) {
  const used = Math.max(0, now - Date.parse(browser.startedAt));
  const billed = Math.max(browser.minimumMinutes, Math.ceil(used / MINUTE));
  const hours = Math.max(1, Math.ceil(billed / 60));
  const price = Number(browser.usdPerHour);
  return { cost: (price * billed) / 60, charged: price * hours, back: (price * (hours * 60 - billed)) / 60 };
}

const REASONS = {
  stopped_by_caller: "stopped by its client",
  expired: "its time was over",
  browser_exited: "the browser exited",
  disk_limit: "disk limit reached",
  memory_limit: "memory limit reached",
  process_limit: "process limit reached",
  start_failed: "it did not start",
  server_lost: "the server ended",
  worker_lost: "its worker was lost",
};

export function reason(word) {
  return REASONS[word] ?? word ?? "";
}
