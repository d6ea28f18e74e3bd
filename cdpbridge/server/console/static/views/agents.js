import * as api from "../api.js";
import { h } from "../dom.js";
import { ago, clock, moment, money, reason, short, usd } from "../format.js";
import { badge, button, empty, fact, table } from "../parts.js";
import { shareButton, sharedButtons } from "./shares.js";
import { steady } from "../steady.js";

const WORKING = new Set(["started", "paused"]);
const OVER = new Set(["stopped", "failed"]);
// Addresses of screenshots hold for 15 minutes: they are asked for again in time.
const ASKED_EVERY = 5 * 60_000;

export function agentsView(state, actions) {
  const { sessions, tasks } = state.snapshot;
  const running = sessions.filter((session) => !OVER.has(session.state));
  const ended = sessions.filter((session) => OVER.has(session.state));
  const heading = h(
    "div.heading",
    {},
    h("h1", {}, "Agents"),
    h("div.actions", {}, button("New session", () => actions.open({ kind: "session" })), button("New task", () => actions.open({ kind: "task" }), { kind: "primary" })),
  );
  if (!sessions.length) {
    return [heading, empty("No agent has worked yet", "Give one a task here, or with ", h("code", {}, "POST /api/v2/tasks"), ".")];
  }
  return [
    heading,
    tasks.length
      ? table(
          "Tasks, newest first",
          ["Task", "Status", "Model", "Steps", "Started", "Took", "Session"],
          tasks.map((task) => taskRow(task, actions)),
        )
      : h("p.hint", {}, "No task yet."),
    h("h2", {}, "Sessions"),
    table(
      "Sessions, running ones first",
      ["Session", "Status", "Started", "Time left", "Cost", ""],
      [...running, ...ended].map((session) => sessionRow(session, state, actions)),
    ),
  ];
}

function taskRow(task, actions) {
  return h(
    "tr",
    { key: task.id },
    h("th.wrap", { scope: "row" }, h("a", { href: `${location.pathname}#/tasks/${task.id}` }, task.task || "(purged)")),
    h("td", {}, status(task)),
    h("td", {}, task.llm),
    h("td.number", {}, String(task.steps)),
    h("td", { title: moment(task.createdAt) }, ago(task.createdAt, actions.now())),
    h("td.number", {}, took(task, actions)),
    h("td", {}, h("code", {}, short(task.sessionId))),
  );
}

function sessionRow(session, state, actions) {
  const over = OVER.has(session.state);
  return h(
    "tr",
    { key: session.id },
    h("th", { scope: "row" }, h("a", { href: `${location.pathname}#/browsers/${session.browserId}`, title: "Its browser" }, short(session.id))),
    h("td", {}, badge(session.state), session.shared ? [" ", h("span.chip", {}, "shared")] : null),
    h("td", { title: moment(session.startedAt) }, ago(session.startedAt ?? session.createdAt, actions.now())),
    h("td.number", {}, over ? reason(session.endReason) : clock(Date.parse(session.timeoutAt) - actions.now())),
    h("td.number", {}, cost(session, actions)),
    h("td.actions", {}, sessionButtons(session, state, actions)),
  );
}

/** The actions of a session: stop it, share it. */
function sessionButtons(session, state, actions) {
  const { id } = session;
  const stopping = state.busy.has(`stop ${id}`);
  const stop = () => actions.act(`stop ${id}`, () => api.change(`/sessions/${id}`, { action: "stop" }), "Session stopped, unused minutes refunded.");
  const over = OVER.has(session.state);
  return [
    session.shared ? sharedButtons(id, state, actions) : over ? null : shareButton(id, state, actions),
    over ? null : button(stopping ? "Stopping..." : "Stop session", stop, { key: "stop", kind: "danger", label: stopping ? null : `Stop session ${short(id)}`, disabled: stopping || session.state === "stopping" }),
  ];
}

