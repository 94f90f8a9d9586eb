// The charts page: the address says what is shown; rows are asked for in pieces, books come over the live connection.
import { request } from "../api.js";
import { ago, decimals } from "../formats.js";
import { Ladder } from "../ladder.js";
import { BOOK_PATHS, depthChooser, firstSymbol, isDepth, isMarket, isSymbol, marketChooser, rememberSymbol, Segments, SymbolChooser } from "./choosers.js";
import { areEntries, colorsOf, CompareDialog, parseEntries } from "./compare.js";
import { ComparisonChart } from "./comparison.js";
import { DifferencePanel } from "./difference.js";
import { exportShown, rowsShown, serverFile } from "./export.js";
import { Legend, nameOf, sidesOf } from "./legend.js";
import { PageLocation } from "./location.js";
import { connect, onKey, PaneState, shareButton, toast, wordsOf } from "./page.js";
import { keyOf, SeriesStore } from "./series.js";

const HOUR = 3600, DAY = 24 * HOUR;
// Two hours less what Valkey may have dropped by the time it is asked.
const SPANS = { "2h": 2 * HOUR - 90, "12h": 12 * HOUR, "3d": 3 * DAY, "30d": 30 * DAY, "1y": 365 * DAY };
const SPAN_NAMES = { "2h": "2 h", "12h": "12 h", "3d": "3 d", "30d": "30 d", "1y": "1 y" };
const INTERVAL_NAMES = { "1m": "1 min", "1h": "1 h mean", "1d": "1 d mean" };
const MOST_MINUTES = 4 * DAY, MOST_HOURS = 150 * DAY;
const STALE_MS = 150000, CATCH_UP_MS = 60000, HOLD_MS = 10000, TOP = 20;
const $ = (id) => document.getElementById(id);
const oneOf = (...texts) => (text) => texts.includes(text);
const seconds = /^[1-9][0-9]{1,9}$/;

const place = new PageLocation({
  symbol: { accept: isSymbol },
  market: { initial: "SPOT", accept: isMarket },
  depth: { initial: "5", accept: isDepth },
  side: { initial: "both", accept: oneOf("bid", "ask", "both", "mean") },
  unit: { initial: "coins", accept: oneOf("coins", "usd") },
  scale: { accept: oneOf("amount", "percent") },
  with: { accept: areEntries },
  // A named span, or seconds; until now, or until a time.
  span: { initial: "2h", accept: (text) => text in SPANS || seconds.test(text) },
  to: { accept: (text) => seconds.test(text) },
}, () => draw());

const store = new SeriesStore(), books = new Map(), digits = new Map(), watched = new Set();
let interval, shown = [], generation = 0, crosshair = null, changing = null, heldUntil = 0;

const chartState = new PaneState($("chart-pane")), ladderState = new PaneState($("ladder-pane")), differenceState = new PaneState($("difference-pane"));
const ladder = new Ladder($("ladder"), () => {}, TOP);
const differences = new DifferencePanel($("differences"), (depth) => change({ depth }));
const legend = new Legend($("legend"), { onRemove: (key) => change({ with: entries().slice(1).filter((each) => keyOf(each) !== key).map(keyOf).join(",") }) });
const chart = new ComparisonChart($("chart"), {
  onOlder: () => extend((series) => !series.isWhole && series.older()),
  onNewer: () => extend((series) => !series.isCurrent && series.newer()),
  onRange: () => follow(),
  onCrosshair: (time) => {
    crosshair = time;
    legend.tell(time);
  },
});
const stream = connect({
  onMessage: (message) => message.type === "depth_book" && takeBook(message.book, message.body, true),
  onReturn: () => catchUp(),
  // Some book is not collected now; of the one that is looked at the API says it to the panes.
  onRefusal: ({ field, message }) => (field === "books" ? askBook() : toast(message, "error")),
});

// What is looked at, and what it is compared with; nothing twice.
function entries() {
  const { symbol, market, depth } = place.values, all = [{ symbol, market, depth }, ...parseEntries(place.values.with)];
  return [...new Map(all.map((each) => [keyOf(each), each])).values()];
}

