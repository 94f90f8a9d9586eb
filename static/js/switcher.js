// The instrument switcher: "/" opens it, typing narrows it, Enter takes the first.
import { element, fixed, signed, tone } from "./formats.js";

export class Switcher {
  constructor(dialog, button, { instruments, onChoose }) {
    this.dialog = dialog;
    this.search = dialog.querySelector("input");
    this.list = dialog.querySelector("ul");
    this.instruments = instruments;
    this.summary = new Map();
    this.onChoose = onChoose;
    button.addEventListener("click", () => this.open());
    this.search.addEventListener("input", () => this.render());
    dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.list.querySelector("button")?.click();
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
        event.preventDefault();
        this.open();
      }
    });
  }

  open() {
    this.search.value = "";
    this.render();
    this.dialog.showModal();
    this.search.focus();
  }

  setSummary(rows) {
    for (const row of rows) this.summary.set(row.symbol, row);
    if (this.dialog.open) this.render();
  }

  render() {
    const wanted = this.search.value.trim().toUpperCase();
    const found = this.instruments.filter(({ symbol }) => symbol.includes(wanted));
    if (!found.length) {
      this.list.replaceChildren(element("li", `No instrument matches ${wanted}.`, "note"));
      return;
    }
    this.list.replaceChildren(...found.map(({ symbol }) => {
      const row = this.summary.get(symbol), item = element("li"), button = element("button");
      button.type = "button";
      const change = row?.change_24h ? Number(row.change_24h) * 100 : null;
      button.append(element("span", symbol), element("span", row?.last ?? "—"), element("span", change === null ? "—" : `${signed(change)} %`, tone(change)));
      if (row && row.state !== "LIVE") {
        button.append(element("span", row.state.toLowerCase(), "warn"));
        button.title = `This book does not trade now: ${row.state_reason}`;
      }
      button.addEventListener("click", () => {
        this.dialog.close();
        this.onChoose(symbol);
      });
      item.append(button);
      return item;
    }));
  }
}

export const changeText = (fraction) => (fraction ? `${signed(Number(fraction) * 100)} %` : "—");
export const fundingText = (rate) => (rate ? `${fixed(Number(rate) * 100, 4)} %` : "—");
