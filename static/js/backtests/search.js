// One search: how far it is, and what it found, never without what that is worth.
import { request } from "../api.js";
import { clock, element, money, signed, tone } from "../formats.js";
import { words } from "./form.js";
import { PagedTable, drawEquity, percent, ratio, scrolled, share, sheet, table, utc } from "./report.js";

const boot = JSON.parse(document.getElementById("boot").textContent);
const POLL_MS = 1000, AWAY_MS = 5000, PLOTTED = 200;
const SVG = "http://www.w3.org/2000/svg";
const path = `searches/${boot.search}`;
const $ = (id) => document.getElementById(id);
const WORDS = {
  queued: "Waits for a worker. It begins by itself; you may leave this page.",
  stopped: "It was stopped. Its trials are kept, and it can go on where it was.",
};
let search, drawn = "", trials = null;

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

const told = (value) => (value === null || value === undefined ? "—" : search.objective === "total_return" ? percent(value) : ratio(value));
const parameters = (values) => Object.entries(values).map(([name, value]) => `${words(name)} ${value}`).join(", ");
const day = (ms) => utc(ms).slice(0, 10);

function showState() {
  const isOver = !["queued", "running"].includes(search.state);
  $("state").textContent = search.stop_asked && !isOver ? "stopping" : search.state;
  $("state").dataset.state = search.state;
  $("stop").hidden = isOver;
  $("stop").disabled = search.stop_asked;
  $("resume").hidden = !["stopped", "failed"].includes(search.state);
  $("delete").hidden = !isOver;
  $("try").hidden = !search.summary.best;
  $("under-way").hidden = search.state === "done" || search.state === "failed";
  $("words").textContent = search.stop_asked && !isOver ? "Is being stopped …" : search.words || WORDS[search.state] || "";
  $("progress").hidden = isOver;
  $("progress").value = search.progress;
  $("counts").textContent = `${money(search.done, 0)} of ${money(search.total, 0)} trials`;
  document.body.dataset.run = search.state;
  fail(search.state === "failed" ? `It failed: ${search.error}` : "");
}

async function follow() {
  try {
    search = await request("GET", path);
  } catch (error) {
    fail(`${error.message}; as of ${clock(Date.now())}`);
    if (error.status !== 404) setTimeout(follow, AWAY_MS);
    return;
  }
  showState();
  const isOver = !["queued", "running"].includes(search.state);
  if (trials === null) drawTrials();
  else if (!isOver || drawn !== search.state) trials.go(trials.page);
  if (!isOver) setTimeout(follow, POLL_MS);
  else if (drawn !== search.state) {
    drawn = search.state;
    $("report").replaceChildren();
    if (Object.keys(search.summary).length) drawReport(search.summary);
  }
}

function drawReport(found) {
  const root = $("report");
  if (!found.best) {
    const { made } = sheet(root, "Nothing was found");
    made.append(element("p", "No trial could be judged: each had too few trades, or none was carried through. Their words are in the table.", "words"));
    return;
  }
  drawWorth(root, found);
  drawBest(root, found);
  if (found.walk_forward) drawWalk(root, found.walk_forward);
}

function drawWorth(root, { best, honesty, verdict, walk_forward: walk }) {
  const strip = element("dl", "", "strip worth"), overfitting = honesty.overfitting?.probability ?? null, outside = walk?.record?.total_return ?? null;
  const cells = [
    [`Best: ${words(search.objective)}`, told(best.value), "", "of the daily returns of all folds, chosen as the best: too good by what choosing adds"],
    ["Deflated Sharpe ratio", share(honesty.deflated_sharpe, 1), honesty.deflated_sharpe >= 0.95 ? "up" : honesty.deflated_sharpe < 0.5 ? "down" : "", "the probability that there is more than luck, given how many were tried"],
    ["Probability of overfitting", share(overfitting, 1), overfitting === null ? "" : overfitting < 0.05 ? "up" : overfitting >= 0.5 ? "down" : "", "how often the best of one half was below the middle in the other"],
    ["Walk-forward return", outside === null ? "—" : percent(outside), outside === null ? "" : tone(outside), "of the tests alone, which no choice has seen"],
  ];
  for (const [title, text, color, help] of cells) {
    const box = element("div");
    box.title = help;
    box.append(element("dt", title), element("dd", text, color));
    strip.append(box);
  }
  const { made } = sheet(root, "What it is worth");
  made.append(strip);
  const said = element("ul", "", "words verdict");
  for (const each of verdict) said.append(element("li", each));
  made.append(said);
  const more = element("details", "", "digests");
  more.append(element("summary", "How this was reckoned"));
  const { overfitting: cscv } = honesty, year = Math.sqrt(365);
  const rows = [
    ["Sets of parameters tried", money(honesty.trials, 0)],
    ["… worth so many independent ones", money(honesty.independent_trials, 1)],
    ["Sharpe ratio a year, of the best / expected of luck", `${honesty.sharpe === null ? "—" : ratio(honesty.sharpe * year)} / ${ratio(honesty.luck * year)}`],
    ["Probabilistic Sharpe ratio (as if it was the only trial)", share(honesty.probabilistic_sharpe, 1)],
    ["Shortest record for 95 %", honesty.track_record_days === null ? "—" : `${money(Math.ceil(honesty.track_record_days), 0)} days, there are ${honesty.days}`],
    ["Cross-validation (CSCV)", cscv ? `${cscv.trials} trials, ${cscv.parts} parts, ${money(cscv.splits, 0)} splits` : "too few trials or days"],
    ["… the best lost money in the other half", cscv ? share(cscv.loses, 1) : "—"],
  ];
  more.append(table([["Figure"], ["", true]], rows));
  made.append(more);
}