const bookOf = ({ market, symbol }) => `${market}:${symbol}`;
const spanSeconds = () => SPANS[place.values.span] ?? Number(place.values.span);
const until = () => (place.values.to ? Number(place.values.to) : null);
const intervalOf = (span) => (span <= MOST_MINUTES ? "1m" : span <= MOST_HOURS ? "1h" : "1d");

// Different coins do not compare as amounts.
function isPercent() {
  const { scale, unit } = place.values;
  return scale ? scale === "percent" : unit === "coins" && new Set(entries().map(({ symbol }) => symbol)).size > 1;
}

function change(changes) {
  changing = performance.now();
  place.set(changes);
  draw();
}

function chooseSymbol(symbol) {
  rememberSymbol(symbol);
  change({ symbol });
}

const controls = [
  ["market", marketChooser($("markets"), (market) => change({ market }))],
  ["depth", depthChooser($("depths"), (depth) => change({ depth }))],
  ["side", new Segments($("sides"), [["bid", "Bids"], ["ask", "Asks"], ["both", "Both"], ["mean", "Mean", "the mean of bids and asks"]], (side) => change({ side }))],
  ["unit", new Segments($("units"), [["coins", "Coins"], ["usd", "$", "price times quantity, in quote coins"]], (unit) => change({ unit }))],
  ["span", new Segments($("spans"), Object.entries(SPAN_NAMES), (span) => change({ span, to: "" }))],
];
const scales = new Segments($("scales"), [["amount", "Amount"], ["percent", "%", "change since the left edge"]], (scale) => change({ scale }));

// Everything as the address has it: what is known at once, the rest as it comes.
function draw() {
  const { side, unit, depth } = place.values, of = entries();
  interval = intervalOf(spanSeconds());
  shown = of.map((each) => store.get(each, interval));
  for (const [name, control] of controls) control.show(place.values[name]);
  scales.show(isPercent() ? "percent" : "amount");
  $("symbol-name").textContent = place.values.symbol;
  $("interval").textContent = INTERVAL_NAMES[interval];
  $("now").hidden = until() === null;
  document.title = `${place.values.symbol} ${depth} % · Depth · Ballast`;
  differences.choose(depth);
  showSeries(side, unit);
  watch(of);
  showBook();
  load();
}

function showSeries(side, unit) {
  const colors = shown.map((series, index) => colorsOf(index, shown.length));
  chart.show(shown.flatMap((series, index) => sidesOf(side).map((each) => ({ key: `${series.key}:${series.interval}:${each}`, series, side: each, unit, color: colors[index][each], dashed: shown.length > 1 && each === "ask" }))), interval);
  chart.setPercent(isPercent());
  legend.show(shown.map((series, index) => ({ series, colors: colors[index] })), side, unit, baseOf);
  frame();
}

// Changes in percent count from the left edge of the view.
function baseOf(series) {
  const view = isPercent() ? chart.view() : null;
  return view ? series.after(view.from) ?? null : null;
}

// The view that the address names.
function frame() {
  if (!chart.isEmpty) chart.setSpan(spanSeconds(), until(), shown.every(({ isWhole }) => isWhole));
}

async function load() {
  const mine = ++generation, first = shown[0];
  const stale = () => mine !== generation;
  if (first.rows.length) {
    chartState.ready();
    noteDrawn();
  } else chartState.loading();
  const missing = shown.filter((series) => !series.isOpen || (until() === null && !series.isCurrent));
  if (first.rows.length && missing.length) chartState.loading({ keep: true });
  await Promise.all(missing.map(async (series) => {
    try {
      await bring(series);
      series.failure = "";
    } catch (error) {
      series.failure = wordsOf(error);
      if (series === first && !first.rows.length && !stale()) chartState.failed(new Error(`The history could not be loaded: ${wordsOf(error)}.`), () => load());
      else if (!stale()) toast(`${nameOf(series)}: ${wordsOf(error)}`, "error");
    }
    if (stale()) return;
    const book = books.get(bookOf(series));
    if (book) series.put(book);
    const began = chart.isEmpty || series === first;
    chart.redraw();
    if (began) frame();
    legend.tell(crosshair);
    if (series === first && first.rows.length) {
      chartState.ready();
      noteDrawn();
    }
  }));
  if (stale() || first.failure) return;
  if (first.rows.length) chartState.ready();
  else chartState.empty(`Nothing is stored of ${nameOf(first)}${interval === "1m" ? "" : ` by ${interval === "1h" ? "hour" : "day"}`} yet. While it is collected, a row is written each minute; hours and days follow.`);
}

