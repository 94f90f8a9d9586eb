// How the volumes of symbols go with each other: a table of correlations, window after window.
import { request } from "../api.js";
import { element } from "../formats.js";
import { Segments, SymbolChooser, depthChooser, isDepth, isMarket, isSymbol, marketChooser } from "./choosers.js";
import { HistoryChart } from "./history_chart.js";
import { PageLocation } from "./location.js";
import { PaneState, boot, connect, csv, download, shareButton, toast } from "./page.js";

const MOST = 20, FIRST = 8, STEP_MS = 700, REFRESH_MS = 60000;
const SIDES = { both: "Both sides", bid: "Bids", ask: "Asks" };
const WINDOWS = { 15: "15 min", 30: "30 min", 60: "1 h", 120: "2 h", 240: "4 h", 480: "8 h" };
const SPANS = { "3h": 10800, "6h": 21600, "12h": 43200, "24h": 86400 };
const $ = (id) => document.getElementById(id);

const place = new PageLocation({
  symbols: { accept: (text) => text.split(",").every(isSymbol) && new Set(text.split(",")).size <= MOST },
  market: { initial: "SPOT", accept: isMarket },
  depth: { initial: "5", accept: isDepth },
  side: { initial: "both", accept: (text) => text in SIDES },
  window: { initial: "60", accept: (text) => text in WINDOWS },
  span: { initial: "6h", accept: (text) => text in SPANS },
  at: { accept: (text) => /^[0-9]{9,11}$/.test(text) },
  pair: { accept: (text) => /^[A-Z0-9]{5,20}-[A-Z0-9]{5,20}$/.test(text) },
}, show);
const matrix = new PaneState($("matrix")), pairPane = new PaneState($("pair"));
const pairChart = new HistoryChart($("pair-chart"), $("pair-legend"), {
  value: { label: "Correlation", color: ["#5aa2ff", "#f08a4b"], kind: "baseline", show: (value) => value.toFixed(2) },
});
const choosers = {
  market: marketChooser($("market"), (market) => choose({ market })),
  depth: depthChooser($("depth"), (depth) => choose({ depth })),
  side: new Segments($("side"), Object.entries(SIDES), (side) => choose({ side })),
  window: new Segments($("window"), Object.entries(WINDOWS), (window) => choose({ window })),
  span: new Segments($("span"), Object.keys(SPANS).map((span) => [span, span]), (span) => choose({ span })),
};
let answer = null, asked = 0, playing = null;

function askForPair() {
  $("pair-title").textContent = "One pair over time";
  pairPane.empty("Choose a number in the table to see how that pair went along.");
}

connect({ onMessage: () => {}, onReturn: () => load({ keep: true }) });
new SymbolChooser($("add"), { onChoose: add, label: "Add a symbol" });

function chosen() {
  if (place.values.symbols) return place.values.symbols.split(",");
  const collected = boot.symbols.filter(({ source }) => source);
  return (collected.length ? collected : boot.symbols).slice(0, FIRST).map(({ symbol }) => symbol);
}

function add(symbol) {
  const symbols = chosen();
  if (symbols.includes(symbol)) return;
  if (symbols.length === MOST) toast(`At most ${MOST} symbols are compared at once; remove one first.`, "warn");
  else choose({ symbols: [...symbols, symbol].join(",") });
}

function remove(symbol) {
  choose({ symbols: chosen().filter((each) => each !== symbol).join(","), pair: "" });
}

function choose(changes) {
  place.set(changes);
  show();
}

function show() {
  for (const [name, chooser] of Object.entries(choosers)) chooser.show(place.values[name]);
  const symbols = chosen();
  $("chips").replaceChildren(...symbols.map((symbol) => {
    const chip = element("button", symbol, "chip");
    chip.type = "button";
    chip.setAttribute("aria-label", `Remove ${symbol}`);
    chip.append(element("span", "×"));
    chip.addEventListener("click", () => remove(symbol));
    return chip;
  }));
  $("count").textContent = `${symbols.length} of ${MOST}`;
  load();
}

async function load({ keep = false } = {}) {
  const ours = ++asked, symbols = chosen(), { market, depth, side, window, span } = place.values;
  stop();
  if (symbols.length < 2) {
    matrix.empty("Add at least two symbols to compare.");
    return;
  }
  matrix.loading({ keep: keep || answer !== null });
  // Windows follow each other by half their length from the beginning: it is chosen so that one ends now.
  const step = Math.floor(window / 2), more = Math.max(1, Math.floor((SPANS[span] / 60 - window) / step));
  const to = 60 * Math.floor(Date.now() / 60000) - 60, from = to - 60 * (Number(window) + more * step - 1);
  try {
    const found = await request("GET", `analytics/correlation?symbols=${symbols.join(",")}&marketType=${market}&depth=${depth}&type=${side}&window=${window}&from=${from}&to=${to}`);
    if (ours !== asked) return;
    answer = found;
    const known = found.windows.some(({ matrix }) => matrix.some((row) => row.some((value) => value !== null)));
    if (!known) {
      matrix.empty(`There are not enough minutes of these symbols yet: a window of ${WINDOWS[window]} needs them stored. Choose a shorter window or another market.`);
      return;
    }
    matrix.ready();
    build();
    $("slider").max = found.windows.length - 1;
    // A shared address names a moment, and windows move on with time: the nearest one is meant.
    const at = Number(place.values.at), distance = ({ to }) => Math.abs(to - at);
    $("slider").value = at ? found.windows.findIndex((each) => distance(each) === Math.min(...found.windows.map(distance))) : found.windows.length - 1;
    fill();
    showPair();
  } catch (error) {
    if (ours === asked) matrix.failed(error, () => load());
  }
}

