// Paper or real: the badge that goes with an account's name, and the switch between the two.
import { request } from "./api.js";
import { element } from "./formats.js";

export function badgeOf(account) {
  const badge = element("span", account.badge, "badge");
  badge.dataset.badge = account.badge;
  return badge;
}

// For texts that hold no elements: options, toasts, the title.
export const named = (account) => (account.badge === "SIMULATOR" ? account.name : `[${account.badge}] ${account.name}`);

export class ModeSwitch {
  constructor({ account, toast, onChange }) {
    Object.assign(this, { account, toast, onChange });
    const id = (name) => document.getElementById(name);
    Object.assign(this, { button: id("mode-switch"), strip: id("paper-strip"), dialog: id("mode-dialog"), title: id("mode-title"), words: id("mode-words"), field: id("mode-name-field"), name: id("mode-name"), error: id("mode-error"), confirm: id("mode-confirm") });
    this.button.addEventListener("click", () => {
      this.button.closest("details").open = false;
      this.open();
    });
    id("mode-cancel").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("input", () => this.check());
    this.dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.confirm.disabled) this.send();
    });
  }

  get toReal() {
    return this.account().mode === "paper";
  }

  open() {
    const account = this.account();
    this.title.replaceChildren(badgeOf(account), ` ${account.name}: ${this.toReal ? "trade for real" : "trade on paper"}`);
    this.words.textContent = this.toReal
      ? `Orders of this account go to ${account.venue} (${account.environment}) with its real keys from then on. Its paper books stay and are hidden.`
      : "Orders of this account are filled in a simulator that follows the live market; nothing reaches the exchange. Its real books stay and are hidden.";
    this.field.hidden = !this.toReal;
    this.name.value = "";
    this.error.hidden = true;
    this.confirm.textContent = this.toReal ? "Trade for real" : "Trade on paper";
    this.confirm.toggleAttribute("data-real", this.toReal);
    this.check();
    this.dialog.showModal();
    (this.toReal ? this.name : this.confirm).focus();
  }

  check() {
    this.confirm.disabled = this.toReal && this.name.value !== this.account().name;
  }

  async send() {
    const account = this.account(), mode = this.toReal ? "real" : "paper";
    this.confirm.disabled = true;
    try {
      const changed = await request("POST", `accounts/${account.id}/mode/`, { mode, confirm_name: this.name.value });
      this.dialog.close();
      this.toast(`${named(changed)}: from now on`, "good");
      this.onChange(changed);
    } catch (error) {
      this.error.textContent = [error.message, ...error.fields.map(({ rule }) => rule)].join(" — ");
      this.error.hidden = false;
      this.check();
    }
  }

  render() {
    const account = this.account(), paper = account?.mode === "paper";
    document.body.dataset.mode = account?.mode ?? "";
    this.strip.hidden = !paper;
    this.button.hidden = account?.role !== "manager";
    this.button.textContent = paper ? "Trade for real …" : "Trade on paper …";
  }
}
