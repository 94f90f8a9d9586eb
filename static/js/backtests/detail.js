// One run: how far it is while it runs, its report when it is done, beside others and beside what was done live.
import { request } from "../api.js";
import { clock, element, money, signed, tone } from "../formats.js";
import { comparisonTable, drawEquity, drawReport } from "./report.js";

const boot = JSON.parse(document.getElementById("boot").textContent);
const POLL_MS = 1000, AWAY_MS = 5000, LIMIT = 25, MOST_COMPARED = 5;
const path = `backtests/${boot.run}`;
const $ = (id) => document.getElementById(id);
const WORDS = {
  queued: "Waits for a worker. It begins by itself; you may leave this page.",
  stopped: "It was stopped; nothing of it was kept.",
};

const source = {
  prices: () => request("GET", `${path}/prices`),
  pricesBetween: (symbol, from, to) => request("GET", `${path}/prices?${new URLSearchParams({ symbol, from: Math.floor(from), to: Math.ceil(to) })}`),
  rows: (kind, query) => request("GET", `${path}/${kind}?${new URLSearchParams({ limit: LIMIT, ...query })}`),
};

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

function showState(run) {
  const isOver = !["queued", "running"].includes(run.state);
  $("state").textContent = run.stop_asked && !isOver ? "stopping" : run.state;
  $("state").dataset.state = run.state;
  $("stop").hidden = isOver;
  $("stop").disabled = run.stop_asked;
  $("delete").hidden = !isOver;
  $("exports").hidden = run.state !== "done";
  $("under-way").hidden = run.state === "done" || run.state === "failed";
  $("words").textContent = run.stop_asked && !isOver ? "Is being stopped …" : run.state === "running" ? run.words : run.words || WORDS[run.state] || "";
  $("progress").hidden = isOver;
  if (run.state === "queued") $("progress").removeAttribute("value");
  else $("progress").value = run.progress;
  const since = run.started_at ? Math.round((Date.now() - Date.parse(run.started_at)) / 1000) : 0;
  $("counts").textContent = run.state === "running" ? `${Math.floor(run.progress * 100)} % · ${money(run.events, 0)} bars · ${since} s` : "";
  document.body.dataset.run = run.state;
  if (run.state === "failed") fail(`It failed: ${run.error}`);
}

let shown = "";

async function follow() {
  let run;
  try {
    run = await request("GET", path);
  } catch (error) {
    fail(`${error.message}; as of ${clock(Date.now())}`);
    if (error.status !== 404) setTimeout(follow, AWAY_MS);
    return;
  }
  fail("");
  showState(run);
  if (["queued", "running"].includes(run.state)) setTimeout(follow, POLL_MS);
  else if (run.state === "done" && shown !== "done") {
    shown = "done";
    drawReport($("report"), run, source);
    compare(run);
    compareLive(run);
    if (run.summary.live) drawTruth(run.summary.live);
  }
}

function drawTruth(live) {
  $("truth").hidden = false;
  const box = $("truth-rows");
  if (live.error) {
    box.replaceChildren(element("p", `Nothing could be compared: ${live.error}`, "note"));
    return;
  }
  const verdict = live.is_true === null ? "Nothing could be compared." : live.is_true
    ? `The test made every one of the ${live.recorded} signals that ${live.configuration} made, and no other.`
    : `The test did not decide as ${live.configuration} did: ${live.only_recorded} signals were only live, ${live.only_tested} are only in the test, ${live.different} are different.`;
  const said = element("p", verdict, live.is_true ? "note" : "form-error");
  said.id = "truth-verdict";
  const judged = live.judged_otherwise ? [element("p", `${live.judged_otherwise} of the same signals had another outcome: the account's state is not the same in a test.`, "note")] : [];
  box.replaceChildren(said, ...judged, ...live.notes.map((words) => element("p", words, "note")));
  for (const stretch of live.stretches) {
    const of = `Version ${stretch.version} on ${stretch.symbols.join(", ")}, ${stretch.begun} to ${stretch.until}`;
    box.append(element("h3", of));
    const missing = Object.entries(stretch.missing).map(([symbol, count]) => `the archive lacks ${count} bars of ${symbol}`);
    if (missing.length) box.append(element("p", missing.join("; "), "note"));
    if (!stretch.compared) {
      box.append(element("p", `Not compared: ${stretch.why}`, "note"));
      continue;
    }
    box.append(element("p", `${stretch.recorded} signals live, ${stretch.tested} in the test, ${stretch.same} the same.`, "note"));
    if (!stretch.differences.length) continue;
    const made = element("table", "", "rows"), head = made.createTHead().insertRow(), body = made.createTBody();
    for (const title of ["Time", "Symbol", "What", "Live", "Tested", "Why"]) head.append(element("th", title));
    for (const each of stretch.differences) {
      const line = body.insertRow();
      for (const value of [each.time, each.symbol, each.field, each.recorded, each.tested, each.why]) line.append(element("td", value, "words"));
    }
    box.append(made);
  }
}

