// All searches for parameters, and the form for a new one.
import { element, tone } from "../formats.js";
import { field, list, words } from "./form.js";
import { percent, ratio, share } from "./report.js";
import { askingForm, intervalChoices, offerSymbols, put, RunList, strategyChoices } from "./runs.js";

const boot = JSON.parse(document.getElementById("boot").textContent);
const $ = (id) => document.getElementById(id);

function cells({ strategy, symbols, start, end, objective, figures }) {
  const more = symbols.length > 2 ? ` +${symbols.length - 2}` : "";
  const value = figures ? (objective === "total_return" ? percent(figures.value) : ratio(figures.value)) : "";
  const forward = figures?.walk_forward_return;
  return [
    [`${strategy} · ${symbols.slice(0, 2).join(", ")}${more}`],
    [`${start.slice(0, 10)} – ${end.slice(0, 10)}`],
    [value && `${value} ${objective.replaceAll("_", " ")}`, "number"],
    [figures ? share(figures.deflated_sharpe, 0) : "", "number"],
    [figures ? share(figures.overfitting, 0) : "", "number"],
    [figures ? percent(forward) : "", `number ${forward ? tone(forward) : ""}`.trim()],
  ];
}

const asked = boot.asked, backtest = asked.backtest;

function drawForm() {
  const one = backtest.strategies[0], run = "backtest.strategies.0.";
  const strategy = field($("what"), `${run}strategy`, "Strategy", { choices: strategyChoices(boot.strategies), value: one.strategy });
  strategy.addEventListener("change", () => drawSpace(strategy.value, {}, {}));
  field($("what"), `${run}symbols`, "Symbols", { value: one.symbols.join(", "), help: "separated by commas", wide: true }).setAttribute("list", "symbols");
  field($("what"), "backtest.start", "From", { kind: "date", value: backtest.start.slice(0, 10), help: "UTC" });
  field($("what"), "backtest.end", "Until", { kind: "date", value: backtest.end.slice(0, 10), help: "the day after the last" });
  field($("what"), "backtest.interval", "Bars", { choices: intervalChoices(boot.intervals), value: backtest.interval, help: "that prices move by" });
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

// The form's fields as the API wants them. Of a parameter that stays, no range.
function collect() {
  const body = { backtest: { ...backtest, strategies: [{ ...backtest.strategies[0], parameters: {} }] }, space: {} };
  for (const input of $("new").querySelectorAll("[data-field]")) {
    const name = input.dataset.field, last = name.split(".").at(-1), text = input.value.trim();
    if (input.disabled || input.closest(".fields").hidden || last === "walk") continue;
    if (input.type === "checkbox") put(body, name, input.checked);
    else if (last === "symbols") put(body, name, list(text.toUpperCase()));
    else if (last === "choices") put(body, name, list(text));
    else if (last !== "step" || text) put(body, name, text);
  }
  return body;
}

offerSymbols(boot);
drawForm();
askingForm({ path: "searches", boot, collect });
new RunList({
  path: "searches", boot, cells,
  empty: "No searches yet. Press “New search” to try many parameters of a strategy, and to hear what the best of them is worth.",
  confirmation: "Delete this search with all its trials?",
});
