// Changing a working order: what it is, what it shall be, and the server's words by field.
import { request } from "./api.js";
import { fixed } from "./formats.js";

const plain = (value) => String(Number(value));
const isNumber = (text) => /^\d+(\.\d+)?$/.test(text) && Number(text) > 0;

export class AmendDialog {
  constructor({ account, digits, toast }) {
    Object.assign(this, { account, digits, toast });
    const id = (name) => document.getElementById(`amend-${name}`);
    Object.assign(this, { dialog: id("dialog"), title: id("title"), badge: id("badge"), words: id("words"), price: id("price"), quantity: id("quantity"), error: id("error"), confirm: id("confirm") });
    id("cancel").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("input", () => this.check());
    this.dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.confirm.disabled) this.send();
    });
  }

  open(order) {
    this.order = order;
    const account = this.account();
    this.title.textContent = `Change ${order.side} ${order.symbol}`;
    this.badge.textContent = this.badge.dataset.badge = account?.badge ?? "";
    this.price.value = fixed(order.price, this.digits(order.symbol)).replaceAll(",", "");
    this.quantity.value = plain(order.quantity);
    const filled = Number(order.filled_quantity);
    this.words.textContent = `It is ${plain(order.quantity)} at ${this.price.value}${filled ? `, of which ${plain(filled)} are filled: the new quantity counts them too` : ""}. A new price or a larger quantity lose its place in the queue.`;
    this.error.hidden = true;
    this.check();
    this.dialog.showModal();
    this.price.select();
  }

  changes() {
    const price = this.price.value.trim(), quantity = this.quantity.value.trim(), found = {};
    if (Number(price) !== Number(this.order.price)) found.price = price;
    if (Number(quantity) !== Number(this.order.quantity)) found.quantity = quantity;
    return found;
  }

  check() {
    for (const [field, input] of [["price", this.price], ["quantity", this.quantity]]) this.showError(field, isNumber(input.value.trim()) ? "" : "must be a number above 0, like 0.5");
    const wrong = this.dialog.querySelector("[aria-invalid=true]");
    this.confirm.disabled = Boolean(wrong) || !Object.keys(this.changes()).length;
    const badge = this.account()?.badge;
    this.confirm.textContent = `${["PAPER", "LIVE"].includes(badge) ? `${badge}: ` : ""}Change the order`;
  }

  showError(field, text) {
    const input = { price: this.price, quantity: this.quantity }[field];
    if (!input) return false;
    input.setAttribute("aria-invalid", text ? "true" : "false");
    document.getElementById(input.getAttribute("aria-describedby")).textContent = text;
    return true;
  }

  async send() {
    this.confirm.disabled = true;
    this.error.hidden = true;
    try {
      await request("PATCH", `trading/order/${this.order.id}`, this.changes());
      this.dialog.close();
      this.toast(`${this.order.symbol}: change asked for`, "good");
    } catch (error) {
      const rest = error.fields.filter(({ field, rule }) => !this.showError(field, rule));
      const words = rest.map(({ field, rule }) => `${field}: ${rule}`).join("; ");
      this.error.textContent = words || error.message;
      this.error.hidden = error.fields.length > 0 && !words;
    }
  }
}
