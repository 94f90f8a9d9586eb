// All runs with their states, followed while they go on, and the form for a new one.
import { request } from "../api.js";
import { element, moment } from "../formats.js";
import { field, list, showErrors, words } from "./form.js";
import { percent, ratio, share } from "./report.js";

const boot = JSON.parse(document.getElementById("boot").textContent);
const BUSY_MS = 1500, IDLE_MS = 15000, LIMIT = 30;
const $ = (id) => document.getElementById(id);
const chosen = new Set();
let page = 1, timer;

function cellOf(line, index, text, classes = "") {
  const cell = line.cells[index] ?? line.insertCell();
  if (cell.textContent !== text) cell.textContent = text;
  if (cell.className !== classes) cell.className = classes;
  return cell;
}

function fill(line, run) {
  if (line.dataset.run !== String(run.id)) {
    line.replaceChildren();
    line.dataset.run = run.id;
    const box = element("input");
    box.type = "checkbox";
    box.checked = chosen.has(run.id);
    box.setAttribute("aria-label", `Compare ${run.name}`);
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(run.id);
      else chosen.delete(run.id);
      showCompare();
    });
    line.insertCell().append(box);
    const link = element("a", run.name || `backtest ${run.id}`);
    link.href = `${boot.list}${run.id}/`;
    const name = line.insertCell();
    name.append(link);
    if (run.owner !== boot.user) name.append(element("small", ` ${run.owner}`, "muted"));
  }
  line.cells[0].firstChild.disabled = run.state !== "done";
  const isOver = !["queued", "running"].includes(run.state), figures = run.figures;
  const state = run.state === "running" ? `${Math.floor(run.progress * 100)} %` : run.state;
  const cell = line.cells[2] ?? line.insertCell();
  if (cell.dataset.shown !== state) {
    const tag = element("span", run.stop_asked && !isOver ? "stopping" : run.state, "state");
    tag.dataset.state = run.state;
    cell.replaceChildren(tag);
    if (run.state === "running") {
      const bar = element("progress");
      Object.assign(bar, { max: 1, value: run.progress });
      bar.setAttribute("aria-label", `Progress of ${run.name}`);
      cell.append(bar);
    }
    cell.dataset.shown = state;
    cell.title = run.error;
  }
  const more = run.symbols.length > 3 ? ` +${run.symbols.length - 3}` : "";
  cellOf(line, 3, run.symbols.slice(0, 3).join(", ") + more);
  cellOf(line, 4, `${run.start.slice(0, 10)} – ${run.end.slice(0, 10)}`);
  cellOf(line, 5, figures ? percent(figures.total_return) : "", `number ${figures ? (figures.total_return >= 0 ? "up" : "down") : ""}`.trim());
  cellOf(line, 6, figures ? ratio(figures.sharpe) : "", "number");
  cellOf(line, 7, figures ? share(figures.max_drawdown) : "", "number");
  cellOf(line, 8, figures ? String(figures.trades) : "", "number");
  cellOf(line, 9, figures ? share(figures.win_rate) : "", "number");
  cellOf(line, 10, moment(run.asked_at), "muted");
  const last = line.cells[11] ?? line.insertCell();
  if (isOver) last.replaceChildren();
  else if (!last.firstChild) {
    const stop = element("button", "Stop", "quiet");
    stop.type = "button";
    stop.addEventListener("click", async () => {
      stop.disabled = true;
      await request("POST", `backtests/${run.id}/stop`).catch(() => {});
      load();
    });
    last.append(stop);
  }
}

function showCompare() {
  const [first, ...rest] = chosen;
  $("compare").hidden = chosen.size < 2;
  $("compare").textContent = `Compare ${chosen.size}`;
  $("compare").href = `${boot.list}${first}/?with=${rest.slice(0, 4).join(",")}`;
}

