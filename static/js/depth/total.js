// TOTAL, TOTAL1, TOTAL2 and OTHERS: what rests on both sides at every depth, now and over time.
import { request } from "../api.js";
import { element, signed, signedVolume, tone, volume } from "../formats.js";
import { DEPTHS, MARKETS, Segments, depthChooser, isDepth, isMarket, marketChooser } from "./choosers.js";
import { HistoryChart, SPANS } from "./history_chart.js";
import { PageLocation } from "./location.js";
import { PaneState, connect, csv, download, shareButton } from "./page.js";

const GROUPS = {
  TOTAL: "all symbols",
  TOTAL1: "without BTC",
  TOTAL2: "without BTC and ETH",
  OTHERS: "the ten largest of the rest",
};
// What the history is made of: minutes as long as they are not too many, then means of hours and of days.
const INTERVALS = { "1h": "1m", "6h": "1m", "24h": "1h", "7d": "1h", "30d": "1d", "1y": "1d" };
const MINUTE = 60;
const $ = (id) => document.getElementById(id);

const place = new PageLocation({
  market: { initial: "SPOT", accept: isMarket },
  depth: { initial: "5", accept: isDepth },
  group: { initial: "TOTAL", accept: (text) => text in GROUPS },
  span: { initial: "6h", accept: (text) => text in SPANS },
}, () => show({ market: true }));
const now = new PaneState($("now")), history = new PaneState($("history"));
const chart = new HistoryChart($("chart"), $("legend"), {
  bid: { label: "Bid", color: "#2fbf8a", show: dollars },
  ask: { label: "Ask", color: "#ef5d6b", show: dollars },
  diff: { label: "Difference", color: ["#2fbf8a", "#ef5d6b"], kind: "columns", pane: 1, show: (value) => `${signedVolume(value)} $` },
});
const cards = new Map();
let asked = 0;

function dollars(value) {
  return `${volume(value)} $`;
}

function choose(changes) {
  place.set(changes);
  show({ market: "market" in changes });
}

const choosers = {
  market: marketChooser($("market"), (market) => choose({ market })),
  depth: depthChooser($("depth"), (depth) => choose({ depth })),
  group: new Segments($("group"), Object.entries(GROUPS).map(([name, words]) => [name, name, words]), (group) => choose({ group })),
  span: new Segments($("span"), Object.keys(SPANS).map((span) => [span, span]), (span) => choose({ span })),
};

const stream = connect({
  onMessage: (message) => {
    if (message.type === "depth_groups" && message.market === place.values.market) take(message.depth, message.body);
  },
  onReturn: () => load({ keep: true }),
});

function show({ market = false } = {}) {
  for (const [name, chooser] of Object.entries(choosers)) chooser.show(place.values[name]);
  if (market) watch();
  mark();
  load();
}

// All six depths of the market; the newest of each is told at once.
function watch() {
  const { market } = place.values;
  cards.clear();
  $("cards").replaceChildren(...Object.entries(GROUPS).map(([name, words]) => card(name, words)));
  now.loading();
  for (const depth of DEPTHS) {
    stream.unsubscribe(`groups ${depth}`);
    stream.subscribe(`groups ${depth}`, { channel: "depth_groups", market, depth });
  }
}

function card(name, words) {
  const made = element("section", "", "card-of-group live"), head = element("div", "", "sheet-head");
  const table = element("table", "", "depth-rows"), body = element("tbody"), names = element("tr");
  const count = element("span", "", "tag");
  head.append(element("h2", name), element("span", words, "muted"), count);
  for (const title of ["Depth", "Bid", "Ask", "Difference", "%"]) {
    const cell = element("th", title);
    cell.scope = "col";
    names.append(cell);
  }
  const rows = DEPTHS.map((depth) => {
    const row = element("tr"), first = element("th"), button = element("button", `${depth} %`, "quiet");
    first.scope = "row";
    button.type = "button";
    button.title = `Chart ${name} at ${depth} %`;
    button.addEventListener("click", () => choose({ group: name, depth }));
    first.append(button);
    row.append(first, ...["bid", "ask", "diff", "percentage"].map((kind) => element("td", "—", kind)));
    cards.set(`${name} ${depth}`, { row, button, count });
    return row;
  });
  const top = element("thead");
  top.append(names);
  body.append(...rows);
  table.append(element("caption", `${name}: resting dollars within each depth`, "visually-hidden"), top, body);
  made.append(head, table);
  return made;
}