function drawBest(root, { best, importances, outcomes }) {
  const { made } = sheet(root, `Best: ${parameters(best.parameters)}`);
  const box = element("div");
  made.append(box);
  if (best.curve) {
    drawEquity(box, { summary: best });
    const s = best.statistics;
    made.append(element("p", `In one piece over all of the time, through the full path: return ${percent(s.total_return)}, Sharpe ${ratio(s.sharpe)}, deepest drawdown ${share(s.max_drawdown)}, ${money(s.trades, 0)} trades, ${share(s.win_rate, 0)} of them won. (Trials begin each fold with the whole balance and close everything at its end, so their figures differ a little.)`, "words"));
  }
  const columns = element("div", "", "search-columns"), bars = element("div", "", "bars");
  const ranked = Object.entries(importances).sort((a, b) => b[1] - a[1]);
  bars.append(element("h3", "What each parameter alone explains"));
  if (!ranked.length) bars.append(element("p", "Too few trials to say.", "muted"));
  for (const [name, value] of ranked) {
    const line = element("div", "", "bar-line"), bar = element("i");
    bar.style.width = `${Math.round(value * 100)}%`;
    line.append(element("span", words(name)), element("span", "", "bar-track"), element("b", share(value, 0)));
    line.children[1].append(bar);
    bars.append(line);
  }
  bars.append(element("p", Object.entries(outcomes).map(([name, count]) => `${count} ${name}`).join(", "), "muted"));
  const plot = element("div", "", "plot");
  columns.append(bars, plot);
  made.append(columns);
  drawPlot(plot, ranked.map(([name]) => name));
}

// The value of trials over one parameter: a broad hill is to be trusted more than one high point.
async function drawPlot(box, names) {
  const all = names.length ? names : Object.keys(search.request.space);
  let rows;
  try {
    rows = (await request("GET", `${path}/trials?outcome=complete&sort=-value&limit=${PLOTTED}`)).results;
  } catch (error) {
    box.replaceChildren(element("p", `The trials could not be loaded: ${error.message}`, "note"));
    return;
  }
  const group = element("div", "", "segments"), canvas = element("div");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Parameter");
  const show = (name) => {
    for (const each of group.children) each.setAttribute("aria-pressed", String(each.dataset.name === name));
    canvas.replaceChildren(scatter(rows.map((row) => [row.parameters[name], row.value]), words(name), canvas.clientWidth));
  };
  for (const name of all) {
    const button = element("button", words(name));
    button.type = "button";
    button.dataset.name = name;
    button.addEventListener("click", () => show(name));
    group.append(button);
  }
  box.append(group, canvas);
  if (rows.length) show(all[0]);
}