async function load() {
  clearTimeout(timer);
  let wait = IDLE_MS;
  try {
    const { count, results } = await request("GET", `backtests?limit=${LIMIT}&page=${page}`);
    const body = $("runs").tBodies[0];
    while (body.rows.length > results.length) body.deleteRow(-1);
    results.forEach((run, index) => fill(body.rows[index] ?? body.insertRow(), run));
    $("runs").hidden = !count;
    $("note").hidden = Boolean(count);
    $("note").textContent = "No backtests yet. Press “New backtest” to try a strategy on what was.";
    $("newer").hidden = page === 1;
    $("older").hidden = page * LIMIT >= count;
    if (results.some(({ state }) => ["queued", "running"].includes(state))) wait = BUSY_MS;
  } catch (error) {
    $("note").hidden = false;
    $("note").textContent = `The list could not be loaded: ${error.message}`;
  }
  timer = setTimeout(load, wait);
}

const range = ({ least, most, help }) => `${help ? `${help}; ` : ""}${Number(least)} to ${Number(most)}`;

function drawForm(asked) {
  for (const id of ["what", "size", "costs", "limits", "exit_rules"]) $(id).replaceChildren();
  const one = asked.strategies[0];
  const strategy = field($("what"), "strategies.0.strategy", "Strategy", { choices: boot.strategies.map(({ key, title }) => [key, title]), value: one.strategy });
  strategy.addEventListener("change", () => drawParameters(strategy.value, {}));
  const source = field($("what"), "source", "Tested on", { choices: boot.sources.map((each) => [each, each]), value: asked.source, help: "books and trades are recordings" });
  const names = [...new Set([...(asked.recording ? [asked.recording] : []), ...boot.recordings])];
  field($("what"), "recording", "Recording", { choices: names.map((each) => [each, each]), value: asked.recording ?? names[0], help: "from its beginning to its end" });
  source.addEventListener("change", () => showSource(source.value, strategy));
  field($("what"), "strategies.0.symbols", "Symbols", { value: one.symbols.join(", "), help: "separated by commas", wide: true }).setAttribute("list", "symbols");
  field($("what"), "start", "From", { kind: "date", value: asked.start.slice(0, 10), help: "UTC" });
  field($("what"), "end", "Until", { kind: "date", value: asked.end.slice(0, 10), help: "the day after the last" });
  field($("what"), "interval", "Bars", { choices: boot.intervals.map((each) => [each, each === "D" ? "1 day" : `${each} min`]), value: asked.interval, help: "that prices move by" });
  field($("what"), "venue", "Venue", { choices: boot.venues.map((each) => [each, each]), value: asked.venue });
  field($("what"), "balance", "Balance, USDT", { kind: "number", value: asked.balance });
  field($("what"), "name", "Name", { value: asked.name ?? "", help: "may be left out", wide: true });
  drawParameters(one.strategy, one.parameters);
  showSource(asked.source, strategy);
  field($("size"), "strategies.0.sizing_mode", "Size by", { choices: [["percent", "percent of balance"], ["fixed_usd", "fixed amount (USD)"], ["minimum", "smallest allowed"]], value: one.sizing_mode });
  field($("size"), "strategies.0.sizing_value", "Value", { kind: "number", value: one.sizing_value, help: "percent, or USD, as margin" });
  field($("size"), "strategies.0.leverage", "Leverage", { kind: "number", value: one.leverage, help: "1 to 50" });
  for (const name of ["allow_reversal", "size_by_confidence", "adaptive_leverage"]) field($("size"), `strategies.0.${name}`, words(name), { kind: "switch", value: one[name] });
  for (const group of ["costs", "limits", "exit_rules"]) {
    for (const [name, value] of Object.entries(asked[group])) {
      const known = boot.ranges[group][name];
      if (typeof value === "boolean") field($(group), `${group}.${name}`, words(name), { kind: "switch", value });
      else if (known) field($(group), `${group}.${name}`, words(name), { kind: "number", value, help: range(known) });
      else field($(group), `${group}.${name}`, words(name), { value: value.map((pair) => pair.join(":")).join(", "), help: "profit %:value %, separated by commas", wide: true });
    }
  }
}

