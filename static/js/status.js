// The status page: asks the health endpoint every few seconds and says so when it does not answer.
const overall = document.getElementById("overall");
const rows = document.getElementById("components");

const engines = document.getElementById("engines");

function tableRow(status, ...texts) {
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
  rows.replaceChildren(...Object.entries(health.components).map(([name, { status, detail }]) => tableRow(status, name, status, detail)));
}

function showEngines(living) {
  engines.replaceChildren(...living.map(({ name, session, symbols, standing_by }) => {
    const held = symbols.map(({ symbol, epoch, state }) => `${symbol} (${epoch}, ${state || "…"})`);
    const status = symbols.every(({ state }) => state === "LIVE") ? "ok" : "degraded";
    return tableRow(status, name, session, held.join(", ") || "none", standing_by.join(", "));
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
