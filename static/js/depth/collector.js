// What is collected and how it goes; staff start and stop it and choose its symbols. Others read.
import { request } from "../api.js";
import { ago, element } from "../formats.js";
import { MARKETS, Segments } from "./choosers.js";
import { PageLocation } from "./location.js";
import { PaneState, boot, connect, toast } from "./page.js";

const ASK_MS = 4000;
const SOURCES = { stream: "stream, every change", rest: "REST, once a minute" };
const $ = (id) => document.getElementById(id);
const place = new PageLocation({ search: {}, source: { accept: (text) => text in SOURCES } }, () => {
  $("search").value = place.values.search;
  showSymbols();
});
const figures = new PaneState($("figures")), symbols = new PaneState($("symbols"));
const source = new Segments($("source"), [["", "All"], ["stream", "Stream"], ["rest", "REST"]], (chosen) => {
  place.set({ source: chosen });
  showSymbols();
});
const number = (value) => (value ?? 0).toLocaleString("en-US");
const when = (seconds) => (seconds ? ago(Date.now() - 1000 * seconds) : "never");
let status = null, timer;

connect({ onMessage: () => {}, onReturn: ask });

async function ask() {
  clearTimeout(timer);
  try {
    status = await request("GET", "collector");
    show();
  } catch (error) {
    $("state").textContent = `The state is not known: ${error.message}`;
    $("state").dataset.status = "down";
    if (!status) {
      figures.failed(error, ask);
      symbols.failed(error, ask);
    }
  }
  timer = setTimeout(ask, document.hidden ? 5 * ASK_MS : ASK_MS);
}

// What shall be and what is are two things: the switch, and the process that obeys it.
function stateOf({ running, process, detail }) {
  if (running && process === "alive") return detail.running === false ? ["starting", "Starting: the collector has been told to begin"] : ["ok", "Collecting"];
  if (running) return ["down", "Switched on, but no collector process is running: nothing is collected"];
  if (process === "alive") return ["degraded", "Stopped: the process waits to be started"];
  return ["degraded", "Stopped, and no collector process is running"];
}

function show() {
  const { running, detail, reported, hotReads } = status, [level, words] = stateOf(status);
  $("state").textContent = words;
  $("state").dataset.status = level;
  $("reported").textContent = reported ? `Process ${status.process}, last heard ${ago(Date.now() - Date.parse(reported))}` : "No process has ever reported";
  if (boot.staff) {
    $("switch").hidden = false;
    $("switch").textContent = running ? "Stop collecting …" : "Start collecting";
  }
  if (reported) {
    figures.ready();
    showFigures(detail, hotReads);
  } else figures.empty("The collector has not reported yet. `manage.py collect_depth` starts it; a supervised deployment does so by itself.");
  showSymbols();
}

function showFigures({ requests = {}, last_collection, streams = {}, rest = {}, engines = {}, writer = {}, heat_writer = {}, snapshots }, hotReads) {
  const reads = hotReads ? hotReads.hits + hotReads.misses : 0;
  const facts = {
    "Requests": `${number(requests.requests)} in all, ${number(requests.ok)} ok, ${number(requests.failed)} failed`,
    "Last collection": when(last_collection),
    "Streams": Object.entries(streams).map(([market, { connected, books }]) => `${MARKETS[market]} ${connected ? "connected" : "not connected"}, ${liveBooks(books)} live`).join(" · ") || "none",
    "Rows made": number(snapshots),
    "Books of engines": number(engines.books),
    "Journal": journalText(writer),
    "Journal of heatmaps": journalText(heat_writer),
    "Rows stored": `${number(writer.stored)}${writer.dropped ? `, ${number(writer.dropped)} lost` : ""}`,
    "Read from Valkey": reads ? `${((100 * hotReads.hits) / reads).toFixed(1)} % of ${number(reads)} reads` : "nothing read yet",
  };
  $("summary").replaceChildren(...Object.entries(facts).map(([name, text]) => {
    const fact = element("div");
    fact.append(element("dt", name), element("dd", text, name.startsWith("Journal") && text.includes("left alone") ? "warn" : ""));
    return fact;
  }));
  const markets = [...new Set([...Object.keys(rest), ...Object.keys(streams)])];
  $("markets").replaceChildren(...markets.map((market) => {
    const polled = rest[market] ?? {}, streamed = streams[market] ?? {}, row = element("tr");
    row.dataset.status = polled.failed && polled.failed === polled.requests ? "down" : streamed.connected === false && hasBooks(streamed.books) ? "degraded" : "ok";
    const texts = [number(polled.requests), number(polled.ok), number(polled.failed), number(polled.symbols), when(polled.last_collection), number(polled.used_weight), streamed.connected ? "connected" : "not connected", liveBooks(streamed.books), number(streamed.gaps)];
    const name = element("th", MARKETS[market] ?? market);
    name.scope = "row";
    row.append(name, ...texts.map((text, index) => element("td", String(text), index < 4 || index === 5 || index === 8 ? "number" : "")));
    return row;
  }));
  const failing = Object.entries(rest).flatMap(([market, each]) => failures(each).map(([symbol, reason]) => `${MARKETS[market]} ${symbol}: ${reason}`));
  $("trouble").hidden = !failing.length;
  $("failing").replaceChildren(...failing.map((text) => element("li", text)));
}

