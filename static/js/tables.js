// The account's tables. Each tab says which columns it has and what an empty one means.
import { element, fixed, moment, money, signed, tone } from "./formats.js";

const ENDED = new Set(["filled", "cancelled", "rejected", "denied", "expired", "failed"]);
const side = (row) => [row.side, row.side === "Buy" ? "up" : "down"];
const trimmed = (value) => (value === null || value === undefined ? "—" : String(Number(value)));

export const isLive = (order) => !ENDED.has(order.state);

export function unrealised(position, marks) {
  const mark = Number(marks.get(position.symbol) ?? position.mark_price ?? position.entry_price);
  const direction = position.side === "Buy" ? 1 : -1;
  const profit = (mark - position.entry_price) * position.quantity * direction;
  const value = position.entry_price * position.quantity;
  return { mark, profit, percent: value ? (profit / value) * 100 * position.leverage : 0 };
}

// A column: its title, what it shows of a row (text, or [text, class]), and whether it is a number.
export const TABS = {
  positions: {
    title: "Positions",
    empty: "No open positions. Fills of your orders and strategies appear here at once.",
    columns: (view) => [
      ["Symbol", (p) => p.symbol],
      ["Side", side],
      ["Quantity", (p) => trimmed(p.quantity), true],
      ["Entry", (p) => fixed(p.entry_price, view.digits(p.symbol)), true],
      ["Mark", (p) => fixed(unrealised(p, view.marks).mark, view.digits(p.symbol)), true],
      ["PnL", (p) => [signed(unrealised(p, view.marks).profit), tone(unrealised(p, view.marks).profit)], true],
      ["PnL %", (p) => [`${signed(unrealised(p, view.marks).percent)} %`, tone(unrealised(p, view.marks).profit)], true],
      ["Funding", (p) => (Number(p.funding) ? [signed(p.funding), tone(p.funding)] : "—"), true],
      ["Liq.", (p) => (p.liquidation_price ? fixed(p.liquidation_price, view.digits(p.symbol)) : "—"), true],
      ["TP", (p) => fixed(p.take_profit, view.digits(p.symbol)), true],
      ["SL", (p) => fixed(p.stop_loss, view.digits(p.symbol)), true],
      ["Strategy", (p) => p.strategy],
      ["", (p) => (view.trades() ? { label: "Close", act: () => view.closePosition(p) } : "")],
    ],
  },
  orders: {
    title: "Open orders",
    empty: "No open orders.",
    columns: (view) => [
      ["Time", (o) => moment(o.created_at)],
      ["Symbol", (o) => o.symbol],
      ["Side", side],
      ["Type", (o) => (o.order_type === "Limit" ? o.time_in_force : o.order_type)],
      ["Price", (o) => (o.price ? fixed(o.price, view.digits(o.symbol)) : "market"), true],
      ["Quantity", (o) => trimmed(o.quantity), true],
      ["Filled", (o) => trimmed(o.filled_quantity), true],
      ["State", (o) => [o.state.replace("_", " "), o.state === "unknown" ? "warn" : ""]],
      ["Strategy", (o) => o.strategy],
      ["", (o) => (view.trades() && ["acknowledged", "partially_filled"].includes(o.state) && o.price ? { label: "Edit", act: () => view.amendOrder(o) } : "")],
      ["", (o) => (o.state === "pending_cancel" || !view.trades() ? "" : { label: "Cancel", act: () => view.cancelOrder(o) })],
    ],
  },
  history: {
    title: "Order history",
    empty: "No order has ended yet.",
    columns: (view) => [
      ["Time", (o) => moment(o.created_at)],
      ["Symbol", (o) => o.symbol],
      ["Side", side],
      ["Type", (o) => o.order_type],
      ["Price", (o) => (o.price ? fixed(o.price, view.digits(o.symbol)) : "market"), true],
      ["Average", (o) => (o.average_price ? fixed(o.average_price, view.digits(o.symbol)) : "—"), true],
      ["Filled", (o) => `${trimmed(o.filled_quantity)} / ${trimmed(o.quantity)}`, true],
      ["State", (o) => [o.state, ["rejected", "denied", "failed"].includes(o.state) ? "warn" : ""]],
      ["Strategy", (o) => o.strategy],
      ["Why", (o) => [o.refusal || o.reason, "reason"]],
    ],
  },
  fills: {
    title: "Fills",
    empty: "No fills yet.",
    columns: (view) => [
      ["Time", (f) => moment(f.executed_at)],
      ["Symbol", (f) => f.symbol],
      ["Side", side],
      ["Price", (f) => fixed(f.price, view.digits(f.symbol)), true],
      ["Quantity", (f) => trimmed(f.quantity), true],
      ["Fee", (f) => money(f.fee, 4), true],
      ["Realised", (f) => (Number(f.realised_pnl) ? [signed(f.realised_pnl), tone(f.realised_pnl)] : "—"), true],
      ["", (f) => (f.is_maker ? "maker" : "taker")],
      ["Strategy", (f) => f.strategy],
    ],
  },
  signals: {
    title: "Signals",
    empty: "No signals yet. Enabled strategies tell here what they wanted and what became of it.",
    columns: (view) => [
      ["Time", (s) => moment(s.signalled_at)],
      ["Strategy", (s) => s.strategy],
      ["Symbol", (s) => s.symbol],
      ["Side", side],
      ["Strength", (s) => fixed(s.strength, 2), true],
      ["Entry", (s) => fixed(s.entry_price, view.digits(s.symbol)), true],
      ["Outcome", (s) => [s.outcome, s.outcome === "ordered" ? "" : "warn"]],
      ["Why", (s) => [[s.reason, ...s.refusals.map((refusal) => refusal.message)].join(" — "), "reason"]],
    ],
  },
  differences: {
    title: "Differences",
    empty: "Our records and the exchange's agree. What ever differs is kept here, and how it ended.",
    columns: () => [
      ["Time", (d) => moment(d.last_seen_at)],
      ["What", (d) => d.kind.replaceAll("_", " ")],
      ["Which", (d) => d.subject],
      ["Ours", (d) => [d.ours, "reason"]],
      ["The exchange's", (d) => [d.theirs, "reason"]],
      ["Amount", (d) => (d.amount ? signed(d.amount) : "—"), true],
      ["State", (d) => (d.resolved_at ? [d.resolution, "muted"] : ["open", "warn"])],
    ],
  },
  equity: { title: "Equity" },
  strategies: {
    title: "Strategies",
    empty: "No strategies on this account. A manager adds them in the admin.",
    columns: (view) => [
      ["Name", (s) => s.name],
      ["Rule", (s) => s.strategy],
      ["Symbols", (s) => s.symbols.join(", ")],
      ["Size", (s) => `${trimmed(s.sizing_value)} ${{ percent: "% of balance", fixed_usd: "USD", minimum: "(smallest)" }[s.sizing_mode]}`],
      ["Leverage", (s) => `${trimmed(s.leverage)}×`, true],
      ["State", (s) => [s.enabled ? "running" : "off", s.enabled ? "" : "muted"]],
      ["", (s) => (view.manages() ? { label: s.enabled ? "Disable" : "Enable", act: () => view.toggleStrategy(s) } : "")],
    ],
  },
};

