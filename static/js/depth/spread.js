// Spot against futures: what rests on both markets at one depth, and how much more on futures, in percent of spot.
import { request } from "../api.js";
import { ago, signed, tone, volume } from "../formats.js";
import { BOOK_MARKETS, MARKETS, Segments, SymbolChooser, depthChooser, firstSymbol, isDepth, isSymbol, rememberSymbol } from "./choosers.js";
import { HistoryChart, SPANS } from "./history_chart.js";
import { PageLocation } from "./location.js";
import { PaneState, connect, csv, download, shareButton, toast } from "./page.js";

const SIDES = { both: "Both sides", bid: "Bids", ask: "Asks" };
const INTERVALS = { "1h": "1m", "6h": "1m", "24h": "1m", "7d": "1m", "30d": "1h", "1y": "1d" };
// A row of the history as a point: of both sides their mean, as everywhere.
const POINTS = {
  bid: ({ time, spotBid, futuresBid, bidPercent }) => ({ time, spot: Number(spotBid), futures: Number(futuresBid), percent: orNull(bidPercent) }),
  ask: ({ time, spotAsk, futuresAsk, askPercent }) => ({ time, spot: Number(spotAsk), futures: Number(futuresAsk), percent: orNull(askPercent) }),
  both: ({ time, spotBid, spotAsk, futuresBid, futuresAsk, percent }) => ({ time, spot: (Number(spotBid) + Number(spotAsk)) / 2, futures: (Number(futuresBid) + Number(futuresAsk)) / 2, percent: orNull(percent) }),
};
const orNull = (text) => (text === null ? null : Number(text));
const COMPARED = ["SPOT", "FUTURES"], MINUTE_MS = 60000;
const $ = (id) => document.getElementById(id);

const place = new PageLocation({
  symbol: { accept: isSymbol },
  depth: { initial: "5", accept: isDepth },
  side: { initial: "both", accept: (text) => text in SIDES },
  span: { initial: "6h", accept: (text) => text in SPANS },
}, show);
const history = new PaneState($("history"));
const chart = new HistoryChart($("chart"), $("legend"), {
  spot: { label: "Spot", color: "#6fa8ff", show: volume },
  futures: { label: "Futures", color: "#e8b04a", show: volume },
  percent: { label: "Futures over spot", color: ["#2fbf8a", "#ef5d6b"], kind: "baseline", pane: 1, show: (value) => `${signed(value, 2)} %` },
});
const choosers = {
  depth: depthChooser($("depth"), (depth) => choose({ depth })),
  side: new Segments($("side"), Object.entries(SIDES), (side) => choose({ side })),
  span: new Segments($("span"), Object.keys(SPANS).map((span) => [span, span]), (span) => choose({ span })),
};
new SymbolChooser($("symbol-button"), { onChoose: (symbol) => choose({ symbol }) });
const books = new Map();
let watched = null, asked = 0;

const stream = connect({
  onMessage: ({ type, body }) => {
    if (type !== "depth_book" || body.symbol !== watched || !COMPARED.includes(BOOK_MARKETS[body.type])) return;
    books.set(BOOK_MARKETS[body.type], body);
    showNow();
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
  const { symbol, depth, side } = place.values;
  for (const [name, chooser] of Object.entries(choosers)) chooser.show(place.values[name]);
  $("symbol-name").textContent = symbol;
  document.title = `${symbol} spot / futures · Depth · Ballast`;
  $("history-title").textContent = `${symbol}: ${SIDES[side].toLowerCase()} within ${depth} %`;
  if (symbol !== watched) {
    stream.unsubscribe("books");
    books.clear();
    watched = symbol;
    rememberSymbol(symbol);
    stream.subscribe("books", { channel: "depth", books: COMPARED.map((market) => `${market}:${symbol}`) });
  }
  showNow();
  load();
}

// The value of a side in coins: of both, their mean, as in the history.
function volumeOf(book, side) {
  const row = book.depthVolumes.find(({ depth }) => depth === place.values.depth);
  const bid = Number(row.bidVolume), ask = Number(row.askVolume);
  const covered = { bid: row.bidCovered, ask: row.askCovered, both: row.bidCovered && row.askCovered }[side];
  return { value: { bid, ask, both: (bid + ask) / 2 }[side], covered };
}

const percent = (spot, futures) => (spot ? ((futures - spot) / spot) * 100 : null);

function showNow() {
  for (const side of Object.keys(SIDES)) {
    const found = Object.fromEntries(COMPARED.map((market) => [market, books.has(market) ? volumeOf(books.get(market), side) : null]));
    for (const market of COMPARED) {
      const cell = $(`${side}-${market.toLowerCase()}`), each = found[market];
      cell.textContent = each ? (each.covered ? "" : "≥ ") + volume(each.value) : "—";
      cell.title = each && !each.covered ? "This book is not known as far as this depth: more may rest there" : "";
    }
    const more = found.SPOT && found.FUTURES ? percent(found.SPOT.value, found.FUTURES.value) : null;
    const cell = $(`${side}-percent`);
    cell.textContent = more === null ? "—" : `${signed(more, 2)} %`;
    cell.className = `number ${tone(more)}`;
    cell.parentElement.toggleAttribute("data-chosen", side === place.values.side);
  }
  $("books-state").textContent = COMPARED.map((market) => `${MARKETS[market]}: ${bookState(books.get(market))}`).join(" · ");
  addPoint();
}

function bookState(book) {
  if (!book) return "no book now";
  const words = { CONNECTED: "live", POLLED: "each minute", STALE: "stale" }[book.wsStatus];
  return `${words}, ${ago(Date.now() - book.timestamp)}`;
}

// The minute that goes on: only while minutes are shown, not hours or days.
function addPoint() {
  const { side, span } = place.values;
  if (INTERVALS[span] !== "1m" || history.pane.dataset.state !== "ready" || !COMPARED.every((market) => books.has(market))) return;
  const [spot, futures] = COMPARED.map((market) => volumeOf(books.get(market), side).value);
  const moment = Math.max(...COMPARED.map((market) => books.get(market).timestamp));
  chart.update({ time: Math.floor(moment / MINUTE_MS) * 60, spot, futures, percent: percent(spot, futures) });
}

async function load({ keep = false } = {}) {
  const ours = ++asked, { symbol, depth, side, span } = place.values;
  history.loading({ keep });
  const to = Math.floor(Date.now() / 1000), from = to - SPANS[span];
  try {
    const { results } = await request("GET", `analytics/spread?symbol=${symbol}&depth=${depth}&interval=${INTERVALS[span]}&from=${from}&to=${to}`);
    if (ours !== asked) return;
    if (!results.length) history.empty(`Nothing of ${symbol} is stored of both markets in this time. See the collector page for what is collected.`);
    else {
      chart.setData(results.map(POINTS[side]));
      history.ready();
      addPoint();
    }
  } catch (error) {
    if (ours === asked) history.failed(error, () => load());
  }
}

$("export").addEventListener("click", () => {
  const { symbol, depth, side, span } = place.values;
  const rows = chart.points.map(({ time, spot, futures, percent }) => [new Date(time * 1000).toISOString(), spot, futures, percent]);
  download(`${symbol}-spot-futures-${side}-${depth}-${span}.csv`, "text/csv", csv(["timestamp", "spot", "futures", "futuresOverSpotPercent"], rows));
});
shareButton($("share"));
setInterval(() => books.size && showNow(), 5000);
show();