function journalText({ waiting, journal_bytes = 0, breaker }) {
  return `${number(waiting)} rows wait, ${number(Math.round(journal_bytes / 1024))} KiB${breaker === "open" ? ", the database is left alone for now" : ""}`;
}

const hasBooks = (books) => Object.keys(books ?? {}).length > 0;

function liveBooks(books = {}) {
  const states = Object.values(books);
  return `${states.filter((state) => state === "LIVE").length} of ${states.length}`;
}

// What only the other market lists is nobody's failure.
const failures = ({ failing = {}, unlisted = [] }) => Object.entries(failing).filter(([symbol]) => !unlisted.includes(symbol));

// Why a symbol is not collected, in each market that says so.
function troubleOf(symbol) {
  const { rest = {}, streams = {} } = status.detail;
  return Object.keys(MARKETS).flatMap((market) => {
    const polled = rest[market] ?? {}, streamed = streams[market] ?? {}, state = streamed.books?.[symbol] ?? "LIVE";
    if ([polled, streamed].some(({ unlisted = [] }) => unlisted.includes(symbol))) return [`${MARKETS[market]} does not list it`];
    if (polled.failing?.[symbol]) return [`${MARKETS[market]}: ${polled.failing[symbol]}`];
    return state === "LIVE" ? [] : [`${MARKETS[market]}: ${state.toLowerCase()}`];
  }).join("; ");
}

function showSymbols() {
  source.show(place.values.source);
  if (!status) return;
  const wanted = place.values.search.trim().toUpperCase(), all = status.symbols;
  const found = all.filter((each) => each.symbol.includes(wanted) && (!place.values.source || each.source === place.values.source));
  $("found").textContent = found.length === all.length ? `${all.length} collected` : `${found.length} of ${all.length}`;
  symbols.ready();
  if (!found.length) {
    const cell = element("td", all.length ? `No collected symbol has ${wanted || "this source"}.` : boot.staff ? "No symbols are collected yet: add the first ones above." : "No symbols are collected yet. Staff choose them.", "note");
    cell.colSpan = 4;
    const row = element("tr");
    row.append(cell);
    $("rows").replaceChildren(row);
    $("rows").dataset.shown = "";
    return;
  }
  // Somebody may be about to press a button: rows that stay the same are not made anew.
  const key = JSON.stringify(found.map(({ symbol, source }) => [symbol, source, troubleOf(symbol)]));
  if ($("rows").dataset.shown === key) return;
  $("rows").dataset.shown = key;
  $("rows").replaceChildren(...found.map(symbolRow));
}

