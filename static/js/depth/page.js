// What every depth page has: the live connection and its state, toasts, the share button, and the states of a pane.
import { clock, element } from "../formats.js";
import { Stream } from "../stream.js";

export const boot = JSON.parse(document.getElementById("boot").textContent);

// On a phone the row of pages scrolls: where one is has to be in view.
document.querySelector(".depth-nav [aria-current]").scrollIntoView({ block: "nearest", inline: "center" });

const TOAST_MS = 5000, OFFLINE_WORDS_MS = 1500;

// The live connection of the page. `onMessage(message)` gets what the server tells; `onReturn()` is called when it is
// there again after it was lost: what was missed has to be asked for; `onRefusal({field, message})` what the server would
// not do, which is shown otherwise. The state is in `body[data-connection]`; what
// carries the class "live" is dimmed while it is lost.
export function connect({ onMessage, onReturn = () => {}, onRefusal = ({ message }) => toast(message, "error") }) {
  const dot = document.getElementById("connection"), banner = document.getElementById("banner");
  let lost = null, warned;
  return new Stream({
    onMessage: (message) => {
      if (message.type === "error") onRefusal(message.data);
      else onMessage(message);
    },
    onState: (state, text) => {
      dot.dataset.state = document.body.dataset.connection = state;
      dot.textContent = text;
      if (state === "live") {
        clearTimeout(warned);
        banner.hidden = true;
        if (lost !== null) onReturn();
        lost = warned = null;
      } else if (state === "offline" && lost === null) {
        lost = Date.now();
        // A restart of the server takes a moment; only what lasts is worth a line across the page.
        warned = setTimeout(() => {
          banner.textContent = `The live connection is lost: you see what was known at ${clock(lost)}. It comes back by itself.`;
          banner.hidden = false;
        }, OFFLINE_WORDS_MS);
      }
    },
  });
}

export function toast(text, level = "info") {
  const made = element("div", text, "toast");
  made.dataset.level = level;
  document.getElementById("toasts").append(made);
  setTimeout(() => made.remove(), TOAST_MS);
}

// A button that copies the page's address, which is all of its state.
export function shareButton(button) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      toast("The address of this view is copied.", "good");
    } catch {
      // Without HTTPS browsers have no clipboard for pages.
      prompt("The address of this view:", location.href);
    }
  });
}

// What an ApiError says, with the fields that were wrong.
export const wordsOf = ({ message, fields = [] }) => [message, ...fields.map(({ field, rule }) => `${field} ${rule}`)].join(": ");

// The state of one pane: `loading` (a skeleton; with `keep` what is there stays and a thin line moves), `ready`,
// `empty` (why, and what to do), `failed` (the server's words and a button that tries again). The pane has
// `data-state`, and `data-shape` says what its skeleton looks like: chart (the default), rows.
export class PaneState {
  constructor(pane) {
    this.pane = pane;
    pane.classList.add("state-pane");
    this.note = element("div", "", "state-note");
    this.note.setAttribute("role", "status");
    pane.append(this.note);
  }

  loading({ keep = false } = {}) {
    this.put(keep ? "refreshing" : "loading", keep ? [] : [element("span", "Loading …", "visually-hidden")]);
  }

  ready() {
    this.put("ready", []);
  }

  empty(text) {
    this.put("empty", [element("p", text)]);
  }

  failed(error, retry = null) {
    const button = element("button", "Try again", "quiet");
    button.type = "button";
    button.addEventListener("click", () => retry());
    this.put("error", [element("p", wordsOf(error)), ...(retry ? [button] : [])]);
  }

  put(state, content) {
    this.pane.dataset.state = state;
    this.pane.setAttribute("aria-busy", String(state === "loading" || state === "refreshing"));
    this.note.replaceChildren(...content);
  }
}

// A key that does something from anywhere on the page, but not while somebody writes or a dialog is open.
export function onKey(key, act) {
  document.addEventListener("keydown", (event) => {
    const isTaken = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || document.querySelector("dialog[open]");
    if (event.key !== key || isTaken || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
}

// A file made of what a page shows.
export function download(name, type, text) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export function csv(columns, rows) {
  const cell = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ""));
  return [columns, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}
