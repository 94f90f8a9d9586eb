// Resting volume by price and time, with a live edge: an answer for the whole span, a finer one for what is zoomed in on,
// and the newest minutes, each a layer of its own.
import { request } from "../api.js";
import { clock, volume } from "../formats.js";
import { BOOK_MARKETS, MARKETS, Segments, SymbolChooser, firstSymbol, isMarket, isSymbol, marketChooser, rememberSymbol } from "./choosers.js";
import { Layer, RAMP, Scale } from "./heat_image.js";
import { HeatView } from "./heat_view.js";
import { PageLocation } from "./location.js";
import { PaneState, connect, csv, download, shareButton, toast } from "./page.js";

const SPANS = { "1h": 3600, "6h": 21600, "24h": 86400, "3d": 259200, "14d": 1209600 };
const KINDS = { log: "Log", linear: "Linear" };
const NEWEST_MS = 10000, SETTLED_MS = 250, MOST_ROWS = 200, MOST_COLUMNS = 720, FINER = 0.5;
const $ = (id) => document.getElementById(id);

const isSpot = (text) => /^-?[0-9.]+,-?[0-9.]+,-?[0-9.e-]+,-?[0-9.e-]+$/.test(text);
const place = new PageLocation({
  symbol: { accept: isSymbol },
  market: { initial: "SPOT", accept: isMarket },
  span: { initial: "6h", accept: (text) => text in SPANS },
  scale: { initial: "log", accept: (text) => text in KINDS },
  // What is zoomed in on: begin, end, lowest and highest price. Without it, all there is.
  view: { accept: isSpot },
}, show);
const heat = new PaneState($("heat"));
const view = new HeatView($("map"), $("cross"), { onPoint: readOut, onMove: moved });
const choosers = {
  market: marketChooser($("market"), (market) => choose({ market, view: "" })),
  span: new Segments($("span"), Object.keys(SPANS).map((span) => [span, span]), (span) => choose({ span, view: "" })),
  scale: new Segments($("scale"), Object.entries(KINDS), (scale) => {
    place.set({ scale });
    repaint();
  }),
};
new SymbolChooser($("symbol-button"), { onChoose: (symbol) => choose({ symbol, view: "" }) });
let whole = null, detail = null, newest = null, scale = null, asked = 0, settled, watched = null, quote = null;

const stream = connect({
  onMessage: ({ type, body }) => {
    if (type === "depth_book" && `${BOOK_MARKETS[body.type]}:${body.symbol}` === watched) takeBook(body);
  },
  onReturn: () => load({ keep: true }),
  // A book that is not collected now is named beside the figures.
  onRefusal: ({ field, message }) => field === "books" || toast(message, "error"),
});

function choose(changes) {
  place.set(changes);
  show();
}

function show() {
  place.values.symbol ||= firstSymbol();
  const { symbol, market } = place.values, book = `${market}:${symbol}`;
  for (const [name, chooser] of Object.entries(choosers)) chooser.show(place.values[name]);
  $("symbol-name").textContent = symbol;
  document.title = `${symbol} heatmap · Depth · Ballast`;
  if (book !== watched) {
    stream.unsubscribe("book");
    watched = book;
    quote = null;
    $("book-state").textContent = "no book now";
    rememberSymbol(symbol);
    stream.subscribe("book", { channel: "depth", books: [book] });
  }
  load();
}

async function read(from, to) {
  const { symbol, market } = place.values;
  const query = `symbol=${symbol}&marketType=${market}&from=${Math.ceil(from)}&to=${Math.floor(to)}&rows=${MOST_ROWS}`;
  const answer = await request("GET", `analytics/heatmap?${query}`);
  return answer.times.length ? new Layer(answer) : null;
}

async function load({ keep = false } = {}) {
  // Two columns less than a whole span, which would lie across one more than an answer has and be made coarser.
  const ours = ++asked, span = SPANS[place.values.span], to = Date.now() / 1000;
  const from = to - span + 120 * Math.ceil(span / 60 / MOST_COLUMNS);
  heat.loading({ keep });
  try {
    const found = await read(from, to);
    if (ours !== asked) return;
    whole = found;
    detail = newest = null;
    if (!whole) {
      view.show([]);
      $("edge").textContent = "";
      heat.empty(`Nothing of ${place.values.symbol} on ${MARKETS[place.values.market]} is stored for this time. The map grows with each minute that is collected.`);
      return;
    }
    heat.ready();
    view.setQuote(quote);
    repaint({ keepWindow: keep });
    if (!keep && place.values.view) {
      const [from, end, low, high] = place.values.view.split(",").map(Number);
      view.setWindow({ from, to: end, low, high });
    }
  } catch (error) {
    if (ours === asked) heat.failed(error, () => load());
  }
}

// New colours for all layers: after new data of the whole, or another scale.
function repaint({ keepWindow = true } = {}) {
  if (!whole) return;
  scale = Scale.of(place.values.scale, whole);
  for (const layer of [whole, detail, newest]) layer?.paint(scale, whole.step);
  drawLegend();
  stack({ keepWindow });
}

function stack({ keepWindow = true } = {}) {
  const last = newest ?? whole, end = last.to - last.width;
  $("edge").textContent = `${whole.width > 60 ? `means of ${whole.width / 60} minutes` : "minutes"} to ${clock(end * 1000).slice(0, 5)}`;
  view.show([whole, detail, newest].filter(Boolean), { keepWindow });
}