function symbolRow({ symbol, source }) {
  const row = element("tr"), name = element("th"), link = element("a", symbol), action = element("td", "", "actions");
  name.scope = "row";
  link.href = `/depth/?symbol=${symbol}`;
  name.append(link);
  if (boot.staff) {
    const other = source === "rest" ? "stream" : "rest";
    action.append(
      button(`By ${other === "rest" ? "REST" : "stream"}`, `Collect ${symbol} by ${other}`, () => change(() => request("POST", "collector/symbols", { symbols: [symbol], source: other }), `${symbol} is collected by ${SOURCES[other]} now.`)),
      button("Remove", `Remove ${symbol}`, () => confirm({
        title: `Remove ${symbol}?`,
        words: `${symbol} is collected no more, on no market. Its history stays. Times when nothing was collected stay empty for ever.`,
        yes: "Remove",
        act: () => request("DELETE", "collector/symbols", { symbols: [symbol] }),
        done: `${symbol} is collected no more; its history stays.`,
      })),
    );
  }
  row.append(name, element("td", SOURCES[source] ?? source), element("td", troubleOf(symbol), "warn trouble-cell"), action);
  return row;
}

function button(text, label, onClick) {
  const made = element("button", text, "quiet");
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", onClick);
  return made;
}

// What staff do.

function inWords(error) {
  const fields = error.fields.map(({ field, rule }) => `${field}: ${rule}`).join("; ");
  if (error.status === 0) return "The server does not answer. Whether it was done is seen here as soon as it answers.";
  if (error.status === 403) return "You may not do this any more: it is for staff.";
  return fields ? `${error.message}: ${fields}` : error.message;
}

async function change(act, done, onError = (text) => toast(text, "error")) {
  try {
    await act();
    toast(done, "good");
    return true;
  } catch (error) {
    onError(inWords(error));
    return false;
  } finally {
    ask();
  }
}

let confirmed = null;

function confirm(question) {
  confirmed = question;
  $("confirm-title").textContent = question.title;
  $("confirm-words").textContent = question.words;
  $("confirm-yes").textContent = question.yes;
  $("confirm-error").hidden = true;
  $("confirm").showModal();
  $("confirm-no").focus();
}

function listenStaff() {
  $("confirm").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("confirm-yes").disabled = true;
    const well = await change(confirmed.act, confirmed.done, (text) => {
      $("confirm-error").textContent = text;
      $("confirm-error").hidden = false;
    });
    $("confirm-yes").disabled = false;
    if (well) $("confirm").close();
  });
  $("confirm-no").addEventListener("click", () => $("confirm").close());
  $("switch").addEventListener("click", () => {
    if (!status.running) {
      change(() => request("POST", "collector"), "Collecting is switched on.");
      return;
    }
    confirm({
      title: "Stop collecting?",
      words: `None of the ${status.symbols.length} symbols is collected while it is stopped. What is stored stays; minutes in which nothing is collected stay empty for ever.`,
      yes: "Stop collecting",
      act: () => request("DELETE", "collector"),
      done: "Collecting is switched off.",
    });
  });
  $("add").addEventListener("submit", async (event) => {
    event.preventDefault();
    const names = $("add-names").value.toUpperCase().split(/[\s,;]+/).filter(Boolean), from = $("add-source").value;
    const wrong = names.filter((name) => !/^[A-Z0-9]{5,20}$/.test(name));
    const refuse = (text) => {
      $("add-error").textContent = text;
      $("add-error").hidden = !text;
      $("add-names").setAttribute("aria-invalid", String(Boolean(text)));
    };
    refuse("");
    if (!names.length) refuse("Name the symbols to add, like BTCUSDT.");
    else if (wrong.length) refuse(`${wrong.join(", ")}: not a symbol; expected 5 to 20 letters and digits, like BTCUSDT.`);
    else if (await change(() => request("POST", "collector/symbols", { symbols: names, source: from }), `${names.join(", ")}: collected by ${SOURCES[from]}.`, refuse)) $("add-names").value = "";
  });
}

$("search").value = place.values.search;
$("search").addEventListener("input", () => {
  place.set({ search: $("search").value }, { replace: true });
  showSymbols();
});
if (boot.staff) listenStaff();
figures.loading();
symbols.loading();
ask();
