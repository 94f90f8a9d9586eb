// The order ticket: checks the instrument's grid in words before anything is sent, and shows the server's words by field.
import { request } from "./api.js";
import { decimals, money } from "./formats.js";

const LEVERAGE = 10; // what the share buttons assume; the venue's own leverage decides

export class Ticket {
  constructor(form, { toast, account, onPlaced }) {
    this.form = form;
    this.toast = toast;
    this.account = account;
    this.onPlaced = onPlaced;
    this.side = "Buy";
    this.type = "Limit";
    const id = (name) => form.querySelector(`#${name}`);
    Object.assign(this, { price: id("price"), quantity: id("quantity"), takeProfit: id("take-profit"), stopLoss: id("stop-loss"), tif: id("tif"), reduceOnly: id("reduce-only"), submit: id("submit"), cost: id("cost"), error: id("ticket-error"), priceField: id("price-field") });
    form.addEventListener("click", (event) => {
      const { side, type, share } = event.target.dataset;
      if (event.target.type !== "button") return;
      if (side) this.set({ side });
      if (type) this.set({ type });
      if (share) this.takeShare(Number(share));
    });
    form.addEventListener("input", () => this.refresh());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.place();
    });
  }

  setInstrument(instrument) {
    this.instrument = instrument;
    this.last = null;
    for (const input of [this.price, this.quantity, this.takeProfit, this.stopLoss]) input.value = "";
    this.quantity.placeholder = `step ${Number(instrument.lot_size)}`;
    this.price.placeholder = `tick ${Number(instrument.tick_size)}`;
    this.refresh();
  }

  setLast(last) {
    const first = this.last === null && last;
    this.last = last;
    if (first && !this.price.value) this.price.value = last;
    if (this.type === "Market" || first) this.refresh();
  }

  setPrice(price) {
    this.set({ type: "Limit" });
    this.price.value = price;
    this.refresh();
  }

  set(choice) {
    Object.assign(this, choice);
    for (const button of this.form.querySelectorAll("[data-side][type=button]")) button.setAttribute("aria-pressed", button.dataset.side === this.side);
    for (const button of this.form.querySelectorAll("[data-type]")) button.setAttribute("aria-pressed", button.dataset.type === this.type);
    this.priceField.hidden = this.type === "Market";
    this.tif.disabled = this.type === "Market";
    this.refresh();
  }

  takeShare(percent) {
    const price = this.type === "Limit" ? Number(this.price.value) : Number(this.last);
    const available = Number(this.account()?.available_balance);
    if (!price || !available) return;
    const lot = Number(this.instrument.lot_size);
    const lots = Math.floor((available * percent * LEVERAGE) / 100 / price / lot);
    this.quantity.value = (lots * lot).toFixed(decimals(this.instrument.lot_size));
    this.refresh();
  }

  refresh() {
    const price = this.type === "Limit" ? Number(this.price.value) : Number(this.last);
    const value = price * Number(this.quantity.value);
    this.cost.textContent = value ? `${money(value)} USDT` : "—";
    this.submit.dataset.side = this.side;
    const badge = this.account()?.badge;
    const looksOnly = this.account()?.role === "viewer";
    this.submit.disabled = looksOnly;
    this.submit.textContent = looksOnly ? "You may see this account, not trade on it" : `${["PAPER", "LIVE"].includes(badge) ? `${badge}: ` : ""}${this.side} ${this.quantity.value || ""} ${this.instrument?.symbol ?? ""}`.replace(/\s+/g, " ");
    this.clearErrors();
  }

  clearErrors() {
    this.error.hidden = true;
    for (const small of this.form.querySelectorAll("[data-error]")) this.showError(small.dataset.error, "");
  }

  showError(field, text) {
    const small = this.form.querySelector(`[data-error="${field}"]`);
    if (!small) return false;
    small.textContent = text;
    small.parentElement.querySelector("input").setAttribute("aria-invalid", text ? "true" : "false");
    return true;
  }

  problems() {
    const found = [];
    const onGrid = (text, step) => {
      const scale = 10 ** Math.max(decimals(step), decimals(text));
      return Math.round(Number(text) * scale) % Math.round(Number(step) * scale) === 0;
    };
    const check = (field, input, step, needed) => {
      const text = input.value.trim();
      if (!text) {
        if (needed) found.push([field, "is needed"]);
      } else if (!/^\d+(\.\d+)?$/.test(text) || Number(text) <= 0) found.push([field, "must be a number above 0"]);
      else if (!onGrid(text, step)) found.push([field, `must be a multiple of ${Number(step)}`]);
    };
    const { tick_size: tick, lot_size: lot, min_notional: least } = this.instrument;
    if (this.type === "Limit") check("price", this.price, tick, true);
    check("quantity", this.quantity, lot, true);
    check("take_profit", this.takeProfit, tick, false);
    check("stop_loss", this.stopLoss, tick, false);
    const value = Number(this.quantity.value) * Number(this.type === "Limit" ? this.price.value : this.last);
    if (!found.length && !this.reduceOnly.checked && value < Number(least)) found.push(["quantity", `worth ${money(value)}; at least ${money(least)} USDT`]);
    return found;
  }

  body() {
    const text = (input) => input.value.trim() || undefined;
    const market = this.type === "Market";
    return {
      account: this.account().id,
      symbol: this.instrument.symbol,
      side: this.side,
      order_type: this.type,
      quantity: text(this.quantity),
      price: market ? undefined : text(this.price),
      time_in_force: market ? undefined : this.tif.value,
      reduce_only: this.reduceOnly.checked,
      take_profit: text(this.takeProfit),
      stop_loss: text(this.stopLoss),
      // One id for one press: a repeated send can never become a second order.
      client_order_id: `web-${Date.now()}-${crypto.getRandomValues(new Uint32Array(1))[0].toString(16)}`,
    };
  }

  async place() {
    this.clearErrors();
    if (!this.account()) {
      this.fail("No account is selected.");
      return;
    }
    const problems = this.problems();
    for (const [field, text] of problems) this.showError(field, text);
    if (problems.length) return;
    const body = this.body();
    if (this.account().environment === "live" && !confirm(`LIVE account ${this.account().name}: ${body.side} ${body.quantity} ${body.symbol}?`)) return;
    this.submit.disabled = true;
    try {
      this.onPlaced(await request("POST", "trading/order", body));
      this.quantity.value = "";
      this.refresh();
    } catch (error) {
      const rest = error.fields.filter(({ field, rule }) => !this.showError(field, rule));
      const words = rest.map(({ field, rule }) => `${field}: ${rule}`).join("; ");
      if (words || !error.fields.length) this.fail(words || error.message);
    } finally {
      this.submit.disabled = false;
    }
  }

  fail(text) {
    this.error.textContent = text;
    this.error.hidden = false;
  }
}