// Rows of the span that is looked at, or the newest before it, and without a hole up to now.
async function bring(series) {
  if (!series.isOpen && !(await series.open(spanSeconds(), until()))) await series.older();
  if (until() === null) while (!series.isCurrent) await series.newer();
}

// The chart was scrolled near an edge: more of what `piece` can bring there.
async function extend(piece, { quiet = false } = {}) {
  if (Date.now() < heldUntil) return;
  const mine = generation, working = shown.filter((series) => series.isOpen && !series.under).map(piece).filter(Boolean);
  if (!working.length) return;
  const done = await Promise.allSettled(working);
  const failed = done.find(({ status }) => status === "rejected");
  if (failed) {
    heldUntil = Date.now() + HOLD_MS;
    if (!quiet) toast(`More of the history could not be loaded: ${failed.reason.message}`, "error");
  }
  if (mine !== generation) return;
  if (done.some(({ value }) => value)) chart.redraw();
  if (!chart.isScrolled && place.values.span in SPANS && until() === null && shown.every(({ isWhole }) => isWhole)) frame();
}

// The reader moved the chart: the address follows, and minutes become hours or days where the view is wide.
function follow() {
  const view = chart.view();
  if (!view) return;
  const span = Math.max(600, Math.round(view.to - view.from));
  const wider = span > 1.2 * { "1m": MOST_MINUTES, "1h": MOST_HOURS, "1d": Infinity }[interval];
  const narrower = span < { "1m": 0, "1h": MOST_MINUTES / 3, "1d": MOST_HOURS / 5 }[interval];
  place.set({ span: String(span), to: view.isNow ? "" : String(Math.round(view.to)) }, { replace: true });
  if (wider || narrower) draw();
  else {
    controls.at(-1)[1].show("");
    $("now").hidden = view.isNow;
  }
}

// Stored rows replace what was told live, and fill what was missed.
async function catchUp() {
  if (until() !== null && !shown.some(({ isCurrent }) => isCurrent)) return;
  await extend((series) => (series.isCurrent || until() === null) && series.newer(), { quiet: true });
  legend.tell(crosshair);
}

// Books.

function watch(of) {
  const wanted = new Set(of.map(bookOf));
  for (const book of watched) {
    if (wanted.has(book)) continue;
    watched.delete(book);
    stream.unsubscribe(book);
  }
  for (const book of wanted) {
    if (watched.has(book)) continue;
    watched.add(book);
    stream.subscribe(book, { channel: "depth", books: [book] });
  }
  // The live connection may not be there yet.
  if (document.body.dataset.connection !== "live") askBook();
}

// The book that is looked at, unless it is known: by the API.
async function askBook() {
  const { market, symbol } = place.values, name = bookOf({ market, symbol }), isWanted = () => name === bookOf(place.values);
  if (books.has(name)) return;
  try {
    takeBook(name, await request("GET", `${BOOK_PATHS[market]}?symbol=${symbol}`), false);
  } catch (error) {
    if (!isWanted() || books.has(name)) return;
    for (const pane of [ladderState, differenceState]) {
      if (error.status === 404) pane.empty(`Nothing is known of ${symbol}.`);
      else if (error.status === 503) pane.empty(`No book now: ${error.message.replace("/api/v1/collector", "the Collector page")}.`);
      else pane.failed(error, () => askBook());
    }
  }
}

function takeBook(name, body, isLive) {
  const known = books.get(name);
  if (known && known.timestamp > body.timestamp) return;
  books.set(name, body);
  for (const series of shown) {
    if (bookOf(series) !== name || !series.put(body)) continue;
    chart.update(series);
    if (isLive && !performance.getEntriesByName("depth:live").length) requestAnimationFrame(() => performance.mark("depth:live"));
  }
  if (crosshair === null) legend.tell(null);
  if (name === bookOf(place.values)) showBook();
}