function shape(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

function scatter(points, title, space) {
  const width = Math.max(280, Math.min(760, space)), height = 220, left = 52, bottom = 24;
  const choices = points.some(([x]) => Number.isNaN(Number(x))) ? [...new Set(points.map(([x]) => x))] : null;
  const place = (x) => (choices ? choices.indexOf(x) : Number(x));
  const xs = points.map(([x]) => place(x)), ys = points.map(([, y]) => y);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const across = (x) => left + 8 + ((x - x0) / (x1 - x0 || 1)) * (width - left - 20), up = (y) => height - bottom - 6 - ((y - y0) / (y1 - y0 || 1)) * (height - bottom - 18);
  const made = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${words(search.objective)} of ${points.length} trials over ${title}` });
  made.append(shape("path", { d: `M${left} 6V${height - bottom}H${width}`, class: "axis" }));
  for (const y of [y0, y1]) made.append(shape("text", { x: left - 6, y: up(y) + 4, "text-anchor": "end" }, told(y)));
  for (const x of x0 === x1 ? [x0] : [x0, x1]) made.append(shape("text", { x: across(x), y: height - 8, "text-anchor": x === x0 ? "start" : "end" }, String(choices ? choices[x] : x)));
  points.forEach(([x, y], index) => made.append(shape("circle", { cx: across(place(x)), cy: up(y), r: index ? 3 : 5, class: index ? "" : "best" })));
  return made;
}

function drawWalk(root, walk) {
  const { made } = sheet(root, "Walk-forward");
  if (!walk.record) {
    made.append(element("p", "No training found anything that could be judged.", "words"));
    return;
  }
  const record = walk.record, box = element("div");
  made.append(box);
  const drawdown = { statistics: { start_balance: record.curve.equity[0], final_equity: record.curve.equity.at(-1), max_drawdown: record.max_drawdown }, curve: record.curve };
  drawEquity(box, { summary: drawdown });
  const kept = record.efficiency === null ? "" : ` Of the yearly return of the trainings ${share(record.efficiency, 0)} was left.`;
  made.append(element("p", `The tests put together: return ${percent(record.total_return)} in ${record.days} days, Sharpe ${ratio(record.sharpe)}, deepest drawdown ${share(record.max_drawdown)}, ${money(record.trades, 0)} trades, ${share(record.win_rate, 0)} of them won. The probability that its Sharpe ratio is above 0 is ${share(record.probabilistic_sharpe, 1)}.${kept}${walk.splits.length < walk.expected ? ` ${walk.expected - walk.splits.length} of ${walk.expected} trainings found nothing, and have no test.` : ""}`, "words"));
  const columns = [["Training"], ["Test"], ["Chosen"], ["In training", true], ["In the test", true], ["Return, training", true], ["Return, test", true], ["Trades", true]];
  const rows = walk.splits.map((each) => [
    `${day(each.train.start_ms)} – ${day(each.train.end_ms)}`, `${day(each.test.start_ms)} – ${day(each.test.end_ms)}`, parameters(each.parameters),
    told(each.trained_value), told(each.tested_value), [percent(each.trained_return), tone(each.trained_return)], [percent(each.tested_return), tone(each.tested_return)], money(each.trades, 0),
  ]);
  made.append(scrolled(table(columns, rows)));
}

function drawTrials() {
  const { made, head } = sheet($("trials"), "Trials"), names = Object.keys(search.request.space);
  const columns = [
    ["No.", "number", (row) => String(row.number + 1), true],
    ...names.map((name) => [words(name), null, (row) => String(row.parameters[name]), true]),
    ["Outcome", null, (row) => row.outcome],
    [words(search.objective), "value", (row) => told(row.value), true],
    ["Return", "total_return", (row) => [percent(row.total_return), row.total_return === null ? "" : tone(row.total_return)], true],
    ...(search.objective === "sharpe" ? [] : [["Sharpe", "sharpe", (row) => ratio(row.sharpe), true]]),
    ["Drawdown", "max_drawdown", (row) => share(row.max_drawdown), true],
    ["Trades", "trades", (row) => money(row.trades, 0), true],
    ["Profit", "profit", (row) => [signed(row.profit), tone(row.profit)], true],
    ["", null, (row) => row.words],
  ];
  let training = 0;
  const load = (query) => request("GET", `${path}/trials?${new URLSearchParams({ limit: 25, training, ...query })}`);
  trials = new PagedTable(made, { columns, load, sort: "-value", empty: "No trial is done yet." });
  const splits = search.request.walk_forward?.splits ?? 0;
  if (!splits) return;
  const label = element("label", "of "), choice = element("select");
  for (let each = 0; each <= splits; each += 1) {
    const option = element("option", each ? `training ${each}` : "all of the time");
    option.value = each;
    choice.append(option);
  }
  choice.addEventListener("change", () => {
    training = choice.value;
    trials.go(1);
  });
  label.className = "with";
  label.append(choice);
  head.append(label);
}

async function act(button, method, address) {
  button.disabled = true;
  try {
    return await request(method, address);
  } catch (error) {
    fail(error.message);
    return null;
  } finally {
    button.disabled = false;
  }
}

$("stop").addEventListener("click", async () => {
  if (await act($("stop"), "POST", `${path}/stop`)) $("stop").disabled = true;
});
$("resume").addEventListener("click", async () => {
  if (await act($("resume"), "POST", `${path}/resume`)) {
    drawn = "";
    follow();
  }
});
$("try").addEventListener("click", async () => {
  const asked = structuredClone(search.request.backtest), one = asked.strategies[0];
  Object.assign(one.parameters, search.summary.best.parameters);
  try {
    const run = await request("POST", "backtests", { ...asked, name: `${search.name}: the best`.slice(0, 80) });
    location.href = `${boot.backtests}${run.id}/`;
  } catch (error) {
    fail(error.message);
  }
});
$("delete").addEventListener("click", async () => {
  if (!confirm("Delete this search with all its trials?")) return;
  try {
    await request("DELETE", path);
    location.href = boot.list;
  } catch (error) {
    fail(error.message);
  }
});
follow();
