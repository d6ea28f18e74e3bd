// What only the operator sees: projects with their plans, limits and credits, the keys of all of them, and the workers.

import * as api from "../api.js";
import { h } from "../dom.js";
import { moment, usd } from "../format.js";
import { badge, button, dialogForm, field, snippet, table } from "../parts.js";

/** Ask the operator's API again when something was changed here. */
function changed(state, actions) {
  state.operatorRevision = (state.operatorRevision ?? 0) + 1;
  actions.render();
}

export function operatorSection(state, actions) {
  if (!state.snapshot.operator) return [];
  const found = actions.detail("operator", `${state.operatorRevision ?? 0}`, async () => {
    const paths = ["/projects", "/keys", "/workers"];
    const [projects, keys, workers] = await Promise.all(paths.map((path) => api.admin("GET", path)));
    return { projects: projects.items, keys: keys.items, workers };
  });
  if (!found) return h("p.loading", {}, "Loading projects and keys...");
  if (found.problem) return h("p.notice.bad", {}, found.problem);
  return [
    h("h2", {}, "Projects"),
    h("div.actions", {}, button("New project", () => actions.open({ kind: "project" }))),
    table(
      "Projects",
      ["Project", "Plan", "Browsers", "Credits", "Keys", "Last use", "Change"],
      found.projects.map((project) =>
        h(
          "tr",
          { key: project.id },
          h("th", { scope: "row" }, project.name),
          h("td", {}, project.plan),
          h("td.number", {}, `${project.activeBrowsers} of ${project.maxBrowsers}`),
          h("td.number", {}, usd(project.balanceUsd, 6)),
          h("td.number", {}, String(project.keys)),
          h("td", {}, project.lastUsedAt ? moment(project.lastUsedAt) : "never"),
          h(
            "td",
            {},
            button("Change", () => actions.open({ kind: "project", project }), { kind: "quiet", label: `Change project ${project.name}` }),
            button("Add credits", () => actions.open({ kind: "grant", project }), { kind: "quiet", label: `Add credits to project ${project.name}` }),
          ),
        ),
      ),
    ),
    h("h2", {}, "API keys"),
    h("div.actions", {}, button("New key", () => actions.open({ kind: "key", projects: found.projects }))),
    table(
      "API keys, oldest first",
      ["Project", "Name", "Key", "Made", "Last use", "Revoke"],
      found.keys.map((key) => keyRow(key, state, actions)),
    ),
    ...workersSection(found.workers, state, actions),
  ];
}

/** The machines that run browsers for all servers; nothing where browsers run on the server's own. */
function workersSection(workers, state, actions) {
  if (!workers.items.length && !workers.waitingOrders) return [];
  const waiting = workers.waitingOrders;
  return [
    h("h2", {}, "Workers"),
    h("p", {}, waiting ? `${waiting} ${waiting === 1 ? "order waits" : "orders wait"} for a slot.` : "No order waits for a slot."),
    h("div.actions", {}, button("Read again", () => changed(state, actions))),
    table(
      "Workers, by name",
      ["Worker", "Address", "Browsers", "Starting", "Since", "Drain"],
      workers.items.map((worker) => workerRow(worker, state, actions)),
    ),
  ];
}

function workerRow(worker, state, actions) {
  return h(
    "tr",
    { key: worker.id },
    h("th", { scope: "row" }, worker.name),
    h("td", {}, worker.address),
    h("td.number", {}, `${worker.running} of ${worker.slots}`),
    h("td.number", {}, String(worker.starting)),
    h("td", {}, moment(worker.joinedAt)),
    h("td", {}, worker.draining ? badge("draining") : button("Drain", () => drain(worker, state, actions), { kind: "quiet", label: `Drain worker ${worker.name}` })),
  );
}

function drain(worker, state, actions) {
  const text = `Worker ${worker.name} gets no further browser. The ${worker.running} that it has go on; when they have ended, it can be stopped without a loss.`;
  const work = async () => {
    await actions.act(`drain ${worker.id}`, () => api.admin("POST", `/workers/${worker.id}/drain`), "Worker drained.");
    changed(state, actions);
  };
  actions.open({ kind: "confirm", title: "Drain this worker?", text, word: "Drain", work });
}