export function taskView(state, actions, id) {
  const known = state.snapshot.tasks.find((task) => task.id === id);
  const turn = Math.floor(actions.now() / ASKED_EVERY);
  const task = actions.detail(`/tasks/${id}`, `${known?.state} ${known?.steps} ${turn}`);
  const heading = (...more) => h("div.heading", {}, h("h1", {}, "Task ", h("code", {}, short(id)), " ", known ? status(known) : null), more);
  if (!task) return [heading(), h("p.loading", {}, "Loading the task...")];
  if (task.problem) return [heading(), h("p.notice.bad", {}, task.problem)];
  // What the snapshot says is newer than the answer that it makes the page ask for.
  const now = known ?? { state: task.status, createdAt: task.createdAt, finishedAt: task.finishedAt, endReason: task.endReason, isSuccess: task.isSuccess };
  const session = state.snapshot.sessions.find((candidate) => candidate.id === task.sessionId);
  return [
    heading(h("div.actions", {}, taskButtons(id, now, state, actions), session ? sessionButtons(session, state, actions) : null)),
    h("p.wrap", {}, task.task || "(purged)"),
    h(
      "dl.facts.wide.panel",
      {},
      fact("Model", task.llm),
      fact("Started", moment(task.createdAt)),
      fact(now.finishedAt ? "Ended" : "Running for", now.finishedAt ? moment(now.finishedAt) : took(now, actions)),
      now.finishedAt ? fact("Took", took(now, actions)) : null,
      fact("Steps", String(task.steps.length)),
      session ? fact("Cost of its session", cost(session, actions)) : null,
      fact("Session", session ? h("a", { href: `${location.pathname}#/browsers/${session.browserId}` }, short(task.sessionId), ": see its browser") : short(task.sessionId)),
      now.endReason ? fact("Why it ended", now.endReason.replaceAll("_", " ")) : null,
    ),
    task.output ? [h("h2", {}, "Output"), h("pre.output.panel", { tabindex: "0", "aria-label": "Output" }, task.output)] : null,
    task.outputFiles.length ? [h("h2", {}, "Files"), h("ul.files", {}, task.outputFiles.map((file) => fileItem(id, file, state, actions)))] : null,
    h("h2", {}, "Steps"),
    task.steps.length ? h("ol.steps", {}, task.steps.map((step) => stepItem(step, state))) : h("p.hint", {}, WORKING.has(now.state) ? "The first one is on its way." : "None."),
  ];
}

function taskButtons(id, task, state, actions) {
  const tell = (action, done) => () => actions.act(`task ${id}`, () => api.change(`/tasks/${id}`, { action }), done);
  const disabled = state.busy.has(`task ${id}`);
  return [
    task.state === "started" ? button("Pause", tell("pause", "Paused after the step it is at."), { key: "pause", disabled }) : null,
    task.state === "paused" ? button("Resume", tell("resume", "Resumed."), { key: "resume", disabled }) : null,
    WORKING.has(task.state) ? button("Stop task", tell("stop", "Task stopped."), { key: "stop task", kind: "danger", disabled }) : null,
  ];
}

function fileItem(id, file, state, actions) {
  async function download() {
    const found = await actions.act(`file ${file.id}`, () => api.get(`/files/tasks/${id}/output-files/${file.id}`));
    if (found) Object.assign(document.createElement("a"), { href: found.downloadUrl, download: found.fileName }).click();
  }
  return h("li", { key: file.id }, button(file.fileName, download, { label: `Download ${file.fileName}`, disabled: state.busy.has(`file ${file.id}`) }));
}

function stepItem(step, state) {
  return h(
    "li.step.panel",
    { key: step.number },
    step.screenshotUrl ? h("img", { src: steady(step.screenshotUrl, state.pictures), alt: `The page at step ${step.number}`, loading: "lazy" }) : h("div.blank", {}, "No picture"),
    h(
      "div.said",
      {},
      h("h3", {}, `${step.number}. ${step.nextGoal}`),
      step.evaluationPreviousGoal ? h("p.hint", {}, step.evaluationPreviousGoal) : null,
      step.url ? h("p", {}, h("code", {}, step.url)) : null,
      step.actions.map((action) => h("pre", {}, h("code", {}, action))),
    ),
  );
}

function status(task) {
  return task.state === "finished" && task.isSuccess === false ? badge("not done", "failed") : badge(task.state);
}

function took(task, actions) {
  return clock((task.finishedAt ? Date.parse(task.finishedAt) : actions.now()) - Date.parse(task.createdAt));
}

function cost(session, actions) {
  return session.state === "active" ? usd(money(session, actions.now()).cost) : usd(Number(session.chargedUsd) - Number(session.refundedUsd));
}