// While the view moves nothing is asked for; when it rests, the part that is seen may be known finer.
function moved(window) {
  clearTimeout(settled);
  settled = setTimeout(() => settle(window), SETTLED_MS);
}

async function settle(window) {
  if (!whole || window !== view.window) return;
  const all = view.extent, { low, high } = whole.filled, isAll = window.from <= all.from && window.to >= all.to && window.low <= low && window.high >= high;
  const digits = Math.max(0, 4 - Math.floor(Math.log10(whole.step)));
  const spot = [window.from, window.to].map((each) => each.toFixed(0)).concat([window.low, window.high].map((each) => String(Number(each.toFixed(digits)))));
  place.set({ view: isAll ? "" : spot.join(",") }, { replace: true });
  const ours = asked, seen = window.to - window.from;
  if (whole.width <= 60 || seen > FINER * (whole.to - whole.from)) return;
  if (detail && detail.from <= window.from && detail.to >= Math.min(window.to, whole.to)) return;
  const found = await read(Math.max(whole.from, window.from - seen / 4), Math.min(whole.to, window.to + seen / 4)).catch(() => null);
  if (!found || ours !== asked || found.width >= whole.width) return;
  detail = found;
  detail.paint(scale, whole.step);
  stack();
}

// The live edge: the minutes since the whole answer, asked for again and again until they are many.
async function refresh() {
  if (document.hidden || !whole || heat.pane.dataset.state !== "ready") return;
  const ours = asked, before = view.extent.to, follows = view.follows();
  const found = await read(whole.to - whole.width, Date.now() / 1000).catch(() => null);
  if (!found || ours !== asked) return;
  if (found.columns * found.width > Math.max(1800, SPANS[place.values.span] / 10)) {
    load({ keep: true });
    return;
  }
  newest = found;
  newest.paint(scale, whole.step);
  stack();
  if (follows && view.extent.to > before) view.shift(view.extent.to - before);
}

const short = (price) => (price.includes(".") ? price.replace(/\.?0+$/, "") : price);

function takeBook({ bestBid, bestAsk, timestamp, wsStatus }) {
  quote = { bid: Number(bestBid), ask: Number(bestAsk), bidText: short(bestBid), askText: short(bestAsk), time: timestamp / 1000 };
  const tag = $("book-state");
  tag.textContent = { CONNECTED: "live book", POLLED: "book of each minute", STALE: "stale book" }[wsStatus];
  tag.dataset.level = wsStatus === "CONNECTED" ? "good" : "warn";
  if (whole) view.setQuote(quote);
}

const timeText = (seconds) => new Date(seconds * 1000).toLocaleString("en-GB", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });

function readOut(cell, spoken) {
  const text = !cell ? "Point at the map to read it." : `${timeText(cell.time)} · ${view.priceText(cell.price, cell.step)} – ${view.priceText(cell.price + cell.step, cell.step)} · ${volumeText(cell)}`;
  $("readout").textContent = text;
  $("readout").classList.toggle("muted", !cell);
  // Only what keys ask for is read aloud: a mouse would never let it finish.
  if (spoken) $("spoken").textContent = text;
}

function volumeText({ bid, ask, isSure }) {
  if (bid === null) return "nothing known here";
  // Of a side that is not known there is nothing to say: NaN is false too.
  const least = isSure ? "" : "≥ ", parts = [bid ? `bids ${least}${volume(bid)}` : "", ask ? `asks ${least}${volume(ask)}` : ""].filter(Boolean);
  return parts.length ? parts.join(", ") : isSure ? "nothing rests here" : "nothing was seen here";
}

const known = (size) => (Number.isNaN(size) ? "" : size);

function drawLegend() {
  const canvas = $("legend"), context = canvas.getContext("2d"), image = context.createImageData(256, 1);
  RAMP.forEach(([red, green, blue], index) => image.data.set([red, green, blue, 255], 4 * index));
  context.putImageData(image, 0, 0);
  $("legend-middle").textContent = `half-way ${volume(scale.volume(0.5).toPrecision(3))}`;
  $("legend-high").textContent = `≥ ${volume(scale.top.toPrecision(3))} coins a row of ${view.priceText(whole.step, whole.step)}`;
}

$("zoom-in").addEventListener("click", () => view.window && view.zoom(1.5, 1.5));
$("zoom-out").addEventListener("click", () => view.window && view.zoom(1 / 1.5, 1 / 1.5));
$("fit").addEventListener("click", () => view.fit());
// What is in sight, as the uppermost layer knows it.
$("export").addEventListener("click", () => {
  if (!whole) return;
  const { symbol, market } = place.values, { low, high } = view.window;
  const rows = view.layers.flatMap((layer, index) => [...view.columnsOf(index)].flatMap(({ time }) => {
    const found = Array.from({ length: layer.rows }, (_, row) => layer.at(time, layer.low + (row + 0.5) * layer.step));
    return found.filter((cell) => cell && (cell.bid || cell.ask) && cell.price + layer.step > low && cell.price < high).map(({ price, bid, ask }) => [
      new Date(time * 1000).toISOString(), view.priceText(price, layer.step), view.priceText(price + layer.step, layer.step), known(bid), known(ask),
    ]);
  }));
  rows.sort((a, b) => (a[0] < b[0] ? -1 : Number(a[0] > b[0])));
  download(`${symbol}-${market}-heatmap.csv`, "text/csv", csv(["timestamp", "priceFrom", "priceTo", "bidVolume", "askVolume"], rows));
});
shareButton($("share"));
setInterval(refresh, NEWEST_MS);
show();
