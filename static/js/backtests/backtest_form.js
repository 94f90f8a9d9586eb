// What a backtest is asked: strategies on the symbols of one account, on candles or on what was recorded.
import { request } from "../api.js";
import { element } from "../formats.js";
import { field, list, words } from "./form.js";
import { span, utc } from "./report.js";
import { intervalChoices, parameterField, put, strategyChoices } from "./runs.js";

const $ = (id) => document.getElementById(id);
const SOURCES = { candles: "bars of the archive", trades: "recorded trades", books: "recorded order books" };
// A recorded book itself shows what these reckon otherwise.
const SHOWN_BY_BOOKS = ["costs.slippage", "costs.spread", "costs.impact"];
const SIZES = [["percent", "percent of balance"], ["fixed_usd", "fixed amount (USD)"], ["minimum", "smallest allowed"]];
const SWITCHES = ["allow_reversal", "size_by_confidence", "adaptive_leverage"];
const range = ({ least, most, help }) => `${help ? `${help}; ` : ""}${Number(least)} to ${Number(most)}`;
const pairs = (text) => list(text).map((pair) => pair.split(":").map((each) => each.trim()));

function foldable(parent, title, isOpen) {
  const made = element("details"), fields = element("div", "", "fields");
  made.open = isOpen;
  made.append(element("summary", title), fields);
  parent.append(made);
  return fields;
}