async function askComparison(configuration, run, button) {
  button.disabled = true;
  try {
    const asked = await request("POST", `strategies/${configuration}/comparison`, { start: run.start, end: run.end });
    location.href = `${boot.list}${asked.id}/`;
  } catch (error) {
    button.disabled = false;
    fail(error.message);
  }
}

async function compare(run) {
  $("compare").hidden = false;
  const wanted = (new URLSearchParams(location.search).get("with") ?? "").split(",").filter((each) => /^\d{1,18}$/.test(each) && Number(each) !== run.id).slice(0, MOST_COMPARED - 1);
  try {
    const { results } = await request("GET", "backtests?state=done&limit=100");
    for (const each of results.filter((one) => one.id !== run.id && !wanted.includes(String(one.id)))) {
      const option = element("option", `#${each.id} ${each.name}`);
      option.value = each.id;
      $("with").append(option);
    }
    $("with").disabled = wanted.length >= MOST_COMPARED - 1;
    $("with").addEventListener("change", () => {
      if ($("with").value) location.search = new URLSearchParams({ with: [...wanted, $("with").value].join(",") });
    });
    if (!wanted.length) {
      $("comparison").replaceChildren(element("p", results.length > 1 ? "Choose another backtest to see both side by side." : "There is no other backtest that is done yet.", "note"));
      return;
    }
    const others = (await Promise.all(wanted.map((id) => request("GET", `backtests/${id}`)))).filter((each) => each.state === "done");
    const box = element("div");
    $("comparison").replaceChildren(box, comparisonTable([run, ...others]));
    drawEquity(box, run, others);
  } catch (error) {
    $("comparison").replaceChildren(element("p", `They could not be compared: ${error.message}`, "note"));
  }
}

async function compareLive(run) {
  $("live").hidden = false;
  try {
    const rows = await request("GET", `${path}/live`);
    if (!rows.length) {
      $("live-rows").replaceChildren(element("p", "No configuration of your accounts has this rule with these parameters, so there is nothing live to compare with.", "note"));
      return;
    }
    const made = element("table", "", "rows"), head = made.createTHead().insertRow(), body = made.createTBody();
    for (const title of ["Configuration", "Account", "Symbols", "Signals live", "the same here", "only live", "only here", "Fills", "Net profit", ""]) head.append(element("th", title));
    for (const row of rows) {
      const line = body.insertRow();
      const account = element("td", `${row.account} `), badge = element("span", row.badge, "badge");
      badge.dataset.badge = row.badge;
      account.append(badge);
      line.append(element("td", row.configuration), account, element("td", row.symbols.join(", ")));
      for (const value of [row.signals, row.same_signals, row.only_live, row.only_tested, row.fills]) line.append(element("td", money(value, 0)));
      line.append(element("td", signed(row.net), tone(row.net)));
      const ask = element("button", "Signal for signal …", "quiet"), cell = element("td");
      ask.type = "button";
      ask.title = "Test what engines ran of it, from the bar on with which they began, and compare every signal";
      ask.addEventListener("click", () => askComparison(row.id, run, ask));
      cell.append(ask);
      line.append(cell);
    }
    $("live-rows").replaceChildren(made);
  } catch (error) {
    $("live-rows").replaceChildren(element("p", `Live results could not be read: ${error.message}`, "note"));
  }
}

$("stop").addEventListener("click", async () => {
  $("stop").disabled = true;
  try {
    showState(await request("POST", `${path}/stop`));
  } catch (error) {
    fail(error.message);
  }
});
$("delete").addEventListener("click", async () => {
  if (!confirm("Delete this backtest with all that it found?")) return;
  try {
    await request("DELETE", path);
    location.href = boot.list;
  } catch (error) {
    fail(error.message);
  }
});
follow();