function mark() {
  const chosen = `${place.values.group} ${place.values.depth}`;
  for (const [name, { row, button }] of cards) {
    row.toggleAttribute("data-chosen", name === chosen);
    button.setAttribute("aria-pressed", String(name === chosen));
  }
  // On a phone the cards lie side by side, one in sight.
  $("cards").scrollTo({ left: cards.get(chosen).row.closest("section").offsetLeft - $("cards").offsetLeft, behavior: "smooth" });
  $("history-title").textContent = `${place.values.group} within ${place.values.depth} %, ${MARKETS[place.values.market]}`;
}

function take(depth, { time, groups }) {
  if (!groups.some(({ symbols }) => symbols)) {
    now.empty(`No ${MARKETS[place.values.market]} book is collected right now. Staff choose what is collected on the collector page.`);
    return;
  }
  now.ready();
  for (const group of groups) fill(cards.get(`${group.name} ${depth}`), group);
  $("as-of").textContent = `dollars that rest within each depth, as of ${new Date(time * 1000).toLocaleTimeString("en-GB")}`;
  const chosen = groups.find(({ name }) => name === place.values.group);
  if (depth === place.values.depth && INTERVALS[place.values.span] === "1m" && history.pane.dataset.state === "ready" && chosen.symbols) {
    chart.update(point({ time: time - (time % MINUTE), groups }));
  }
}

function fill({ row, count }, { symbols, bidUsd, askUsd, diffUsd, percentage, covered }) {
  const [, bid, ask, diff, percent] = row.children;
  count.textContent = symbols === 1 ? "1 symbol" : `${symbols} symbols`;
  bid.textContent = (covered ? "" : "≥ ") + volume(bidUsd);
  ask.textContent = (covered ? "" : "≥ ") + volume(askUsd);
  row.title = covered ? "" : "Some of these books are not known as far as this depth: more may rest there";
  diff.textContent = signedVolume(diffUsd);
  percent.textContent = signed(percentage, 1);
  diff.className = `diff ${tone(diffUsd)}`;
  percent.className = `percentage ${tone(diffUsd)}`;
  row.style.setProperty("--share", Math.abs(Number(percentage)) / 100);
  row.dataset.side = tone(diffUsd);
}

function point({ time, groups }) {
  const { bidUsd, askUsd, diffUsd, percentage } = groups.find(({ name }) => name === place.values.group);
  return { time, bid: Number(bidUsd), ask: Number(askUsd), diff: Number(diffUsd), percentage };
}

async function load({ keep = false } = {}) {
  const ours = ++asked, { market, depth, span } = place.values;
  history.loading({ keep });
  const to = Math.floor(Date.now() / 1000), from = to - SPANS[span];
  try {
    const answer = await request("GET", `analytics/groups/history?marketType=${market}&depth=${depth}&interval=${INTERVALS[span]}&from=${from}&to=${to}`);
    if (ours !== asked) return;
    const points = answer.filter(({ groups }) => groups.some(({ name, symbols }) => name === place.values.group && symbols)).map(point);
    if (!points.length) history.empty(`Nothing of ${place.values.group} is stored in this time. The first minutes come a minute after collecting began.`);
    else {
      chart.setData(points);
      history.ready();
    }
  } catch (error) {
    if (ours === asked) history.failed(error, () => load());
  }
}

$("export").addEventListener("click", () => {
  const { market, group, depth, span } = place.values;
  const rows = chart.points.map(({ time, bid, ask, diff, percentage }) => [new Date(time * 1000).toISOString(), bid, ask, diff, percentage]);
  download(`${group}-${market}-${depth}-${span}.csv`, "text/csv", csv(["timestamp", "bidUsd", "askUsd", "diffUsd", "percentage"], rows));
});
shareButton($("share"));
show({ market: true });
