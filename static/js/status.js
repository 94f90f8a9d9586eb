// The status page: asks the health endpoint every few seconds and says so when it does not answer.
import { ago, clock } from "./formats.js";

const overall = document.getElementById("overall");
const rows = document.getElementById("components");
const feeds = document.getElementById("feeds");
const engines = document.getElementById("engines");
const modes = document.getElementById("modes");
const depth = document.getElementById("depth");
const depthPart = document.getElementById("depth-part");
const breakers = document.getElementById("breakers");
const budgets = document.getElementById("budgets");

const milliseconds = (value) => (value == null ? "" : `${value.toFixed(1)} ms`);

function line(texts, status) {
  const row = document.createElement("tr");
  for (const text of texts) {
    const cell = document.createElement("td");
    cell.textContent = text;
    row.append(cell);
  }
  row.dataset.status = status;
  return row;
}

function showModes(held) {
  modes.hidden = held.length === 0;
  modes.replaceChildren(...held.map(({ name, sentence }) => {
    const item = document.createElement("li");
    item.textContent = sentence;
    item.dataset.mode = name;
    return item;
  }));
}

function showAccess(processes) {
  const of = (process, { breakers }) => Object.entries(breakers).flatMap(([venue, groups]) => Object.entries(groups).map(([group, each]) => {
    const state = each.state === "closed" ? "closed" : `${each.state.replace("_", "-")}: ${each.reason}`;
    return line([process, venue, group, state, `${each.failures}, ${each.opened}, ${each.refused}`], each.state === "closed" ? "ok" : "degraded");
  }));
  breakers.replaceChildren(...Object.entries(processes).flatMap(([process, access]) => of(process, access)));
  budgets.replaceChildren(...Object.entries(processes).map(([process, { budget }]) => {
    const shared = budget.mode === "shared";
    const mode = shared ? "shared by all" : `own share: ${budget.reason}`;
    return line([process, mode, budget.processes, budget.taken, budget.exhausted], shared ? "ok" : "degraded");
  }));
}

// Of what was never heard of there is no time; others say both when it was and how long ago.
const lastUpdate = (updated) => (updated ? `${clock(updated)}, ${ago(Date.now() - Date.parse(updated))}` : "—");

function showDepth(found) {
  depthPart.hidden = !found;
  depth.replaceChildren(...Object.entries(found?.components ?? {}).map(([name, each]) => {
    const texts = [name.replace("_", " "), each.status, each.detail, lastUpdate(each.updated), milliseconds(each.latency_ms)];
    return line(texts, each.status);
  }));
}

function show(health) {
  overall.textContent = `${health.status} · version ${health.version} · ${health.exchange}`;
  overall.dataset.status = health.status;
  const watched = health.watched_positions.map(({ symbol, positions }) => `${symbol} (${positions})`).join(", ");
  showModes([...health.degraded_modes, ...(watched ? [{ name: "watched_positions", sentence: `positions watched in memory: ${watched}` }] : [])]);
  showAccess(health.venue_access);
  showDepth(health.depth);
  rows.replaceChildren(...Object.entries(health.components).map(([name, each]) => line([name, each.status, each.detail], each.status)));
  feeds.replaceChildren(...health.feeds.map((each) => {
    const state = each.connected ? "connected" : "not connected";
    const figures = [String(each.reconnects), milliseconds(each.clock_offset_ms), milliseconds(each.latency_p99_ms)];
    return line([each.connection, state, ...figures], each.connected ? "ok" : "degraded");
  }));
}

function showEngines(living) {
  engines.replaceChildren(...living.map(({ name, session, symbols, standing_by }) => {
    const held = symbols.map(({ symbol, epoch, state }) => `${symbol} (${epoch}, ${state || "…"})`);
    const status = symbols.every(({ state }) => state === "LIVE") ? "ok" : "degraded";
    return line([name, session, held.join(", ") || "none", standing_by.join(", ")], status);
  }));
}

async function ask() {
  try {
    const answer = await fetch("/api/v1/health", { cache: "no-store" });
    show(await answer.json());
    const living = await fetch("/api/v1/engines", { cache: "no-store" });
    if (living.ok) showEngines(await living.json());
  } catch {
    overall.textContent = "the site does not answer; asking again";
    overall.dataset.status = "down";
  }
  setTimeout(ask, 3000);
}

ask();
