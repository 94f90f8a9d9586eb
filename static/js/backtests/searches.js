// All searches for parameters, followed while they go on, and the form for a new one.
import { request } from "../api.js";
import { element, moment, tone } from "../formats.js";
import { field, list, showErrors, words } from "./form.js";
import { percent, ratio, share } from "./report.js";

const boot = JSON.parse(document.getElementById("boot").textContent);
const BUSY_MS = 1500, IDLE_MS = 15000, LIMIT = 30;
const $ = (id) => document.getElementById(id);
let page = 1, timer;

function fill(line, search) {
  const isOver = !["queued", "running"].includes(search.state), found = search.figures;
  const link = element("a", search.name || `search ${search.id}`), name = element("td"), state = element("td");
  link.href = `${boot.list}${search.id}/`;
  name.append(link);
  if (search.owner !== boot.user) name.append(element("small", ` ${search.owner}`, "muted"));
  const tag = element("span", search.stop_asked && !isOver ? "stopping" : search.state, "state");
  tag.dataset.state = search.state;
  state.append(tag);
  state.title = search.error;
  if (!isOver && search.done) {
    const bar = Object.assign(element("progress"), { max: 1, value: search.progress });
    bar.setAttribute("aria-label", `Progress of ${search.name}`);
    state.append(bar);
  }
  const value = found ? (search.objective === "total_return" ? percent(found.value) : ratio(found.value)) : "";
  line.replaceChildren(
    name, state, element("td", `${search.strategy} · ${search.symbols.slice(0, 2).join(", ")}${search.symbols.length > 2 ? ` +${search.symbols.length - 2}` : ""}`),
    element("td", `${search.start.slice(0, 10)} – ${search.end.slice(0, 10)}`),
    element("td", value && `${value} ${search.objective.replaceAll("_", " ")}`, "number"),
    element("td", found ? share(found.deflated_sharpe, 0) : "", "number"),
    element("td", found ? share(found.overfitting, 0) : "", "number"),
    element("td", found ? percent(found.walk_forward_return) : "", `number ${found?.walk_forward_return ? tone(found.walk_forward_return) : ""}`.trim()),
    element("td", moment(search.asked_at), "muted"),
  );
}

async function load() {
  clearTimeout(timer);
  let wait = IDLE_MS;
  try {
    const { count, results } = await request("GET", `searches?limit=${LIMIT}&page=${page}`);
    const body = $("runs").tBodies[0];
    while (body.rows.length > results.length) body.deleteRow(-1);
    results.forEach((search, index) => fill(body.rows[index] ?? body.insertRow(), search));
    $("runs").hidden = !count;
    $("note").hidden = Boolean(count);
    $("note").textContent = "No searches yet. Press “New search” to try many parameters of a strategy, and to hear what the best of them is worth.";
    $("newer").hidden = page === 1;
    $("older").hidden = page * LIMIT >= count;
    if (results.some(({ state }) => ["queued", "running"].includes(state))) wait = BUSY_MS;
  } catch (error) {
    $("note").hidden = false;
    $("note").textContent = `The list could not be loaded: ${error.message}`;
  }
  timer = setTimeout(load, wait);
}

const asked = boot.asked, backtest = asked.backtest;