function keyRow(key, state, actions) {
  const kinds = [key.admin ? badge("admin") : null, key.configured ? badge("configured") : null];
  const title = key.name ?? key.hint ?? key.id;
  return h(
    "tr",
    { key: key.id },
    h("th", { scope: "row" }, key.project),
    h("td", {}, key.name ?? "", " ", kinds),
    h("td", {}, key.hint ?? ""),
    h("td", {}, moment(key.createdAt)),
    h("td", {}, key.lastUsedAt ? moment(key.lastUsedAt) : "never"),
    h("td", {}, key.revokedAt ? `revoked ${moment(key.revokedAt)}` : button("Revoke", () => revoke(key, title, state, actions), { kind: "quiet", label: `Revoke key ${title}` })),
  );
}

function revoke(key, title, state, actions) {
  const text = `Programs that use the key ${title} of project ${key.project} are refused at once. Browsers that were rented with it are stopped and refunded.`;
  const work = async () => {
    await actions.act(`revoke ${key.id}`, () => api.admin("DELETE", `/keys/${key.id}`), "Key revoked.");
    changed(state, actions);
  };
  actions.open({ kind: "confirm", title: "Revoke this key?", text, word: "Revoke", work });
}

export function keyDialog(state, actions) {
  const { projects, made } = state.dialog;
  if (made) {
    return [
      h("h2", { id: "dialog-title" }, "New key"),
      h("p", {}, `Copy the key of project ${made.project} now: the server keeps only its hash, so it is not shown again.`),
      snippet(made.key, made.key, "API key", state, actions),
      h("div.actions", {}, button("Done", actions.close, { kind: "primary" })),
    ];
  }
  async function submit(values) {
    const body = { project: values.get("project"), admin: values.get("admin") === "on" };
    if (values.get("name")) body.name = values.get("name");
    const key = await actions.act("new key", () => api.admin("POST", "/keys", body));
    if (!key) return;
    actions.open({ kind: "key", made: key });
    changed(state, actions);
  }
  const options = projects.map((project) => h("option", { key: project.id, value: project.name }, project.name));
  return dialogForm(
    state,
    actions,
    { title: "New key", name: "new key", word: "Make key", waiting: "Making...", submit },
    field("project", "Project", ["select", {}, options]),
    field("name", "Name", ["input", { maxlength: 100, placeholder: "What it is for" }]),
    field("admin", "Admin key", ["input", { type: "checkbox" }], "May manage projects, keys and credits too."),
  );
}

export function operatorProjectDialog(state, actions) {
  const { project } = state.dialog;
  async function submit(values) {
    const body = { plan: values.get("plan"), maxBrowsers: Number(values.get("limit")) };
    const work = () => (project ? api.admin("PATCH", `/projects/${project.id}`, body) : api.admin("POST", "/projects", { ...body, name: values.get("name") }));
    if (!(await actions.act("project", work, project ? "Project changed." : "Project made."))) return;
    actions.close();
    changed(state, actions);
  }
  const plans = ["paid", "free"].map((plan) => h("option", { key: plan, value: plan, selected: plan === project?.plan }, plan === "free" ? "free: 15 minutes a browser" : "paid: 240 minutes a browser"));
  return dialogForm(
    state,
    actions,
    { title: project ? `Project ${project.name}` : "New project", name: "project", word: project ? "Change" : "Make project", waiting: "Working...", submit },
    project ? null : field("name", "Name", ["input", { required: true, maxlength: 200 }]),
    field("plan", "Plan", ["select", {}, plans]),
    field("limit", "Browsers at once", ["input", { type: "number", min: 1, max: 10000, step: 1, required: true, initial: String(project?.maxBrowsers ?? state.snapshot.account.limit) }]),
  );
}

export function grantDialog(state, actions) {
  const { project } = state.dialog;
  async function submit(values) {
    const body = { amountUsd: values.get("amount") }; // as text: no number type rounds it
    if (values.get("note")) body.note = values.get("note");
    if (!(await actions.act("grant", () => api.admin("POST", `/projects/${project.id}/credits`, body), "Credits added."))) return;
    actions.close();
    changed(state, actions);
  }
  return dialogForm(
    state,
    actions,
    { title: `Credits for ${project.name}`, name: "grant", word: "Add credits", waiting: "Adding...", submit },
    field("amount", "Amount in USD", ["input", { inputmode: "decimal", required: true, pattern: "[0-9]+([.][0-9]{1,6})?", placeholder: "12.50" }]),
    field("note", "Note", ["input", { maxlength: 40, placeholder: "What the ledger says it is for" }]),
  );
}
