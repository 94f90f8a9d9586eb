// Choosing a symbol, a market, a depth.
import { request } from "../api.js";
import { element } from "../formats.js";
import { boot, onKey } from "./page.js";

export const DEPTHS = ["1.5", "3", "5", "8", "15", "30"];
export const MARKETS = { SPOT: "Spot", FUTURES: "Futures", BYBIT: "Bybit" };
// Where the newest book of a market is asked for.
export const BOOK_PATHS = { SPOT: "binance/spot", FUTURES: "binance/futures", BYBIT: "bybit/linear" };
export const BOOK_MARKETS = { spot: "SPOT", futures: "FUTURES", bybit: "BYBIT" };

export const isDepth = (text) => DEPTHS.includes(text);
export const isMarket = (text) => text in MARKETS;
export const isSymbol = (text) => /^[A-Z0-9]{5,20}$/.test(text);

const CONSIDER_MS = 120, REFRESH_MS = 60000;
const REMEMBERED = "depth-symbol", SOURCES = { stream: "live", rest: "each minute" };

// The symbol to begin with when the address names none: the one looked at last, BTCUSDT, or the first there is.
export function firstSymbol() {
  const known = new Set(boot.symbols.map(({ symbol }) => symbol));
  return [localStorage.getItem(REMEMBERED), "BTCUSDT"].find((symbol) => known.has(symbol)) ?? boot.symbols[0]?.symbol ?? "BTCUSDT";
}

export const rememberSymbol = (symbol) => localStorage.setItem(REMEMBERED, symbol);

// Buttons of which one is pressed, in an element with role="group" and class "segments". `choices`: [value, label, title].
export class Segments {
  constructor(root, choices, onChoose) {
    this.buttons = choices.map(([value, label, title = ""]) => {
      const button = element("button", label);
      button.type = "button";
      button.value = value;
      if (title) button.title = title;
      button.addEventListener("click", () => {
        this.show(value);
        onChoose(value);
      });
      return button;
    });
    root.replaceChildren(...this.buttons);
  }

  show(value) {
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.value === value));
  }
}

export const marketChooser = (root, onChoose, markets = Object.keys(MARKETS)) => new Segments(root, markets.map((market) => [market, MARKETS[market]]), onChoose);
export const depthChooser = (root, onChoose) => new Segments(root, DEPTHS.map((depth) => [depth, `${depth} %`, `what rests within ${depth} % of the best price`]), onChoose);

// A dialog with all symbols: typing narrows it, arrows walk, Enter takes. `key` opens it from anywhere on the page.
// `onConsider(symbol)` tells which one is likely to be taken: what it needs can be asked for already.
export class SymbolChooser {
  constructor(button, { onChoose, onConsider = () => {}, key = "/", label = "Search symbols" }) {
    this.onChoose = onChoose;
    this.onConsider = onConsider;
    this.symbols = boot.symbols;
    this.refreshed = Date.now(); // they came with the page
    this.dialog = element("dialog", "", "symbol-dialog");
    this.dialog.setAttribute("aria-label", label);
    this.search = element("input");
    Object.assign(this.search, { type: "search", placeholder: label, autocomplete: "off", spellcheck: false });
    this.search.setAttribute("aria-label", label);
    this.list = element("ul", "", "symbol-list");
    this.dialog.append(this.search, this.list);
    document.body.append(this.dialog);
    button?.addEventListener("click", () => this.open());
    this.search.addEventListener("input", () => {
      this.render();
      this.consider(this.list.querySelector("button"));
    });
    for (const kind of ["focusin", "pointerover"]) this.list.addEventListener(kind, (event) => this.consider(event.target.closest("button")));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("keydown", (event) => this.walk(event));
    onKey(key, () => this.open());
  }

  open() {
    this.search.value = "";
    this.render();
    this.dialog.showModal();
    this.search.focus();
    this.refresh();
  }

  // What is collected may have changed while the page was open.
  async refresh() {
    if (Date.now() - this.refreshed < REFRESH_MS) return;
    this.refreshed = Date.now();
    const { symbols } = await request("GET", "collector").catch(() => ({ symbols: [] }));
    const known = new Map(this.symbols.map((each) => [each.symbol, each]));
    const before = known.size;
    for (const { symbol, source } of symbols) known.set(symbol, { markets: [], ...known.get(symbol), symbol, source });
    if (known.size === before) return;
    this.symbols = [...known.values()].sort((a, b) => (a.symbol < b.symbol ? -1 : 1));
    if (this.dialog.open) this.render();
  }

  // Who runs through the list wants none of what is passed.
  consider(button) {
    clearTimeout(this.considering);
    if (button) this.considering = setTimeout(() => this.dialog.open && this.onConsider(button.value), CONSIDER_MS);
  }

  walk(event) {
    const buttons = [...this.list.querySelectorAll("button")], at = buttons.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      (buttons[at + step] ?? this.search).focus();
    } else if (event.key === "Enter" && at < 0) {
      event.preventDefault();
      buttons[0]?.click();
    }
  }

  render() {
    const wanted = this.search.value.trim().toUpperCase();
    // What begins with the text comes first: "BTC" is BTCUSDT before WBTCUSDT. Then what is followed live.
    const rank = ({ symbol, source }) => (symbol.startsWith(wanted) ? 0 : 2) + (source === "stream" ? 0 : 1);
    const found = this.symbols.filter(({ symbol }) => symbol.includes(wanted)).sort((a, b) => rank(a) - rank(b));
    if (!found.length) {
      this.list.replaceChildren(element("li", this.symbols.length ? `No symbol has ${wanted} in its name.` : "No symbols are collected yet. Staff choose them on the collector page.", "note"));
      return;
    }
    this.list.replaceChildren(...found.map(({ symbol, source }) => {
      const item = element("li"), button = element("button");
      Object.assign(button, { type: "button", value: symbol });
      button.append(element("span", symbol), element("small", source ? SOURCES[source] ?? source : "history", "muted"));
      button.addEventListener("click", () => {
        this.dialog.close();
        this.onChoose(symbol);
      });
      item.append(button);
      return item;
    }));
  }
}