function drawForm() {
  const one = backtest.strategies[0], run = "backtest.strategies.0.";
  const strategy = field($("what"), `${run}strategy`, "Strategy", { choices: boot.strategies.map(({ key, title }) => [key, title]), value: one.strategy });
  strategy.addEventListener("change", () => drawSpace(strategy.value, {}, {}));
  field($("what"), `${run}symbols`, "Symbols", { value: one.symbols.join(", "), help: "separated by commas", wide: true }).setAttribute("list", "symbols");
  field($("what"), "backtest.start", "From", { kind: "date", value: backtest.start.slice(0, 10), help: "UTC" });
  field($("what"), "backtest.end", "Until", { kind: "date", value: backtest.end.slice(0, 10), help: "the day after the last" });
  field($("what"), "backtest.interval", "Bars", { choices: boot.intervals.map((each) => [each, each === "D" ? "1 day" : `${each} min`]), value: backtest.interval, help: "that prices move by" });
  field($("what"), "backtest.venue", "Venue", { choices: boot.venues.map((each) => [each, each]), value: backtest.venue });
  field($("what"), "name", "Name", { help: "may be left out", wide: true });
  $("rest").textContent = `Balance ${backtest.balance} USDT, fee ${backtest.costs.fee}, slippage ${backtest.costs.slippage}, leverage ${one.leverage}; sizes, limits, exit rules and all costs are those of the backtest that you begin from (“Search parameters …” on its page), otherwise the usual ones.`;
  drawSpace(one.strategy, one.parameters, asked.space ?? {});
  field($("how"), "objective", "Best is the highest", { choices: boot.objectives.map((each) => [each, words(each)]), value: asked.objective ?? "sharpe" });
  field($("how"), "sampler", "Chosen", { choices: boot.samplers.map((each) => [each, { tpe: "by what was found (TPE)", random: "by chance", grid: "all of them (grid)" }[each]]), value: asked.sampler ?? "tpe" });
  for (const [name, label, value, help] of [["trials", "Trials", 100, "1 to 2000, in each training"], ["folds", "Folds", 4, "parts of a trial; it may be given up after each"], ["least_trades", "Fewest trades", 10, "with fewer a trial is not judged"], ["seed", "Seed", 7, "the same seed finds the same"]]) {
    field($("how"), name, label, { kind: "number", value: asked[name] ?? value, help });
  }
  field($("how"), "prune", "Give up hopeless trials", { kind: "switch", value: asked.prune ?? true, help: "those below the middle of the trials before" });
  const walk = asked.walk_forward;
  const wanted = field($("walk"), "walk", "With walk-forward", { kind: "switch", value: Boolean(walk) });
  const inputs = [["splits", "Splits", 4, "each a training and a test"], ["train_days", "Training, days", 90, ""], ["purge_days", "Purge, days", 1, "left out before each test"], ["embargo_days", "Embargo, days", 0, "and as much again"]]
    .map(([name, label, value, help]) => field($("walk"), `walk_forward.${name}`, label, { kind: "number", value: walk?.[name] ?? value, help }));
  inputs.push(field($("walk"), "walk_forward.anchored", "All trainings begin at the start", { kind: "switch", value: walk?.anchored ?? false }));
  const toggle = () => inputs.forEach((input) => { input.disabled = !wanted.checked; });
  wanted.addEventListener("change", toggle);
  toggle();
}

function drawSpace(key, values, space) {
  $("space").replaceChildren();
  for (const spec of boot.strategies.find((each) => each.key === key).parameters) {
    const row = element("div", "", "range"), unit = spec.unit ? `, ${spec.unit}` : "", range = space[spec.name];
    const moves = element("input"), label = element("label", words(spec.name));
    Object.assign(moves, { type: "checkbox", id: `moves-${spec.name}`, checked: Boolean(range) });
    label.htmlFor = moves.id;
    label.title = `${spec.help}${unit}`;
    row.append(moves, label);
    row.dataset.parameter = spec.name;
    const fixed = element("div", "", "fields"), moving = element("div", "", "fields");
    const name = `backtest.strategies.0.parameters.${spec.name}`, value = values[spec.name] ?? spec.default;
    if (spec.kind === "choice") {
      field(fixed, name, "stays", { choices: spec.choices.map((each) => [each, each]), value, help: `${spec.help}${unit}` });
      field(moving, `space.${spec.name}.choices`, "one of", { value: (range?.choices ?? spec.choices).join(", "), help: `of ${spec.choices.join(", ")}${unit}` });
    } else {
      field(fixed, name, "stays", { kind: "number", value, help: `${spec.help}; ${spec.minimum} to ${spec.maximum}${unit}` });
      field(moving, `space.${spec.name}.low`, "from", { kind: "number", value: range?.low ?? spec.minimum, help: `${spec.help}${unit}` });
      field(moving, `space.${spec.name}.high`, "to", { kind: "number", value: range?.high ?? spec.maximum });
      field(moving, `space.${spec.name}.step`, "step", { kind: "number", value: range?.step ?? "", help: "empty: a round one" });
    }
    for (const input of [...fixed.querySelectorAll("[data-field]"), ...moving.querySelectorAll("[data-field]")]) {
      input.setAttribute("aria-label", `${words(spec.name)} ${input.previousSibling.textContent}`);
    }
    const toggle = () => {
      fixed.hidden = moves.checked;
      moving.hidden = !moves.checked;
    };
    moves.addEventListener("change", toggle);
    toggle();
    row.append(fixed, moving);
    $("space").append(row);
  }
}

// The form's fields as the API wants them: dots are objects within objects. Of a parameter that stays, no range.
function collect() {
  const body = { backtest: { ...backtest, strategies: [{ ...backtest.strategies[0], parameters: {} }] }, space: {} };
  for (const input of $("new").querySelectorAll("[data-field]")) {
    const text = input.value.trim(), names = input.dataset.field.split("."), last = names.pop();
    if (input.disabled || input.closest(".fields").hidden || last === "walk") continue;
    let at = body;
    for (const name of names) at = at[name] ??= {};
    if (input.type === "checkbox") at[last] = input.checked;
    else if (last === "symbols") at[last] = list(text.toUpperCase());
    else if (last === "choices") at[last] = list(text);
    else if (last !== "step" || text) at[last] = text;
  }
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
    const search = await request("POST", "searches", collect());
    location.href = `${boot.list}${search.id}/`;
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
drawForm();
if (boot.open) openForm(true);
load();
