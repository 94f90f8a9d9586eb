// What the chart's lines are, with their values under the crosshair, or the newest.
import { element, moment, signed, volume } from "../formats.js";
import { MARKETS } from "./choosers.js";
import { isLowerBound, valueOf } from "./series.js";

const SIDES = { bid: ["bid"], ask: ["ask"], both: ["bid", "ask"], mean: ["mean"] };

export const sidesOf = (side) => SIDES[side];
export const nameOf = ({ symbol, market, depth }) => `${symbol} ${MARKETS[market]} ${depth} %`;

export class Legend {
  constructor(root, { onRemove }) {
    this.root = root;
    this.onRemove = onRemove;
    this.rows = [];
  }

  // `shown`: {series, colors: {bid: "#…"}}; the first one cannot be removed. `baseOf(series)` is the row that changes in
  // percent count from, or null where the chart shows amounts.
  show(shown, side, unit, baseOf) {
    Object.assign(this, { unit, baseOf });
    this.time = element("time", "", "muted");
    this.rows = shown.map(({ series, colors }, index) => {
      const row = element("li"), mark = element("small", "", "warn");
      row.dataset.series = series.key;
      row.append(element("b", nameOf(series)));
      const values = sidesOf(side).map((each) => {
        const value = element("span", "—", "value");
        value.style.setProperty("--line", colors[each]);
        value.dataset.side = each;
        row.append(value);
        return [each, value];
      });
      row.append(mark);
      if (index) {
        const button = element("button", "×");
        button.type = "button";
        button.setAttribute("aria-label", `Remove ${nameOf(series)}`);
        button.addEventListener("click", () => this.onRemove(series.key));
        row.append(button);
      }
      return { series, values, mark };
    });
    this.root.replaceChildren(...this.rows.map(({ mark }) => mark.parentNode), this.time);
    this.tell(null);
  }

  // Values at a time; null: the newest.
  tell(time) {
    let shownTime = null;
    for (const { series, values, mark } of this.rows) {
      const row = time === null ? series.rows.at(-1) : series.at(time);
      // The newest before the crosshair, unless there is a gap.
      const base = row && this.baseOf(series);
      const known = row && (time === null || time - row.time <= 2 * series.length);
      for (const [side, value] of values) {
        const bound = known && isLowerBound(row, side);
        value.textContent = known ? `${bound ? "≥ " : ""}${this.unit === "usd" ? "$ " : ""}${volume(valueOf(row, side, this.unit))}` : "—";
        if (known && base) value.textContent += ` ${signed((valueOf(row, side, this.unit) / valueOf(base, side, this.unit) - 1) * 100)} %`;
        value.title = bound ? "a lower bound: not every level that could be in this depth is known" : "";
      }
      mark.textContent = series.failure ? series.failure : !series.rows.length && series.isOpen ? "nothing stored" : "";
      if (known) shownTime = Math.max(shownTime ?? 0, row.time);
    }
    const isDay = this.rows[0]?.series.interval === "1d";
    if (!shownTime) this.time.textContent = "";
    else this.time.textContent = isDay ? new Date(shownTime * 1000).toISOString().slice(0, 10) : moment(shownTime * 1000).replace(/:00$/, "");
  }
}
