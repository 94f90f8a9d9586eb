// The status page: asks the health endpoint every few seconds and says so when it does not answer.
const overall = document.getElementById("overall");
const rows = document.getElementById("components");
const feeds = document.getElementById("feeds");
const engines = document.getElementById("engines");

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



function show(health) {
  overall.textContent = `${health.status} · version ${health.version} · ${health.exchange}`;
  overall.dataset.status = health.status;
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
