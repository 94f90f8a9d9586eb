// The dialog in which series are added to the chart.
import { element } from "../formats.js";
import { boot, toast } from "./page.js";
import { DEPTHS, isSymbol, MARKETS } from "./choosers.js";
import { keyOf } from "./series.js";

export const MOST_COMPARED = 8;

// "ETHUSDT:SPOT:5,BTCUSDT:FUTURES:3", as it is in the address.
export function parseEntries(text) {
  return text.split(",").filter(Boolean).map((each) => {
    const [symbol, market, depth] = each.split(":");
    return { symbol, market, depth };
  });
}

export const areEntries = (text) => parseEntries(text).length < MOST_COMPARED && parseEntries(text).every(({ symbol, market, depth }) => isSymbol(symbol ?? "") && market in MARKETS && DEPTHS.includes(depth));

export class CompareDialog {
  constructor(dialog, { current, onAdd }) {
    this.dialog = dialog;
    this.form = dialog.querySelector("form");
    this.current = current;
    this.onAdd = onAdd;
    const { symbol, market, depth } = this.form.elements;
    market.replaceChildren(...Object.entries(MARKETS).map(([value, label]) => new Option(label, value)));
    depth.replaceChildren(...DEPTHS.map((each) => new Option(`${each} %`, each)));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.add([{ symbol: symbol.value.trim().toUpperCase(), market: market.value, depth: depth.value }]);
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.querySelector("[data-all-depths]").addEventListener("click", () => this.add(DEPTHS.map((each) => ({ ...current()[0], depth: each }))));
    dialog.querySelector("[data-all-markets]").addEventListener("click", () => this.add(["SPOT", "FUTURES"].map((each) => ({ ...current()[0], market: each }))));
  }

  open() {
    const [{ symbol, market, depth }] = this.current(), fields = this.form.elements;
    fields.symbol.value = "";
    fields.symbol.placeholder = symbol;
    fields.market.value = market;
    fields.depth.value = depth;
    this.dialog.querySelector("datalist").replaceChildren(...boot.symbols.map((each) => new Option(each.symbol)));
    this.say("");
    this.dialog.showModal();
    fields.symbol.focus();
  }

  add(entries) {
    const shown = this.current(), known = new Set(shown.map(keyOf));
    const named = entries.map((each) => ({ ...each, symbol: each.symbol || shown[0].symbol }));
    const fresh = named.filter((each) => !known.has(keyOf({ symbol: each.symbol, market: each.market, depth: each.depth })));
    const wrong = named.find(({ symbol }) => !boot.symbols.some((each) => each.symbol === symbol));
    if (wrong) this.say(`${wrong.symbol} is not collected and has no history; choose one of the list.`);
    else if (!fresh.length) this.say("The chart shows this already.");
    else {
      const room = MOST_COMPARED - shown.length;
      if (fresh.length > room) toast(`At most ${MOST_COMPARED} series fit in the chart; ${fresh.length - Math.max(0, room)} were left out.`, "warn");
      this.dialog.close();
      if (room > 0) this.onAdd(fresh.slice(0, room));
    }
  }

  say(text) {
    const words = this.dialog.querySelector(".form-error");
    words.textContent = text;
    words.hidden = !text;
  }
}

// Colours of the lines: bids green and asks red of one series; a colour each, asks dashed, of several.
const PALETTE = ["#e8b04a", "#6fa8ff", "#b79bff", "#4fd1c5", "#f28cc0", "#a3d65c", "#ff9e64", "#9fb0c3"];

export function colorsOf(index, count) {
  const color = PALETTE[index % PALETTE.length];
  return count === 1 ? { bid: "#2fbf8a", ask: "#ef5d6b", mean: color } : { bid: color, ask: color, mean: color };
}
