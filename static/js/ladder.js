// The order book ladder. Rows are made once and rewritten; a click on a price fills the ticket. With `fixedRows` it has
// that many a side and is only looked at.
import { element, fixed } from "./formats.js";

const ROW_HEIGHT = 19;

export class Ladder {
  constructor(root, onPrice, fixedRows = 0) {
    this.root = root;
    this.onPrice = onPrice;
    this.fixedRows = fixedRows;
    this.rows = [];
    if (fixedRows) return;
    new ResizeObserver(() => this.layout()).observe(root);
    root.addEventListener("click", (event) => {
      const level = event.target.closest(".level");
      if (level?.dataset.price) this.onPrice(level.dataset.price);
    });
  }

  setInstrument(priceDigits, sizeDigits) {
    this.priceDigits = priceDigits;
    this.sizeDigits = sizeDigits;
    this.frame = null;
    this.root.replaceChildren(element("p", "Waiting for the book …", "note"));
    this.rows = [];
  }

  layout() {
    const height = matchMedia("(max-width: 860px)").matches ? 26 : ROW_HEIGHT;
    const count = this.fixedRows || Math.max(3, Math.min(25, Math.floor((this.root.clientHeight - 40) / 2 / height)));
    if (!this.frame || this.rows.length === count) return;
    const make = (side) => Array.from({ length: count }, () => {
      const row = element(this.fixedRows ? "div" : "button", "", `level ${side}`);
      if (!this.fixedRows) row.type = "button";
      row.append(element("i"), element("span"), element("span"), element("span"));
      return row;
    });
    const asks = make("ask"), bids = make("bid");
    this.rows = asks.map((ask, index) => [ask, bids[index]]);
    this.mid = element("div", "", "mid");
    this.mid.append(element("span"), element("small"));
    this.root.replaceChildren(...[...asks].reverse(), this.mid, ...bids);
  }

  render(frame, last, ownPrices) {
    this.frame = frame;
    this.layout();
    const count = this.rows.length;
    if (!count) return;
    const total = (levels) => levels.slice(0, count).reduce((sum, level) => sum + Number(level[1]), 0);
    const deepest = Math.max(total(frame.asks), total(frame.bids)) || 1;
    [frame.asks, frame.bids].forEach((levels, side) => {
      let sum = 0;
      for (let index = 0; index < count; index += 1) {
        const row = this.rows[index][side], level = levels[index];
        const [bar, price, size, cumulated] = row.children;
        row.style.visibility = level ? "" : "hidden";
        if (!level) continue;
        sum += Number(level[1]);
        const text = fixed(level[0], this.priceDigits);
        if (price.textContent !== text) price.textContent = text;
        row.dataset.price = level[0];
        size.textContent = fixed(level[1], this.sizeDigits);
        cumulated.textContent = fixed(sum, this.sizeDigits);
        bar.style.width = `${(100 * sum) / deepest}%`;
        row.toggleAttribute("data-own", ownPrices.has(text));
      }
    });
    const [middle, spread] = this.mid.children;
    middle.textContent = fixed(last, this.priceDigits);
    const gap = frame.asks[0] && frame.bids[0] ? frame.asks[0][0] - frame.bids[0][0] : NaN;
    spread.textContent = Number.isFinite(gap) ? `spread ${gap.toFixed(this.priceDigits)}` : "";
  }
}