// The table is made once for its symbols, or whoever walks through it would lose their place; the rest changes numbers.
function build() {
  const { symbols } = answer, head = element("tr"), shown = symbols.join(",");
  if ($("matrix-table").dataset.shown === shown) return;
  $("matrix-table").dataset.shown = shown;
  head.append(element("td"), ...symbols.map((symbol) => header(symbol, "col")));
  const rows = symbols.map((first, row) => {
    const made = element("tr");
    made.append(header(first, "row"), ...symbols.map((second, column) => {
      const cell = element("td");
      Object.assign(cell.dataset, { row, column });
      cell.tabIndex = row === 0 && column === 0 ? 0 : -1;
      return cell;
    }));
    return made;
  });
  $("matrix-head").replaceChildren(head);
  $("matrix-body").replaceChildren(...rows);
  $("matrix-table").style.setProperty("--symbols", symbols.length);
}

function header(symbol, scope) {
  const cell = element("th", "", "");
  cell.scope = scope;
  cell.append(element("span", symbol.replace(/USDT$/, ""), "short"));
  cell.title = symbol;
  cell.setAttribute("aria-label", symbol);
  return cell;
}

const current = () => answer.windows[Number($("slider").value)];
const timeText = (seconds) => new Date(seconds * 1000).toLocaleString("en-GB", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });

function fill() {
  const { to, matrix: values } = current();
  for (const cell of $("matrix-body").querySelectorAll("td")) {
    const value = values[cell.dataset.row][cell.dataset.column];
    cell.textContent = value === null ? "–" : value.toFixed(2);
    cell.style.background = value === null ? "" : color(value);
    cell.style.color = value !== null && Math.abs(value) > 0.55 ? "#0b0e13" : "";
    cell.title = value === null ? "Fewer than three common minutes, or one of the two never changed" : "";
  }
  const from = to - 60 * (Number(place.values.window) - 1);
  $("moment").textContent = `${timeText(from)} – ${timeText(to)}`;
  $("slider").setAttribute("aria-valuetext", $("moment").textContent);
  $("position").textContent = `${Number($("slider").value) + 1} of ${answer.windows.length}`;
  $("caption").textContent = `Correlation of resting volume, ${place.values.market.toLowerCase()}, ${SIDES[place.values.side].toLowerCase()} within ${place.values.depth} %, ${$("moment").textContent}`;
}

// Blue goes together, orange goes against each other: told apart by every kind of eye. 0 is the ground.
function color(value) {
  const end = value > 0 ? [90, 162, 255] : [240, 138, 75], share = Math.abs(value) ** 0.8;
  return `rgb(${[17, 22, 30].map((ground, part) => Math.round(ground + (end[part] - ground) * share)).join(" ")})`;
}

// One pair over time.
function showPair() {
  const [first, second] = place.values.pair.split("-"), { symbols, windows } = answer;
  const row = symbols.indexOf(first), column = symbols.indexOf(second);
  for (const cell of $("matrix-body").querySelectorAll("td")) {
    cell.toggleAttribute("data-chosen", Number(cell.dataset.row) === row && Number(cell.dataset.column) === column);
  }
  if (row < 0 || column < 0) {
    askForPair();
    return;
  }
  $("pair-title").textContent = `${first} with ${second}`;
  pairPane.ready();
  pairChart.setData(windows.map(({ to, matrix }) => ({ time: to, value: matrix[row][column] })));
}

function choosePair(cell) {
  const { row, column } = cell.dataset;
  place.set({ pair: `${answer.symbols[row]}-${answer.symbols[column]}` }, { replace: true });
  showPair();
}

// Arrows walk through the table, Enter chooses: one stop for the Tab key, as in a grid.
$("matrix-body").addEventListener("keydown", (event) => {
  const cell = event.target.closest("td"), moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (!cell) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choosePair(cell);
  }
  if (!moves) return;
  event.preventDefault();
  const next = $("matrix-body").querySelector(`td[data-row="${Number(cell.dataset.row) + moves[0]}"][data-column="${Number(cell.dataset.column) + moves[1]}"]`);
  if (!next) return;
  cell.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
$("matrix-body").addEventListener("click", (event) => {
  const cell = event.target.closest("td");
  if (cell) choosePair(cell);
});

function move(to) {
  $("slider").value = to;
  const last = Number($("slider").value) === answer.windows.length - 1;
  place.set({ at: last ? "" : String(current().to) }, { replace: true });
  fill();
}

function stop() {
  clearInterval(playing);
  playing = null;
  $("play").textContent = "▶ Play";
}

$("slider").addEventListener("input", () => {
  stop();
  move($("slider").value);
});
$("play").addEventListener("click", () => {
  if (playing !== null) {
    stop();
    return;
  }
  if (!answer) return;
  if (Number($("slider").value) === answer.windows.length - 1) move(0);
  $("play").textContent = "❚❚ Pause";
  playing = setInterval(() => {
    if (Number($("slider").value) === answer.windows.length - 1) stop();
    else move(Number($("slider").value) + 1);
  }, STEP_MS);
});
$("export").addEventListener("click", () => {
  if (!answer) return;
  const { symbols, windows } = answer;
  const rows = windows.flatMap(({ to, matrix }) => symbols.map((symbol, row) => [new Date(to * 1000).toISOString(), symbol, ...matrix[row]]));
  download(`correlation-${place.values.market}-${place.values.depth}-${place.values.window}min.csv`, "text/csv", csv(["windowTo", "symbol", ...symbols], rows));
});
shareButton($("share"));
askForPair();
// The newest window moves on; one that was chosen stays.
setInterval(() => document.hidden || place.values.at || playing !== null || load({ keep: true }), REFRESH_MS);
show();