// What a recording says itself is not asked for; strategies of books hear nothing of candles.
const OF_CANDLES = ["start", "end", "venue"];

function showSource(source, strategy) {
  const isRecorded = source !== "candles";
  for (const name of OF_CANDLES) $(`f-${name}`).parentElement.hidden = isRecorded;
  $("f-recording").parentElement.hidden = !isRecorded;
  for (const option of strategy.options) option.hidden = option.disabled = !isRecorded && !boot.strategies.find(({ key }) => key === option.value).candles;
  if (strategy.selectedOptions[0]?.disabled) {
    strategy.value = boot.strategies.find(({ candles }) => candles).key;
    drawParameters(strategy.value, {});
  }
}

function drawParameters(key, values) {
  $("parameters").replaceChildren();
  for (const spec of boot.strategies.find((each) => each.key === key).parameters) {
    const name = `strategies.0.parameters.${spec.name}`, value = values[spec.name] ?? spec.default;
    const unit = spec.unit ? ` ${spec.unit}` : "";
    if (spec.kind === "choice") field($("parameters"), name, words(spec.name), { choices: spec.choices.map((each) => [each, each]), value, help: `${spec.help}${spec.unit ? `, ${spec.unit}` : ""}` });
    else field($("parameters"), name, words(spec.name), { kind: "number", value, help: `${spec.help}; ${spec.minimum} to ${spec.maximum}${unit}` });
  }
}

// The form's fields as the API wants them: dots are objects within objects.
function collect() {
  const body = { strategies: [{}] };
  for (const input of $("new").querySelectorAll("[data-field]")) {
    const names = input.dataset.field.split("."), last = names.pop();
    let at = body;
    for (const name of names) at = at[name] ??= {};
    const text = input.value.trim();
    if (input.type === "checkbox") at[last] = input.checked;
    else if (last === "symbols") at[last] = list(text.toUpperCase());
    else if (last === "trailing_stop_distances" || last === "partial_exits") at[last] = list(text).map((pair) => pair.split(":").map((each) => each.trim()));
    else if (names[0] === "limits" && !text) at[last] = null;
    else at[last] = text;
  }
  if (body.source === "candles") delete body.recording;
  else for (const name of OF_CANDLES) delete body[name];
  if (body.source === "books") for (const name of ["slippage", "spread", "impact"]) delete body.costs[name];
  return body;
}

function openForm(isOpen) {
  $("new").hidden = !isOpen;
  $("new-button").setAttribute("aria-expanded", String(isOpen));
  if (isOpen) $("new").querySelector("[data-field]").focus();
}

$("new-button").addEventListener("click", () => openForm($("new").hidden));
$("cancel").addEventListener("click", () => openForm(false));
$("new").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.submitter ?? $("new").querySelector("[type=submit]");
  button.disabled = true;
  try {
    const run = await request("POST", "backtests", collect());
    location.href = `${boot.list}${run.id}/`;
  } catch (error) {
    showErrors($("new"), $("form-error"), error);
    button.disabled = false;
  }
});
document.addEventListener("keydown", (event) => {
  const isTaken = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey;
  if (event.key === "Escape" && !$("new").hidden) openForm(false);
  if (event.key !== "n" || isTaken) return;
  event.preventDefault();
  openForm(true);
});
for (const [id, step] of [["newer", -1], ["older", 1]]) {
  $(id).addEventListener("click", () => {
    page += step;
    load();
  });
}
const symbols = element("datalist");
symbols.id = "symbols";
for (const each of boot.symbols) symbols.append(Object.assign(element("option"), { value: each }));
document.body.append(symbols);
drawForm(boot.asked);
if (boot.open) openForm(true);
load();
