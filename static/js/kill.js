// The kill switch: a button that nobody hits by accident, the state of a stop while it is carried out, and the re-arming.
import { request } from "./api.js";
import { element } from "./formats.js";
import { named } from "./mode.js";

const PHASES = { engaged: "STOPPING", cancelling: "CANCELLING ORDERS", closing: "CLOSING POSITIONS", verifying: "VERIFYING", done: "STOPPED" };
const counted = (count, noun) => (count === null ? null : `${count} ${noun}${count === 1 ? "" : "s"}`);

export class KillSwitch {
  constructor({ account, operator, toast, onChange }) {
    Object.assign(this, { account, operator, toast, onChange, rearming: false });
    const id = (name) => document.getElementById(name);
    Object.assign(this, { button: id("stop"), bar: id("kill"), state: id("kill-state"), words: id("kill-words"), rearm: id("rearm"), dialog: id("kill-dialog"), title: id("kill-title"), badge: id("kill-badge"), consequence: id("kill-consequence"), scopeField: id("kill-scope-field"), scope: id("kill-scope"), closeField: id("kill-close-field"), close: id("kill-close"), reason: id("kill-reason"), word: id("kill-word"), wordLabel: id("kill-word-label"), error: id("kill-error"), confirm: id("kill-confirm") });
    this.button.addEventListener("click", () => this.open(false));
    this.rearm.addEventListener("click", () => this.open(true));
    id("kill-cancel").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("input", () => this.check());
    this.dialog.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.confirm.disabled) this.send();
    });
  }

  get expected() {
    return this.rearming ? "TRADE" : "STOP";
  }

  check() {
    const all = this.scope.value === "platform";
    this.badge.hidden = all || !this.account();
    this.consequence.textContent = this.rearming
      ? "Strategies, people and bots may open positions again at once. Say what you found and why it is safe."
      : `Every order of ${all ? "EVERY account of the platform" : named(this.account())} is cancelled${this.close.checked ? " and every position is closed at market price" : "; positions stay open"}. Nothing but closing orders passes until a person re-arms it.`;
    this.confirm.disabled = this.word.value.trim().toUpperCase() !== this.expected || !this.reason.value.trim();
  }

  open(rearming) {
    const account = this.account(), engaged = account?.kill_switch;
    this.rearming = rearming;
    this.badge.textContent = this.badge.dataset.badge = account?.badge ?? "";
    this.title.textContent = rearming ? "Re-arm trading" : "Stop trading";
    const scopes = rearming ? [[engaged.scope, engaged.scope === "platform" ? "The whole platform" : named(account)]] : [...(account ? [["account", named(account)]] : []), ...(this.operator ? [["platform", "The whole platform"]] : [])];
    this.scope.replaceChildren(...scopes.map(([value, label]) => Object.assign(element("option", label), { value })));
    this.scopeField.hidden = scopes.length < 2;
    this.closeField.hidden = rearming;
    this.close.checked = true;
    this.reason.value = rearming ? "" : "stopped by hand on the dashboard";
    this.word.value = "";
    this.wordLabel.textContent = `Type ${this.expected} to confirm`;
    this.confirm.textContent = rearming ? "Re-arm" : "Stop trading now";
    this.confirm.toggleAttribute("data-rearm", rearming);
    this.error.hidden = true;
    this.check();
    this.dialog.showModal();
    (rearming ? this.reason : this.word).focus();
  }

  async send() {
    const scope = this.scope.value === "platform" ? { platform: true } : { account: this.account().id };
    const body = { ...scope, reason: this.reason.value.trim(), ...(this.rearming ? {} : { close_positions: this.close.checked }) };
    this.confirm.disabled = true;
    try {
      await request("POST", `kill-switch/${this.rearming ? "rearm" : "engage"}`, body);
      this.dialog.close();
      this.toast(this.rearming ? "re-armed: trading is possible again" : "stopped: no new risk from now on", "good");
      this.onChange();
    } catch (error) {
      this.error.textContent = [error.message, ...error.fields.map(({ rule }) => rule)].join(" — ");
      this.error.hidden = false;
      this.confirm.disabled = false;
    }
  }

  render() {
    const account = this.account(), engaged = account?.kill_switch;
    this.button.hidden = !(this.operator || ["trader", "manager"].includes(account?.role)) || Boolean(engaged && !this.operator);
    this.bar.hidden = !engaged;
    if (!engaged) return;
    this.bar.dataset.phase = engaged.phase;
    const state = `${engaged.scope === "platform" ? "PLATFORM " : ""}${PHASES[engaged.phase]}`;
    const left = [counted(engaged.open_orders, "order"), engaged.closes_positions ? counted(engaged.open_positions, "position") : "positions stay open"].filter(Boolean).join(", ");
    const words = `by ${engaged.engaged_by}: ${engaged.reason}${engaged.phase === "done" ? ` — ${engaged.closes_positions ? "nothing is open" : "no order is open, positions stay"}; only closing orders pass` : left ? ` — ${left} left` : ""}${engaged.trouble ? ` — ${engaged.trouble}` : ""}`;
    // A screen reader reads the bar out when its text changes: not at every redraw.
    if (this.state.textContent !== state) this.state.textContent = state;
    if (this.words.textContent !== words) this.words.textContent = words;
    this.rearm.hidden = engaged.phase !== "done" || !(engaged.scope === "platform" ? this.operator : account.role === "manager");
  }
}