function button(text, act, label = text) {
  const made = element("button", text, "quiet");
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

export class BacktestForm {
  constructor(boot) {
    this.boot = boot;
    this.recordings = null;
    const { asked } = boot;
    this.drawWhat(asked);
    for (const group of ["costs", "limits", "exit_rules"]) this.drawGroup(group, asked[group]);
    this.drawStrategies(asked.strategies);
    this.drawGroups(asked.groups ?? []);
    $("add-strategy").addEventListener("click", () => this.addStrategy());
    $("add-group").addEventListener("click", () => this.drawGroups([...this.collect().groups, { name: "", symbols: [], max_positions: "", max_notional: "" }], true));
    this.showSource();
  }

  get source() {
    return this.inputs.source.value;
  }

  drawWhat(asked) {
    const { boot } = this, what = $("what");
    this.inputs = {
      source: field(what, "source", "Tested on", { choices: boot.sources.map((each) => [each, SOURCES[each]]), value: asked.source }),
      recording: field(what, "recording", "Recording", { choices: [[asked.recording ?? "", asked.recording || "…"]], value: asked.recording ?? "", wide: true }),
      start: field(what, "start", "From", { kind: "date", help: "UTC" }),
      end: field(what, "end", "Until", { kind: "date", help: "the day after the last" }),
      interval: field(what, "interval", "Bars", { choices: intervalChoices(boot.intervals), value: asked.interval, help: "that prices move by" }),
      venue: field(what, "venue", "Venue", { choices: boot.venues.map((each) => [each, each]), value: asked.venue }),
    };
    field(what, "balance", "Balance, USDT", { kind: "number", value: asked.balance });
    field(what, "name", "Name", { value: asked.name ?? "", help: "may be left out", wide: true });
    this.showDays(asked);
    this.inputs.source.addEventListener("change", () => {
      this.showDays(asked);
      this.drawStrategies(this.collect().strategies);
      this.showSource();
    });
    this.inputs.recording.addEventListener("change", () => this.showRecording());
  }

  showDays({ start, end }) {
    for (const [name, value] of Object.entries({ start, end })) this.inputs[name].value = this.source === "candles" ? value.slice(0, 10) : "";
  }

  hide(name, isHidden) {
    $("new").querySelector(`[data-field="${name}"]`).closest(".field").hidden = isHidden;
  }

  // What the source says itself is hidden, and not sent.
  showSource() {
    const isCandles = this.source === "candles";
    this.hide("recording", isCandles);
    for (const name of ["start", "end", "interval", "venue"]) this.hide(name, !isCandles);
    for (const name of SHOWN_BY_BOOKS) this.hide(name, this.source === "books");
    if (isCandles) return;
    if (this.recordings) this.showRecording();
    else this.loadRecordings();
  }

  help(input, text) {
    input.closest(".field").querySelector(".help").textContent = text;
  }

  async loadRecordings() {
    const { recording } = this.inputs, before = recording.value;
    try {
      this.recordings = await request("GET", "backtests/recordings");
    } catch (error) {
      this.help(recording, `The recordings could not be read: ${error.message}`);
      return;
    }
    recording.replaceChildren(...this.recordings.map(({ name }) => Object.assign(element("option", name), { value: name })));
    if (this.recordings.some(({ name }) => name === before)) recording.value = before;
    this.showRecording();
  }

  showRecording() {
    const found = this.recordings.find(({ name }) => name === this.inputs.recording.value);
    for (const name of ["start", "end"]) this.hide(name, this.source !== "candles" && found?.first_ms !== null);
    if (!found) this.help(this.inputs.recording, "This deployment has none in its folder RECORDINGS_DIR.");
    else if (found.first_ms === null) this.help(this.inputs.recording, "It has no index: say from and until.");
    else this.help(this.inputs.recording, `from its beginning to its end, ${utc(found.first_ms)} to ${utc(found.last_ms)} UTC, ${span(found.last_ms - found.first_ms)}`);
  }

  drawGroup(group, values) {
    for (const [name, value] of Object.entries(values)) {
      if (name === "group_limits") continue; // groups have a section of their own
      const known = this.boot.ranges[group][name];
      if (typeof value === "boolean") field($(group), `${group}.${name}`, words(name), { kind: "switch", value });
      else if (known) field($(group), `${group}.${name}`, words(name), { kind: "number", value, help: range(known) });
      else field($(group), `${group}.${name}`, words(name), { value: value.map((pair) => pair.join(":")).join(", "), help: "profit %:value %, separated by commas", wide: true });
    }
  }

  get strategies() {
    return this.boot.strategies.filter((each) => each.on_candles || this.source !== "candles");
  }

  // Anew as a whole: fields are told by their place, which changes where one is removed.
  drawStrategies(runs) {
    $("strategies").replaceChildren(...runs.map((run, place) => this.strategyCard(run, place, runs.length)));
    $("add-strategy").disabled = runs.length >= this.boot.most.strategies;
  }

  strategyCard(run, place, count) {
    const card = element("section", "", "strategy-card"), head = element("div", "", "card-head"), prefix = `strategies.${place}.`;
    card.setAttribute("aria-label", `Strategy ${place + 1}`);
    head.append(element("h3", `Strategy ${place + 1}`));
    if (count > 1) head.append(button("Remove", () => this.removeStrategy(place), `Remove strategy ${place + 1}`));
    const first = element("div", "", "fields");
    card.append(head, first);
    const known = this.strategies, key = known.some((each) => each.key === run.strategy) ? run.strategy : known[0].key;
    const chosen = field(first, `${prefix}strategy`, "Strategy", { choices: strategyChoices(known), value: key });
    field(first, `${prefix}symbols`, "Symbols", { value: (run.symbols ?? []).join(", "), help: "separated by commas", wide: true }).setAttribute("list", "symbols");
    field(first, `${prefix}name`, "Name in results", { value: run.name ?? "", help: count > 1 ? "each its own; empty: the strategy's key" : "may be left out" });
    const parameters = foldable(card, "Parameters", true);
    const draw = (values) => {
      parameters.replaceChildren();
      for (const spec of this.strategies.find((each) => each.key === chosen.value).parameters) {
        parameterField(parameters, `${prefix}parameters.${spec.name}`, spec, values[spec.name] ?? spec.default);
      }
    };
    draw(key === run.strategy ? run.parameters ?? {} : {});
    chosen.addEventListener("change", () => draw({}));
    const size = foldable(card, "Size and leverage", count === 1);
    field(size, `${prefix}sizing_mode`, "Size by", { choices: SIZES, value: run.sizing_mode });
    field(size, `${prefix}sizing_value`, "Value", { kind: "number", value: run.sizing_value, help: "percent, or USD, as margin" });
    field(size, `${prefix}leverage`, "Leverage", { kind: "number", value: run.leverage, help: "1 to 50" });
    for (const name of SWITCHES) field(size, `${prefix}${name}`, words(name), { kind: "switch", value: run[name] });
    return card;
  }

  addStrategy() {
    const runs = this.collect().strategies, last = runs.at(-1);
    const same = runs.filter(({ strategy }) => strategy === last.strategy).length;
    this.drawStrategies([...runs, { ...last, name: `${last.strategy}-${same + 1}` }]);
    $("strategies").lastElementChild.querySelector("select").focus();
  }

  removeStrategy(place) {
    this.drawStrategies(this.collect().strategies.filter((_, index) => index !== place));
    $("add-strategy").focus();
  }

  drawGroups(groups, isNew = false) {
    $("groups").replaceChildren(...groups.map((group, place) => {
      const line = element("div", "", "fields group-line"), prefix = `groups.${place}.`;
      field(line, `${prefix}name`, "Group", { value: group.name, help: "like majors" });
      field(line, `${prefix}symbols`, "Its symbols", { value: group.symbols.join(", "), help: "separated by commas", wide: true }).setAttribute("list", "symbols");
      field(line, `${prefix}max_positions`, "Positions at most", { kind: "number", value: group.max_positions, help: "empty: no limit" });
      field(line, `${prefix}max_notional`, "Worth at most, USD", { kind: "number", value: group.max_notional, help: "empty: no limit" });
      line.append(button("Remove", () => this.drawGroups(this.collect().groups.filter((_, index) => index !== place)), `Remove group ${place + 1}`));
      return line;
    }));
    $("add-group").disabled = groups.length >= this.boot.most.groups;
    if (isNew) $("groups").lastElementChild.querySelector("input").focus();
  }

  // The form's fields as the API wants them; what is hidden is not asked for.
  collect() {
    const body = { strategies: [], groups: [] };
    for (const input of $("new").querySelectorAll("[data-field]")) {
      const name = input.dataset.field, last = name.split(".").at(-1), text = input.value.trim();
      if (input.closest(".field").hidden || (!text && ["start", "end"].includes(name) && this.source !== "candles")) continue;
      if (input.type === "checkbox") put(body, name, input.checked);
      else if (last === "symbols") put(body, name, list(text.toUpperCase()));
      else if (["trailing_stop_distances", "partial_exits"].includes(last)) put(body, name, pairs(text));
      else if (!text && (name.startsWith("limits.") || (name.startsWith("groups.") && last.startsWith("max_")))) put(body, name, null);
      else put(body, name, text);
    }
    return body;
  }
}
