// All backtests with their states, and the form for a new one.
import { element, tone } from "../formats.js";
import { BacktestForm } from "./backtest_form.js";
import { percent, ratio, share } from "./report.js";
import { askingForm, offerSymbols, RunList } from "./runs.js";

const boot = JSON.parse(document.getElementById("boot").textContent);
const MOST_COMPARED = 5, MOST_SYMBOLS = 3;
const chosen = new Set();

function compareBox(line, run) {
  const box = element("input");
  Object.assign(box, { type: "checkbox", checked: chosen.has(run.id), disabled: run.state !== "done" });
  box.setAttribute("aria-label", `Compare ${run.name}`);
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(run.id);
    else chosen.delete(run.id);
    showCompare();
  });
  line.insertCell().append(box);
}

function showCompare() {
  const link = document.getElementById("compare"), [first, ...rest] = chosen;
  link.hidden = chosen.size < 2;
  link.textContent = `Compare ${chosen.size}`;
  link.href = `${boot.list}${first}/?with=${rest.slice(0, MOST_COMPARED - 1).join(",")}`;
}

function cells({ symbols, start, end, figures }) {
  const more = symbols.length > MOST_SYMBOLS ? ` +${symbols.length - MOST_SYMBOLS}` : "";
  const about = [[symbols.slice(0, MOST_SYMBOLS).join(", ") + more], [`${start.slice(0, 10)} – ${end.slice(0, 10)}`]];
  if (!figures) return [...about, ...Array(5).fill(["", "number"])];
  return [
    ...about,
    [percent(figures.total_return), `number ${tone(figures.total_return)}`.trim()],
    [ratio(figures.sharpe), "number"],
    [share(figures.max_drawdown), "number"],
    [String(figures.trades), "number"],
    [share(figures.win_rate), "number"],
  ];
}

class BacktestList extends RunList {
  fill(line, run) {
    super.fill(line, run);
    line.cells[0].firstChild.disabled = run.state !== "done";
  }
}

offerSymbols(boot);
const form = new BacktestForm(boot);
askingForm({ path: "backtests", boot, collect: () => form.collect() });
new BacktestList({
  path: "backtests", boot, cells, before: compareBox,
  empty: "No backtests yet. Press “New backtest” to try a strategy on what was.",
  confirmation: "Delete this backtest with all that it found?",
});
