// The trades tape: newest on top, a bounded number of rows.
import { clock, element, fixed, money } from "./formats.js";

const MOST_ROWS = 60;

export class Tape {
  constructor(root) {
    this.root = root;
  }

  setInstrument(priceDigits, sizeDigits) {
    this.priceDigits = priceDigits;
    this.sizeDigits = sizeDigits;
    this.seen = new Set();
    this.root.replaceChildren(element("p", "No trades yet.", "note"));
  }

  add(trades) {
    const fresh = trades.filter((trade) => !this.seen.has(trade.id));
    if (!fresh.length) return;
    this.root.querySelector(".note")?.remove();
    for (const trade of fresh) {
      this.seen.add(trade.id);
      const row = element("div", "", `print ${trade.side === "Buy" ? "up" : "down"}`);
      const time = element("time", clock(trade.t));
      row.append(element("span", fixed(trade.p, this.priceDigits)), element("span", fixed(trade.q, this.sizeDigits)), time);
      row.title = `${trade.side} ${trade.q} at ${trade.p}, worth ${money(trade.q * trade.p)}`;
      this.root.prepend(row);
    }
    while (this.root.children.length > MOST_ROWS) this.root.lastChild.remove();
    if (this.seen.size > 2000) this.seen = new Set(trades.map((trade) => trade.id));
  }
}
