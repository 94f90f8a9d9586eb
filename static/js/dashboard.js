// The dashboard: holds what is known, listens to the stream, and lets each part redraw at most once a frame.
import { AmendDialog } from "./amend.js";
import { request } from "./api.js";
import { Chart } from "./chart.js";
import { EquityChart } from "./equity.js";
import { compact, decimals, element, fixed, money, signed, tone } from "./formats.js";
import { Flow } from "./flow.js";
import { KillSwitch } from "./kill.js";
import { Ladder } from "./ladder.js";
import { ModeSwitch, named } from "./mode.js";
import { Stream } from "./stream.js";
import { changeText, fundingText, Switcher } from "./switcher.js";
import { isLive, Table, TABS } from "./tables.js";
import { Tape } from "./tape.js";
import { Ticket } from "./ticket.js";

const STALE_MS = 5000, ENGINE_MS = 10000, MOST_ROWS = 300;
const boot = JSON.parse(document.getElementById("boot").textContent);
const $ = (id) => document.getElementById(id);
const instruments = new Map(boot.instruments.map((each) => [each.symbol, each]));
const state = { symbol: null, interval: "1", account: null, tab: "positions", frame: null, frameAt: 0, connection: "connecting", marks: new Map(), orders: new Map(), positions: new Map(), fills: new Map(), signals: new Map(), strategies: new Map(), differences: new Map(), equity: [] };
const remembered = (key, known) => (known(localStorage.getItem(key)) ? localStorage.getItem(key) : null);

// Drawing: whoever changes something says what is dirty; one animation frame draws it all.
const dirty = new Set();
function redraw(...parts) {
  if (!dirty.size) requestAnimationFrame(draw);
  for (const part of parts) dirty.add(part);
}
function draw() {
  const parts = new Set(dirty);
  dirty.clear();
  if (parts.has("market") && state.frame) drawMarket();
  if (parts.has("account")) drawAccount();
  if (parts.has("table") || (parts.has("market") && state.tab === "positions")) drawTable();
  if (parts.has("chart")) drawChart();
}

const digits = (symbol) => decimals(instruments.get(symbol)?.tick_size ?? "0.01");
const accountRow = () => boot.accounts.find(({ id }) => id === state.account);

function toast(text, level = "info") {
  const box = element("div", text, "toast");
  box.dataset.level = level;
  $("toasts").append(box);
  setTimeout(() => box.remove(), level === "error" ? 9000 : 4500);
}

// Parts of the page.
const table = new Table($("panel"));
const tape = new Tape($("tape"));
const flow = new Flow($("flow"));
const ticket = new Ticket($("ticket"), {
  toast,
  account: accountRow,
  onPlaced: (order) => {
    put("orders", order);
    toast(`${order.side} ${Number(order.quantity)} ${order.symbol}: recorded, the engine sends it`, "good");
  },
});
const ladder = new Ladder($("ladder"), (price) => {
  ticket.setPrice(fixed(price, digits(state.symbol)));
  if (matchMedia("(max-width: 860px)").matches) show("trade");
});
const chart = new Chart($("chart"), $("chart-note"));
const switcher = new Switcher($("symbols"), $("symbol-button"), { instruments: boot.instruments, onChoose: chooseSymbol });
const killSwitch = new KillSwitch({ account: accountRow, operator: boot.operator, toast, onChange: readAccounts });
const modeSwitch = new ModeSwitch({
  account: accountRow,
  toast,
  onChange(changed) {
    Object.assign(accountRow(), changed);
    redraw("account");
  },
});
const amendDialog = new AmendDialog({ account: accountRow, digits, toast });
let equityChart = null;

// What tables may ask of the page.
const view = {
  digits,
  marks: state.marks,
  manages: () => accountRow()?.role === "manager",
  trades: () => ["trader", "manager"].includes(accountRow()?.role),
  async cancelOrder(order) {
    await attempt(request("DELETE", `trading/order/${order.id}`), "cancel asked for");
  },
  amendOrder: (order) => amendDialog.open(order),
  async closePosition(position) {
    if (accountRow().badge === "LIVE" && !confirm(`LIVE: close ${position.symbol}?`)) return;
    const side = position.side === "Buy" ? "Sell" : "Buy";
    const body = { account: state.account, symbol: position.symbol, side, order_type: "Market", quantity: position.quantity, reduce_only: true, reason: "closed by hand", client_order_id: `close-${position.id}-${Date.now()}` };
    await attempt(request("POST", "trading/order", body), `closing ${position.symbol}`);
  },
  async toggleStrategy(strategy) {
    const changed = await attempt(request("POST", `strategies/${strategy.id}/${strategy.enabled ? "disable" : "enable"}`), `${strategy.name} ${strategy.enabled ? "disabled" : "enabled"}`);
    if (changed) put("strategies", changed);
  },
};

