import { h } from "../dom.js";
import { moment } from "../format.js";
import { forget, steady } from "../steady.js";

const MINUTE = 60_000;

/** What was recorded of a browser: a still a minute, and the video when it has ended. */
export function recordingView(browser, state, actions) {
  if (!browser.recording) return null;
  const running = browser.recording === "recording";
  const turn = Math.floor(actions.now() / (running ? MINUTE : 5 * MINUTE));
  const found = actions.detail(`/browsers/${browser.id}/recording`, `${browser.state} ${browser.recording} ${turn}`);
  return h(
    "section.recording",
    { key: "recording", "aria-label": "Recording" },
    h("h2", {}, "Recording"),
    !found ? h("p.hint", {}, "Loading the recording...") : found.problem ? h("p.notice.bad", {}, found.problem) : content(found, running, state, actions),
  );
}

function content(found, running, state, actions) {
  return [
    found.note ? h("p.hint", {}, found.note) : null,
    running ? h("p.hint", {}, "It is recorded: the video comes when it has stopped, a picture every minute.") : null,
    found.url ? player(found, state.pictures, actions) : null,
    !running && !found.url && found.status !== "empty" ? h("p.hint", {}, "Its files were removed.") : null,
    found.stills.length ? h("ol.stills", {}, found.stills.map((still) => stillItem(still, state.pictures))) : null,
  ];
}

function player(found, kept, actions) {
  return [
    h("video", {
      key: "video",
      src: steady(found.url, kept, Infinity), // another address would begin it anew
      controls: true,
      preload: "metadata",
      "aria-label": "Video of this browser",
      onerror(event) {
        const at = event.target.currentTime;
        forget(found.url, kept); // it has expired: the answer has been asked for again meanwhile
        actions.render();
        event.target.currentTime = at;
      },
    }),
    h("p", {}, h("a", { href: found.url, download: true }, `Download the video (${megabytes(found.size)} MB)`)),
  ];
}

function stillItem(still, kept) {
  const address = steady(still.url, kept);
  return h(
    "li",
    { key: still.name },
    h("a", { href: address, download: still.name }, h("img", { src: address, alt: `The page at ${moment(still.takenAt)}`, loading: "lazy" }), h("span", {}, moment(still.takenAt))),
  );
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(1);
}