export class Table {
  constructor(panel) {
    this.panel = panel;
  }

  render(tab, rows, view) {
    if (!rows.length) {
      this.panel.replaceChildren(element("p", tab.empty, "note"));
      this.body = null;
      return;
    }
    const columns = tab.columns(view);
    if (this.tab !== tab || !this.body?.isConnected) {
      this.tab = tab;
      const table = element("table", "", "rows"), head = table.createTHead().insertRow();
      for (const [title, , isNumber] of columns) head.append(element("th", title, isNumber ? "number" : ""));
      this.body = table.createTBody();
      this.panel.replaceChildren(table);
    }
    while (this.body.rows.length > rows.length) this.body.deleteRow(-1);
    rows.forEach((row, index) => this.fill(this.body.rows[index] ?? this.body.insertRow(), columns, row));
  }

  fill(line, columns, row) {
    columns.forEach(([, show, isNumber], index) => {
      const cell = line.cells[index] ?? line.insertCell();
      const value = show(row);
      if (value && typeof value === "object" && !Array.isArray(value)) {
        const button = cell.firstElementChild ?? cell.appendChild(element("button", "", "row-action"));
        button.type = "button";
        if (button.textContent !== value.label) button.textContent = value.label;
        button.onclick = value.act;
        return;
      }
      const [text, classes] = Array.isArray(value) ? value : [value, ""];
      if (cell.textContent !== String(text)) cell.textContent = text;
      const wanted = `${isNumber ? "number " : ""}${classes}`.trim();
      if (cell.className !== wanted) cell.className = wanted;
    });
  }
}