async function attempt(work, done) {
  try {
    const result = await work;
    toast(done, "good");
    return result;
  } catch (error) {
    toast([error.message, ...error.fields.map(({ field, rule }) => `${field}: ${rule}`)].join(" — "), "error");
    return null;
  }
}

// Drawing of each part.
function text(id, value, classes = null) {
  const target = $(id);
  if (target.textContent !== value) target.textContent = value;
  if (classes !== null) target.className = classes;
}

function drawMarket() {
  const frame = state.frame, precision = digits(state.symbol);
  text("last", fixed(frame.last, precision), `big ${tone(frame.last - (state.lastPrice ?? frame.last))}`);
  state.lastPrice = frame.last;
  text("change", changeText(frame.change_24h), tone(frame.change_24h));
  text("mark", fixed(frame.mark, precision));
  text("funding", fundingText(frame.funding_rate));
  text("volume", frame.turnover_24h ? `${compact(frame.turnover_24h)} USDT` : "—");
  const own = new Set([...state.orders.values()].filter((order) => isLive(order) && order.symbol === state.symbol && order.price).map((order) => fixed(order.price, precision)));
  ladder.render(frame, frame.last, own);
  text("book-state", frame.state === "LIVE" ? "" : `book ${frame.state.toLowerCase()}: ${frame.state_reason}`);
  document.title = `${fixed(frame.last, precision)} ${state.symbol} · Ballast`;
}

function drawAccount() {
  const account = accountRow();
  text("environment", account?.badge ?? "NONE");
  $("environment").dataset.badge = account?.badge ?? "NONE";
  $("environment").title = account?.mode === "paper" ? `on paper; its real venue is ${account.venue} (${account.environment})` : "";
  for (const option of $("account").options) {
    const row = boot.accounts.find(({ id }) => id === Number(option.value));
    if (row && option.textContent !== named(row)) option.textContent = named(row);
  }
  modeSwitch.render();
  ticket.refresh();
  text("equity", account?.equity ? money(account.equity) : "—");
  text("day-pnl", account?.day_pnl ? signed(account.day_pnl) : "—", tone(account?.day_pnl));
  const halted = account?.trading_state === "halted" ? `${named(account)} is halted: ${account.halt_reason || "no reason was given"}. Only orders that reduce a position pass.` : "";
  const trouble = account?.reconciliation?.trouble ? `${named(account)} does not trade: it cannot be reconciled with the exchange: ${account.reconciliation.trouble}` : "";
  $("banner").hidden = !halted && !trouble;
  text("banner", halted || trouble);
  killSwitch.render();
}

// A switch of the platform changes accounts that this page does not watch.
async function readAccounts() {
  for (const row of (await request("GET", "accounts?limit=200")).results) {
    const known = boot.accounts.find(({ id }) => id === row.id);
    if (known) Object.assign(known, row);
  }
  redraw("account");
}

function newestFirst(rows, time) {
  return [...rows.values()].sort((a, b) => Date.parse(b[time]) - Date.parse(a[time])).slice(0, MOST_ROWS);
}

function rowsOf(tab) {
  const orders = newestFirst(state.orders, "created_at");
  if (tab === "orders") return orders.filter(isLive);
  if (tab === "history") return orders.filter((order) => !isLive(order));
  if (tab === "positions") return newestFirst(state.positions, "opened_at");
  return newestFirst(state[tab], { fills: "executed_at", signals: "signalled_at", strategies: "updated_at", differences: "last_seen_at" }[tab]);
}

function drawTable() {
  drawTabs();
  $("cancel-all").hidden = state.tab !== "orders" || !view.trades() || !rowsOf("orders").length;
  $("reconcile").hidden = state.tab !== "differences" || !view.trades();
  if (state.tab === "equity") {
    if (!equityChart) {
      const box = element("div", "", "equity-chart");
      $("panel").replaceChildren(box);
      equityChart = new EquityChart(box);
    }
    equityChart.show(state.equity);
    return;
  }
  equityChart?.remove();
  equityChart = null;
  if (!state.account) $("panel").replaceChildren(element("p", "You have no account yet. An administrator can give you access to one.", "note"));
  else if (state.loading) $("panel").replaceChildren(element("p", "Loading the account …", "note"));
  else table.render(TABS[state.tab], rowsOf(state.tab), view);
}

function drawTabs() {
  const counts = { positions: state.positions.size, orders: rowsOf("orders").length, differences: [...state.differences.values()].filter((row) => !row.resolved_at).length };
  for (const button of $("tabs").children) {
    const name = button.dataset.tab;
    button.setAttribute("aria-selected", name === state.tab);
    const label = TABS[name].title + (counts[name] ? ` ${counts[name]}` : "");
    if (button.textContent !== label) button.textContent = label;
  }
}

