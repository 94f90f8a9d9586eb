// The status page: asks the health endpoint every few seconds and says so when it does not answer.
const overall = document.getElementById("overall");
const rows = document.getElementById("components");

function show(health) {
  overall.textContent = `${health.status} · version ${health.version} · ${health.exchange}`;
  overall.dataset.status = health.status;
  rows.replaceChildren(...Object.entries(health.components).map(([name, component]) => {
    const row = document.createElement("tr");
    for (const text of [name, component.status, component.detail]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      row.append(cell);
    }
    row.dataset.status = component.status;
    return row;
  }));
}

async function ask() {
  try {
    const answer = await fetch("/api/v1/health", { cache: "no-store" });
    show(await answer.json());
  } catch {
    overall.textContent = "the site does not answer; asking again";
    overall.dataset.status = "down";
  }
  setTimeout(ask, 3000);
}

ask();