function showBook() {
  const book = books.get(bookOf(place.values));
  if (!book) {
    for (const pane of [ladderState, differenceState]) pane.loading();
    $("book-status").textContent = "";
    return;
  }
  for (const pane of [ladderState, differenceState]) pane.ready();
  // As many decimals as any level had: columns that jump cannot be read.
  const name = bookOf(place.values), before = digits.get(name) ?? [0, 0];
  const most = (at) => Math.max(before[at], ...[...book.bids, ...book.asks].map((level) => decimals(level[at])));
  digits.set(name, [most(0), most(1)]);
  [ladder.priceDigits, ladder.sizeDigits] = digits.get(name);
  ladder.render(book, book.midPrice, new Set());
  differences.show(book, place.values.unit);
  showStatus();
}

// How old the book is, and by which way it came.
function showStatus() {
  const book = books.get(bookOf(place.values)), tag = $("book-status");
  if (!book) return;
  const age = Date.now() - book.timestamp, isLost = document.body.dataset.connection === "offline";
  // The server says it, by its own clock; who does not hear the server has to count.
  const isStale = book.wsStatus === "STALE" || (isLost && age > STALE_MS);
  const words = isStale ? `stale, ${ago(age)}` : book.wsStatus === "POLLED" ? `polled, ${ago(age)}` : isLost ? `known ${ago(age)}` : "live";
  if (tag.textContent !== words) tag.textContent = words;
  tag.title = isStale ? "No newer book came" : book.wsStatus === "POLLED" ? "This book is asked for once a minute" : "Every change of this book is followed";
  tag.dataset.level = isStale || isLost ? "warn" : book.wsStatus === "POLLED" ? "polled" : "good";
  $("ladder").classList.toggle("stale", isStale);
  $("differences").classList.toggle("stale", isStale);
}

// How long after a choice its chart is on the screen; bench_depth_pages.py reads it.
function noteDrawn() {
  requestAnimationFrame(() => {
    if (!performance.getEntriesByName("depth:chart").length) performance.mark("depth:chart");
    if (changing === null) return;
    performance.measure("depth:change", { start: changing, end: performance.now() });
    changing = null;
  });
}

const compare = new CompareDialog($("compare-dialog"), {
  current: entries,
  onAdd: (added) => change({ with: [...entries().slice(1), ...added].map(keyOf).join(",") }),
});
new SymbolChooser($("symbol-button"), {
  onChoose: chooseSymbol,
  // Whether that fails is told when it is chosen.
  onConsider: (symbol) => store.get({ ...entries()[0], symbol }, interval).open(spanSeconds(), until()).catch(() => {}),
});
shareButton($("share"));
$("compare").addEventListener("click", () => compare.open());
onKey("c", () => compare.open());
$("now").addEventListener("click", () => {
  for (const series of shown) if (!series.isCurrent) series.clear();
  change({ to: "" });
});
document.querySelector(".export").addEventListener("toggle", () => {
  const view = chart.view();
  for (const link of document.querySelectorAll("[data-server]")) if (view) link.href = serverFile(link.dataset.server, shown[0], view);
});
for (const button of document.querySelectorAll("[data-shown]"))
  button.addEventListener("click", () => {
    const { symbol, market, depth, side, unit } = place.values, view = chart.view();
    if (!view) toast("The chart is empty: there is nothing to export.", "warn");
    else exportShown(button.dataset.shown, rowsShown(shown, { side, unit, percent: isPercent() }, view), `${symbol}-${market}-${depth}`);
    document.querySelector(".export").open = false;
  });

setInterval(showStatus, 1000);
setTimeout(() => {
  catchUp();
  setInterval(catchUp, CATCH_UP_MS);
}, CATCH_UP_MS - ((Date.now() - 20000) % CATCH_UP_MS));

if (place.refused.length) toast(`Not understood in the address, and left out: ${place.refused.join(", ")}`, "warn");
place.set({ symbol: place.values.symbol || firstSymbol() }, { replace: true });
draw();
