// What backtests and searches have in common: the list of what workers carry out, followed while it goes on, and the
// form that asks for a new one.
import { request } from "../api.js";
import { element, moment } from "../formats.js";
import { field, showErrors, words } from "./form.js";

const BUSY_MS = 1500, IDLE_MS = 15000, LIMIT = 30;
const $ = (id) => document.getElementById(id);
export const isOver = ({ state }) => !["queued", "running"].includes(state);

// `path` in the API; `boot` of the page; `empty` is said where there are none; `cells(run)` gives what is between the
// state and the time it was asked, as [text, classes]; `before(line, run)` may put a cell in front.
export class RunList {
  constructor({ path, boot, empty, cells, before = null, confirmation }) {
    Object.assign(this, { path, boot, empty, cells, before, confirmation, page: 1 });
    for (const [id, step] of [["newer", -1], ["older", 1]]) {
      $(id).addEventListener("click", () => {
        this.page += step;
        this.load();
      });
    }
    this.load();
  }

  async load() {
    clearTimeout(this.timer);
    const asked = (this.asked = (this.asked ?? 0) + 1);
    let wait = IDLE_MS;
    try {
      const { count, results } = await request("GET", `${this.path}?limit=${LIMIT}&page=${this.page}`);
      if (asked !== this.asked) return;
      const body = $("runs").tBodies[0];
      while (body.rows.length > results.length) body.deleteRow(-1);
      results.forEach((run, index) => this.fill(body.rows[index] ?? body.insertRow(), run));
      $("runs").hidden = !count;
      this.say(count ? "" : this.empty);
      $("newer").hidden = this.page === 1;
      $("older").hidden = this.page * LIMIT >= count;
      if (results.some((run) => !isOver(run))) wait = BUSY_MS;
    } catch (error) {
      if (asked !== this.asked) return;
      // The last page may be gone with what was deleted.
      if (error.status === 404 && this.page > 1) this.page -= 1;
      this.say(`The list could not be loaded: ${error.message}`);
    }
    this.timer = setTimeout(() => this.load(), wait);
  }

  say(text) {
    $("note").textContent = text;
    $("note").hidden = !text;
  }

  // What is there stays where nothing changed: a box that is ticked, a button that has the focus.
  fill(line, run) {
    if (line.dataset.run !== String(run.id)) {
      line.replaceChildren();
      line.dataset.run = run.id;
      this.before?.(line, run);
      line.append(this.name(run));
      for (const part of ["state", ...this.cells(run).map(() => "figure"), "asked", "controls"]) line.insertCell().dataset.part = part;
    }
    this.state(line.querySelector("[data-part=state]"), run);
    this.cells(run).forEach(([text, classes = ""], index) => show(line.querySelectorAll("[data-part=figure]")[index], text, classes));
    show(line.querySelector("[data-part=asked]"), moment(run.asked_at), "muted");
    this.controls(line.querySelector("[data-part=controls]"), run);
  }

  name(run) {
    const cell = element("td"), link = element("a", run.name || `${this.path} ${run.id}`);
    link.href = `${this.boot.list}${run.id}/`;
    cell.append(link);
    if (run.owner !== this.boot.user) cell.append(element("small", ` ${run.owner}`, "muted"));
    return cell;
  }

  state(cell, run) {
    const text = run.stop_asked && !isOver(run) ? "stopping" : run.state, shown = `${text} ${Math.floor(run.progress * 100)}`;
    if (cell.dataset.shown === shown) return;
    cell.dataset.shown = shown;
    cell.title = run.error;
    const tag = element("span", text, "state");
    tag.dataset.state = run.state;
    cell.replaceChildren(tag);
    if (run.state !== "running") return;
    const bar = Object.assign(element("progress"), { max: 1, value: run.progress });
    bar.setAttribute("aria-label", `Progress of ${run.name}`);
    cell.append(bar);
  }

  controls(cell, run) {
    const does = isOver(run) ? "Delete" : "Stop";
    if (cell.dataset.shown === does) return;
    cell.dataset.shown = does;
    const button = element("button", does, "quiet");
    button.type = "button";
    button.setAttribute("aria-label", `${does} ${run.name}`);
    button.addEventListener("click", () => this.act(button, run, does));
    cell.replaceChildren(button);
  }

  async act(button, run, does) {
    if (does === "Delete" && !confirm(this.confirmation)) return;
    button.disabled = true;
    try {
      await (does === "Delete" ? request("DELETE", `${this.path}/${run.id}`) : request("POST", `${this.path}/${run.id}/stop`));
    } catch (error) {
      button.disabled = false;
      this.say(`${run.name}: ${error.message}`);
      return;
    }
    this.load();
  }
}

function show(cell, text, classes) {
  if (cell.textContent !== text) cell.textContent = text;
  if (cell.className !== classes) cell.className = classes;
}

// The form is opened by its button or the key n, closed by Escape; `collect()` is what is asked of `path`.
export function askingForm({ path, boot, collect }) {
  const form = $("new");
  const open = (isOpen) => {
    form.hidden = !isOpen;
    $("new-button").setAttribute("aria-expanded", String(isOpen));
    if (isOpen) form.querySelector("[data-field]").focus();
    else $("new-button").focus();
  };
  $("new-button").addEventListener("click", () => open(form.hidden));
  $("cancel").addEventListener("click", () => open(false));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.submitter ?? form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      const made = await request("POST", path, collect());
      location.href = `${boot.list}${made.id}/`;
    } catch (error) {
      showErrors(form, $("form-error"), error);
      button.disabled = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    const isTaken = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey;
    if (event.key === "Escape" && !form.hidden) open(false);
    if (event.key !== "n" || isTaken) return;
    event.preventDefault();
    open(true);
  });
  if (boot.open) open(true);
}

// Symbols that are listed, offered to inputs whose `list` is "symbols".
export function offerSymbols(boot) {
  const symbols = element("datalist");
  symbols.id = "symbols";
  for (const each of boot.symbols) symbols.append(Object.assign(element("option"), { value: each }));
  document.body.append(symbols);
}

export const strategyChoices = (strategies) => strategies.map(({ key, title }) => [key, title]);
export const intervalChoices = (intervals) => intervals.map((each) => [each, each === "D" ? "1 day" : `${each} min`]);

export function parameterField(parent, name, spec, value) {
  const unit = spec.unit ? `${spec.kind === "choice" ? "," : ""} ${spec.unit}` : "";
  if (spec.kind === "choice") return field(parent, name, words(spec.name), { choices: spec.choices.map((each) => [each, each]), value, help: `${spec.help}${unit}` });
  return field(parent, name, words(spec.name), { kind: "number", value, help: `${spec.help}; ${spec.minimum} to ${spec.maximum}${unit}` });
}

// Sets what a field is called in the API, dots being objects or lists within each other: `put(body, "a.0.b", 1)`.
export function put(body, name, value) {
  const names = name.split("."), last = names.pop();
  let at = body;
  names.forEach((each, index) => {
    at = at[each] ??= /^\d+$/.test(names[index + 1] ?? last) ? [] : {};
  });
  at[last] = value;
}
