// The dialogs that put agents to work: a session, and a task in a new session or in one that runs.

import * as api from "../api.js";
import { h } from "../dom.js";
import { short, simulated, usd } from "../format.js";
import { countryField, orderOf, profileField, screenFields, startUrlField } from "../orders.js";
import { dialogForm, field } from "../parts.js";

const WORKING = new Set(["created", "started", "paused", "stopping"]);

export function sessionDialog(state, actions) {
  const { account, profiles } = state.snapshot;
  async function submit(values) {
    const body = orderOf(values);
    if (values.get("startUrl")) body.startUrl = values.get("startUrl");
    const made = await actions.act("session", () => api.post("/sessions", body), "Session started.");
    if (made) {
      actions.close();
      actions.go("/agents");
    }
  }
  return dialogForm(
    state,
    actions,
    { title: "New session", name: "session", word: "Start", waiting: "Starting...", submit },
    profileField(profiles),
    countryField(account),
    startUrlField(),
    screenFields(),
    h("p.hint", {}, `A browser that takes tasks, one at a time, for ${account.maxMinutes} minutes at most; ${usd(account.usdPerHour, 2)} an hour${simulated(account)}.`),
  );
}

export function taskDialog(state, actions) {
  const { account, agents, profiles, sessions, tasks } = state.snapshot;
  const busy = new Set(tasks.filter((task) => WORKING.has(task.state)).map((task) => task.sessionId));
  const idle = sessions.filter((session) => session.state === "active" && !busy.has(session.id));
  const { session } = state.dialog;
  async function submit(values) {
    const body = { task: values.get("task"), llm: values.get("llm"), maxSteps: Number(values.get("maxSteps")) };
    if (values.get("startUrl")) body.startUrl = values.get("startUrl");
    if (session) body.sessionId = session;
    else body.sessionSettings = { ...orderOf(values), keepAlive: values.get("keepAlive") === "on" };
    const made = await actions.act("task", () => api.post("/tasks", body), "The agent is at work.");
    if (made) {
      actions.close();
      actions.go(`/tasks/${made.id}`);
    }
  }
  const choose = (event) => {
    state.dialog.session = event.target.value;
    actions.render();
  };
  return dialogForm(
    state,
    actions,
    { title: "New task", name: "task", word: "Start", waiting: "Starting...", disabled: Boolean(agents.refusal), submit },
    agents.refusal ? h("p.notice.bad", { key: "refusal" }, `${agents.refusal}.`) : null,
    field("task", "What is to be done?", ["textarea", { rows: 4, required: true, maxlength: 50_000, autofocus: true }]),
    h(
      "div.pair.uneven",
      { key: "agent" },
      field("llm", "Model", ["select", {}, agents.models.map((model) => h("option", { key: model, value: model }, model))]),
      field("maxSteps", "Steps at most", ["input", { type: "number", min: 1, max: 10_000, step: 1, required: true, initial: 100 }]),
    ),
    startUrlField(),
    field("session", "Session", ["select", { onchange: choose }, h("option", { value: "" }, "A new one"), idle.map((each) => h("option", { key: each.id, value: each.id }, short(each.id)))]),
    session
      ? null
      : [
          profileField(profiles),
          countryField(account),
          screenFields(),
          h("label.check", { key: "keep" }, h("input", { type: "checkbox", name: "keepAlive" }), "Keep the session after the task"),
        ],
  );
}