function drawChart() {
  const symbol = state.symbol, lines = [];
  for (const position of state.positions.values()) {
    if (position.symbol !== symbol) continue;
    lines.push({ price: position.entry_price, title: `${position.side === "Buy" ? "long" : "short"} ${Number(position.quantity)}`, color: "#e8b04a", style: 0 });
    if (position.take_profit) lines.push({ price: position.take_profit, title: "TP", color: "#2fbf8a", style: 2 });
    if (position.stop_loss) lines.push({ price: position.stop_loss, title: "SL", color: "#ef5d6b", style: 2 });
  }
  for (const order of state.orders.values()) {
    if (order.symbol === symbol && isLive(order) && order.price) lines.push({ price: order.price, title: `${order.side} ${Number(order.quantity)}`, color: "#6fa8ff", style: 3 });
  }
  chart.setLines(lines);
  chart.setFills([...state.fills.values()].filter((fill) => fill.symbol === symbol));
}

// Choosing.
function chooseSymbol(symbol) {
  if (symbol === state.symbol) return;
  if (state.symbol) stream.unsubscribe("market");
  state.symbol = symbol;
  state.frame = null;
  localStorage.setItem("symbol", symbol);
  const instrument = instruments.get(symbol);
  text("symbol-name", symbol);
  ladder.setInstrument(decimals(instrument.tick_size), decimals(instrument.lot_size));
  tape.setInstrument(decimals(instrument.tick_size), decimals(instrument.lot_size));
  flow.setInstrument(decimals(instrument.tick_size));
  ticket.setInstrument(instrument);
  stream.subscribe("market", { channel: "market", symbols: [symbol] });
  chart.load(symbol, state.interval, digits(symbol));
  redraw("chart", "table");
}

function chooseInterval(interval) {
  state.interval = interval;
  localStorage.setItem("interval", interval);
  for (const button of $("intervals").children) button.setAttribute("aria-pressed", button.dataset.interval === interval);
  if (state.symbol) chart.load(state.symbol, interval, digits(state.symbol));
}

function chooseAccount(id) {
  stream.unsubscribe("account");
  state.account = id;
  state.loading = Boolean(id);
  for (const rows of [state.orders, state.positions, state.fills, state.signals, state.strategies, state.differences]) rows.clear();
  state.equity = [];
  if (id) {
    localStorage.setItem("account", String(id));
    stream.subscribe("account", { channel: "account", account: id });
  }
  redraw("account", "table", "chart");
}

function show(viewName) {
  document.body.dataset.view = viewName;
  for (const button of document.querySelectorAll(".phone-tabs button")) button.setAttribute("aria-pressed", button.dataset.view === viewName);
  showTab();
}

