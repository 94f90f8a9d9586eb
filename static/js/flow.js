// The order flow: what the engine detected in the chosen book and its trades, newest on top.
import { element } from "./formats.js";

// Spoofing and layering are suspicions: nobody can see an owner's mind in a book.
const NAMES = { IMBALANCE: "Imbalance", VOLUME_CLUSTER: "Cluster", CLUSTER_GONE: "Cluster gone", HOT_SPOT: "Hot spot", SUPPORT: "Support", RESISTANCE: "Resistance", SPOOFING: "Spoofing?", LAYERING: "Layering?", ABSORPTION: "Absorption", LEVEL_LIFETIME: "Large level ended", TOXICITY: "Toxic flow", EXPLOSION: "Explosion" };
// Of flows, the side is the one that presses.
const PRESSING = new Set(["HOT_SPOT", "TOXICITY", "EXPLOSION"]);
const SUSPICIONS = new Set(["SPOOFING", "LAYERING"]);
const HIDDEN = new Set(["end"]);

const keyOf = (each) => [each.kind, each.t, each.side, each.low].join(" ");
const words = (name) => name.replaceAll("_", " ");
const number = (value) => (value === null ? "—" : Number(value).toLocaleString("en-US", { maximumSignificantDigits: 4 }));

export function age(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
}

export class Flow {
  constructor(root) {
    this.root = root;
    this.rows = new Map();
  }

  setInstrument(priceDigits) {
    this.priceDigits = priceDigits;
    this.rows.clear();
    this.say("Waiting for the book …");
  }

  // Rows that stay keep their element, and an open one stays until it is closed: news disturb nobody who reads.
  render(detections, isLive) {
    const wanted = new Set(detections.map(keyOf));
    for (const [key, { row }] of this.rows) {
      if (wanted.has(key) || row.open) continue;
      row.remove();
      this.rows.delete(key);
    }
    if (!this.rows.size && !detections.length) {
      this.say(isLive ? "Nothing unusual now. Walls, clusters, absorption, one-sided flow and suspected spoofs appear here as they happen." : "The book is not proven now, so it is not judged.");
      return;
    }
    this.root.querySelector(".note")?.remove();
    detections.forEach((each, index) => {
      const key = keyOf(each);
      if (!this.rows.has(key)) this.rows.set(key, this.make(each));
      const { row } = this.rows.get(key);
      if (this.root.children[index] !== row) this.root.insertBefore(row, this.root.children[index] ?? null);
    });
    this.tick();
  }

  say(text) {
    if (this.root.querySelector(".note")?.textContent !== text) this.root.replaceChildren(element("p", text, "note"));
  }

  // Ages go on while no frame comes.
  tick() {
    const now = Date.now();
    for (const { time, at } of this.rows.values()) {
      const text = age(now - at);
      if (time.textContent !== text) time.textContent = text;
    }
  }

  make(each) {
    const row = element("details", "", `event ${each.side}`);
    row.dataset.kind = each.kind;
    const summary = element("summary"), time = element("time");
    const side = PRESSING.has(each.kind) ? (each.side === "bid" ? "buyers" : "sellers") : each.side;
    const name = element("b", NAMES[each.kind] ?? words(each.kind), SUSPICIONS.has(each.kind) ? "warn" : "");
    const score = element("span", "", "score"), bar = score.appendChild(element("i"));
    bar.style.width = `${100 * each.score}%`;
    Object.assign(score, { role: "meter", ariaLabel: "score", ariaValueMin: "0", ariaValueMax: "1", ariaValueNow: each.score.toFixed(2), title: "score: how far beyond its thresholds" });
    time.dateTime = new Date(each.t).toISOString();
    summary.append(name, element("span", side, `side ${each.side === "bid" ? "up" : "down"}`), element("span", this.price(each), "at"), score, time);
    summary.title = each.reason;
    const evidence = element("dl");
    evidence.append(this.fact("score", each.score.toFixed(2)));
    for (const [fact, value] of Object.entries(each.evidence)) if (!HIDDEN.has(fact)) evidence.append(this.fact(words(fact), number(value)));
    row.append(summary, element("p", each.reason), evidence);
    return { row, time, at: each.t };
  }

  fact(name, value) {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }

  // A zone is named by its middle; the sentence has its ends.
  price({ low, high }) {
    const middle = (Number(low) + Number(high)) / 2;
    return middle ? (low === high ? "" : "~") + middle.toFixed(this.priceDigits) : "";
  }
}