// On a phone the tabs are wider than the screen.
function showTab() {
  $("tabs").querySelector(`[data-tab="${state.tab}"]`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

// Hearing.
function put(kind, row) {
  state[kind].set(row.id, row);
  redraw("table", "chart");
}

const HEARD = {
  market_data({ data }) {
    if (data.mark) state.marks.set(data.symbol, data.mark);
    if (data.symbol !== state.symbol) return;
    state.frame = data;
    state.frameAt = Date.now();
    tape.add(data.trades);
    // Frames between news do not repeat them.
    if (data.detections) flow.render(data.detections, data.state === "LIVE");
    chart.update(data.candles);
    ticket.setLast(data.last);
    redraw("market");
  },
  market_summary({ data }) {
    switcher.setSummary(data);
    for (const row of data) if (row.symbol !== state.symbol && row.last) state.marks.set(row.symbol, row.last);
    if (state.tab === "positions") redraw("table");
  },
  snapshot({ data }) {
    if (data.account.id !== state.account) return;
    Object.assign(accountRow(), data.account);
    for (const kind of ["orders", "positions", "fills", "signals", "strategies", "differences"]) state[kind] = new Map(data[kind].map((row) => [row.id, row]));
    state.equity = data.equity;
    state.loading = false;
    redraw("account", "table", "chart");
  },
  order_update({ data }) {
    const before = state.orders.get(data.id);
    put("orders", data);
    if (["rejected", "denied", "failed", "expired"].includes(data.state) && before?.state !== data.state) toast(`${data.symbol} order ${data.state}: ${data.refusal}`, "error");
  },
  fill({ data }) {
    put("fills", data);
    toast(`${data.side} ${Number(data.quantity)} ${data.symbol} at ${Number(data.price)}`, "good");
  },
  position_update({ data }) {
    if (data.state === "closed") state.positions.delete(data.id);
    else state.positions.set(data.id, data);
    redraw("table", "chart");
  },
  signal: ({ data }) => put("signals", data),
  strategy: ({ data }) => put("strategies", data),
  difference: ({ data }) => put("differences", data),
  equity({ data, timestamp }) {
    if (data.id !== state.account) return;
    Object.assign(accountRow(), data);
    state.equity.push({ taken_at: timestamp, equity: data.equity });
    if (state.equity.length > 2000) state.equity.splice(0, 500);
    redraw("account", ...(state.tab === "equity" ? ["table"] : []));
  },
  account({ data }) {
    const known = boot.accounts.find(({ id }) => id === data.id);
    if (known) Object.assign(known, data);
    redraw("account");
  },
  alert({ data }) {
    if (data.alert?.acknowledged_at) return;
    if (data.account?.id === state.account) Object.assign(accountRow(), data.account);
    toast(data.message, { CRITICAL: "error", ERROR: "error", WARNING: "warn" }[data.level] ?? "info");
    redraw("account");
  },
  error: ({ data }) => toast(`${data.field}: ${data.message}`, "error"),
  pong() {},
};

let wasOffline = false;
const stream = new Stream({
  onMessage: (message) => HEARD[message.type]?.(message),
  onState(name, words) {
    state.connection = name;
    text("connection", words);
    $("connection").dataset.state = name;
    if (name === "offline") wasOffline = true;
    if (name === "live" && wasOffline) {
      wasOffline = false;
      toast("connected again; everything was read anew", "good");
      if (state.symbol) chart.load(state.symbol, state.interval, digits(state.symbol));
    }
  },
});

if (boot.staff) stream.subscribe("platform", { channel: "platform" });

// What nobody refreshes is shown as old.
setInterval(() => {
  const stale = !state.frame || Date.now() - state.frameAt > STALE_MS || state.frame.state !== "LIVE";
  flow.tick();
  for (const id of ["ladder", "tape", "flow"]) $(id).classList.toggle("stale", Boolean(state.frame) && stale);
  if (state.frame && Date.now() - state.frameAt > STALE_MS) text("book-state", `no market data for ${Math.round((Date.now() - state.frameAt) / 1000)} s`);
}, 1000);

async function askEngine() {
  const dot = $("engine");
  try {
    const { components } = await (await fetch("/api/v1/health", { cache: "no-store" })).json();
    const troubled = Object.entries(components).filter(([, each]) => each.status !== "ok");
    dot.dataset.state = troubled.length ? (components.engine?.status === "down" ? "down" : "degraded") : "ok";
    dot.title = troubled.map(([name, each]) => `${name}: ${each.status} ${each.detail}`).join("\n") || "every component is well";
    text("engine", troubled.length ? troubled[0][0] : "engine");
  } catch {
    dot.dataset.state = "down";
    text("engine", "site");
  }
}
setInterval(askEngine, ENGINE_MS);
askEngine();

// The frame of the page.
for (const interval of boot.intervals) {
  const button = element("button", Number(interval) < 60 ? `${interval}m` : `${interval / 60}h`);
  button.type = "button";
  button.dataset.interval = interval;
  button.addEventListener("click", () => chooseInterval(interval));
  $("intervals").append(button);
}
for (const name of Object.keys(TABS)) {
  const button = element("button", TABS[name].title);
  Object.assign(button, { type: "button", role: "tab" });
  button.dataset.tab = name;
  button.addEventListener("click", () => {
    state.tab = name;
    showTab();
    redraw("table");
  });
  $("tabs").append(button);
}
$("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const all = [...$("tabs").children], next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
  next.focus();
  next.click();
});
$("reconcile").addEventListener("click", () => attempt(request("POST", `accounts/${state.account}/reconcile`), "being compared with the exchange; what differs appears here"));
$("cancel-all").addEventListener("click", () => {
  for (const order of rowsOf("orders")) if (order.state !== "pending_cancel") view.cancelOrder(order);
});
for (const button of document.querySelectorAll(".phone-tabs button")) button.addEventListener("click", () => show(button.dataset.view));
for (const account of boot.accounts) {
  const option = element("option", named(account));
  option.value = account.id;
  $("account").append(option);
}
$("account").addEventListener("change", () => chooseAccount(Number($("account").value)));
$("account").disabled = !boot.accounts.length;

show("chart");
stream.subscribe("summary", { channel: "summary" });
chooseInterval(remembered("interval", (value) => boot.intervals.includes(value)) ?? "1");
const firstSymbol = remembered("symbol", (value) => instruments.has(value)) ?? (instruments.has("BTCUSDT") ? "BTCUSDT" : boot.instruments[0]?.symbol);
if (firstSymbol) chooseSymbol(firstSymbol);
else chart.say("No instruments yet: the engine lists them when it first reaches the venue.");
const firstAccount = boot.accounts.find(({ id }) => String(id) === localStorage.getItem("account")) ?? boot.accounts[0];
if (firstAccount) $("account").value = firstAccount.id;
chooseAccount(firstAccount?.id ?? null);
