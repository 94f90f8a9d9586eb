// The report of one run. It imports formats.js alone and asks nobody by itself, so that a file can hold it whole:
// `source.rows(kind, query)` and `source.prices()` give what is not in the run.
import { element, money, signed, tone } from "../formats.js";

const LIMIT = 25, MARKED_AT_ONCE = 1000, MOST_MARKED = 3000, SETTLED_MS = 200, COLORS = ["#e8b04a", "#6fa8ff", "#c58bff", "#2fbf8a", "#ff8fb1"];
const LAYOUT = { background: { color: "#11161e" }, textColor: "#8794a5", attributionLogo: false, panes: { separatorColor: "#222c39" } };
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const ENDS = { signal: "by a signal", take_profit: "take-profit", stop_loss: "stop-loss", max_loss: "largest loss", trailing_take_profit: "trailing take-profit", trailing_stop: "trailing stop", partial: "partial exit", reversal: "reversal", liquidation: "liquidation", kill_switch: "kill switch", end: "end of the data" };

export const percent = (share, digits = 2) => (share === null || share === undefined ? "—" : `${signed(share * 100, digits)} %`);
export const share = (value, digits = 1) => (value === null || value === undefined ? "—" : `${money(value * 100, digits)} %`);
export const ratio = (value) => (value === null || value === undefined ? "—" : signed(value, 2));
const times = (value) => (value === null || value === undefined ? "—" : money(value));
const usd = (value) => (value === null || value === undefined ? "—" : signed(value, 2));
export const utc = (ms) => (ms === null || ms === undefined ? "—" : new Date(ms).toISOString().slice(0, 16).replace("T", " "));
const ends = (why) => ENDS[why] ?? why;

export function span(ms) {
  if (ms === null || ms === undefined) return "—";
  const minutes = Math.round(ms / 60000);
  if (minutes < 120) return `${minutes} min`;
  return minutes < 2880 ? `${(minutes / 60).toFixed(1)} h` : `${(minutes / 1440).toFixed(1)} d`;
}

// The figures of a run by group: label, text, tone, and what exactly it is.
export function figures({ statistics: s }) {
  const fall = s.drawdown;
  return {
    Result: [
      ["Total return", percent(s.total_return), tone(s.total_return), "final equity over the starting balance"],
      ["Annualised", percent(s.annualised_return), tone(s.annualised_return), "the total return compounded to 365 days"],
      ["Net profit", usd(s.net_profit), tone(s.net_profit), "USDT, of all trades, after fees and funding"],
      ["Final equity", money(s.final_equity), "", `USDT, from ${money(s.start_balance)}`],
      ["Fees", money(s.fees), "", "USDT"],
      ["Funding", usd(s.funding), tone(s.funding), "USDT, below 0: paid"],
      ["Turnover", money(s.turnover, 0), "", "USDT, worth of all fills"],
    ],
    Risk: [
      ["Max drawdown", share(s.max_drawdown, 2), "down", "deepest fall below a peak, of the peak, at every point"],
      ["From – to", fall ? `${utc(fall.peak_ms).slice(0, 10)} – ${utc(fall.trough_ms).slice(0, 10)}` : "—", "", fall ? (fall.recovered_ms ? `recovered ${utc(fall.recovered_ms)}` : "not recovered by the end") : ""],
      ["Longest below a peak", span(fall?.longest_ms), "", "of any fall"],
      ["Sharpe", ratio(s.sharpe), "", "mean daily return over its sample deviation × √365"],
      ["Sortino", ratio(s.sortino), "", "the same over the root mean square of days below 0"],
      ["Calmar", ratio(s.calmar), "", "annualised return over the deepest drawdown"],
      ["Volatility", share(s.volatility), "", "deviation of daily returns, a year"],
      ["Exposure", share(s.exposure), "", "share of the time with a position"],
      ["Mean leverage", s.mean_leverage === null ? "—" : `${money(s.mean_leverage)}×`, "", "worth of positions over equity, of all time"],
    ],
    Trades: [
      ["Trades", money(s.trades, 0), "", `${s.longs} long, ${s.trades - s.longs} short`],
      ["Win rate", share(s.win_rate), "", `${s.wins} with a net profit, ${s.losses} with a loss`],
      ["Profit factor", times(s.profit_factor), "", "all profits over all losses"],
      ["Average win / loss", `${usd(s.average_win)} / ${usd(s.average_loss)}`, "", `payoff ${times(s.payoff)}`],
      ["Expectancy", usd(s.expectancy), tone(s.expectancy), "USDT, mean net profit of a trade"],
      ["Best / worst", `${usd(s.best_trade)} / ${usd(s.worst_trade)}`, "", "USDT"],
      ["Mean duration", span(s.mean_duration_ms), "", ""],
      ["Longest losing streak", money(s.longest_losing_streak, 0), "", "trades"],
      ["Signals", money(s.signals, 0), "", `${s.approved} approved, ${s.denied} denied, ${s.vetoed} vetoed`],
    ],
  };
}

// Rows that are all here already, sorted and cut into pages as the API does.
export function storedRows(data) {
  return {
    prices: async () => data.prices,
    rows: async (kind, { page, sort, from = 0, to = Infinity, limit = LIMIT, ...filters }) => {
      const column = sort.replace("-", ""), sign = sort.startsWith("-") ? -1 : 1;
      const isThen = (row) => (row.closed_ms ?? row.time_ms) >= from && (row.opened_ms ?? row.time_ms) <= to;
      const found = data[kind].filter((row) => isThen(row) && Object.entries(filters).every(([name, value]) => !value || row[name] === value || kind === "signals"));
      const compare = (a, b) => (Number.isNaN(Number(a)) ? String(a).localeCompare(String(b)) : Number(a) - Number(b));
      found.sort((a, b) => sign * compare(a[column], b[column]));
      return { count: found.length, results: found.slice((page - 1) * limit, page * limit), cut: data.cut[kind] };
    },
  };
}

export function sheet(root, title, classes = "") {
  const made = element("section", "", `sheet ${classes}`), head = element("div", "", "sheet-head"), heading = element("h2", title);
  made.setAttribute("aria-label", title);
  head.append(heading);
  made.append(head);
  root.append(made);
  return { made, head };
}

export function table(columns, rows, classes = "rows") {
  const made = element("table", "", classes), head = made.createTHead().insertRow(), body = made.createTBody();
  for (const [title, number] of columns) {
    const cell = element("th", title, number ? "number" : "");
    cell.scope = "col";
    head.append(cell);
  }
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((value, index) => {
      const [text, color] = Array.isArray(value) ? value : [value, ""];
      line.append(element("td", text, `${columns[index][1] ? "number " : ""}${color}`.trim()));
    });
  }
  return made;
}

export const scrolled = (made) => {
  const box = element("div", "", "scroll");
  box.tabIndex = 0;
  box.append(made);
  return box;
};

// A chart that fills a box and shows UTC; `label` says to those who do not see it what is drawn.
export function chartIn(parent, classes, label, options = {}) {
  const box = element("div", "", `chart ${classes}`);
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", label);
  parent.append(box);
  return window.LightweightCharts.createChart(box, {
    autoSize: true,
    layout: LAYOUT,
    grid: { vertLines: { color: "#161d27" }, horzLines: { color: "#1a222d" } },
    timeScale: { timeVisible: true, borderColor: "#222c39" },
    rightPriceScale: { borderColor: "#222c39" },
    crosshair: { mode: 0 },
    handleScroll: { vertTouchDrag: false },
    ...options,
  });
}

// The library wants each second once, in order.
function points(times, values) {
  const bySecond = new Map(times.map((ms, index) => [Math.floor(ms / 1000), values[index]]));
  return [...bySecond].map(([time, value]) => ({ time, value }));
}

// Equity over the drawdown; `others` are runs to lay over it, as percent of each one's start.
export function drawEquity(parent, run, others = []) {
  const lib = window.LightweightCharts, { curve, statistics } = run.summary;
  const chart = chartIn(parent, "equity-chart", `Equity from ${money(statistics.start_balance)} to ${money(statistics.final_equity)} USDT, deepest drawdown ${share(statistics.max_drawdown)}`, { layout: { ...LAYOUT, attributionLogo: true } });
  if (!others.length) {
    const equity = chart.addSeries(lib.AreaSeries, { lineColor: COLORS[0], topColor: "#e8b04a33", bottomColor: "#e8b04a00", lineWidth: 2, priceFormat: { type: "price", precision: 2, minMove: 0.01 } });
    equity.setData(points(curve.time_ms, curve.equity));
  } else {
    [run, ...others].forEach((each, index) => {
      const start = Number(each.summary.statistics.start_balance), own = each.summary.curve;
      const line = chart.addSeries(lib.LineSeries, { color: COLORS[index % COLORS.length], lineWidth: 2, title: `#${each.id}`, priceLineVisible: false, priceFormat: { type: "custom", minMove: 0.01, formatter: (value) => `${signed(value, 1)} %` } });
      line.setData(points(own.time_ms, own.equity.map((value) => (value / start - 1) * 100)));
    });
  }
  const fall = chart.addSeries(lib.AreaSeries, { lineColor: "#ef5d6b", topColor: "#ef5d6b00", bottomColor: "#ef5d6b44", lineWidth: 1, priceLineVisible: false, priceFormat: { type: "custom", minMove: 0.01, formatter: (value) => `${value.toFixed(1)} %` } }, 1);
  fall.setData(points(curve.time_ms, curve.drawdown.map((value) => -value * 100)));
  chart.panes()[1].setStretchFactor(0.35);
  chart.timeScale().fitContent();
  return chart;
}

class PriceChart {
  constructor(parent, head, prices, source, label) {
    const lib = window.LightweightCharts;
    Object.assign(this, { prices, source, chosen: null });
    this.chart = chartIn(parent, "price-chart", label);
    this.bars = this.chart.addSeries(lib.CandlestickSeries, { upColor: "#2fbf8a", downColor: "#ef5d6b", wickUpColor: "#2fbf8a", wickDownColor: "#ef5d6b", borderVisible: false });
    this.markers = lib.createSeriesMarkers(this.bars, []);
    this.trades = [];
    this.words = element("span", "", "muted push");
    this.words.setAttribute("role", "status");
    head.append(this.words);
    const group = element("div", "", "segments");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Symbol");
    this.buttons = prices.map(({ symbol }) => {
      const button = element("button", symbol);
      button.type = "button";
      button.title = "All of the time";
      button.addEventListener("click", () => {
        this.asked = (this.asked ?? 0) + 1;
        this.show(symbol);
      });
      group.append(button);
      return button;
    });
    head.append(group);
    this.show(prices[0].symbol);
    this.chart.timeScale().subscribeVisibleLogicalRangeChange(() => this.settle());
    const box = this.chart.chartElement().parentElement;
    box.setAttribute("role", "group");
    box.tabIndex = 0;
    box.addEventListener("keydown", (event) => this.onKey(event));
  }

  // Arrows go along the time, + and − bring it nearer and farther. The chart tells its range of the frame before: of
  // keys within one frame each begins where the last one ended.
  onKey(event) {
    const scale = this.chart.timeScale(), seen = this.going ?? scale.getVisibleLogicalRange();
    if (!seen || event.ctrlKey || event.metaKey || event.altKey) return;
    const length = seen.to - seen.from, step = { ArrowLeft: -0.25, ArrowRight: 0.25 }[event.key], grown = { "+": -0.2, "=": -0.2, "-": 0.3 }[event.key];
    if (step) this.going = { from: seen.from + step * length, to: seen.to + step * length };
    else if (grown) this.going = { from: seen.from - grown * length, to: seen.to + grown * length };
    else return;
    event.preventDefault();
    this.going = this.onBars(this.going);
    scale.setVisibleLogicalRange(this.going);
    requestAnimationFrame(() => {
      this.going = null;
    });
  }

  show(symbol, bars = this.prices.find((each) => each.symbol === symbol)) {
    this.symbol = symbol;
    this.own = bars;
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.textContent === symbol));
    const { time_ms: times, open, high, low, close } = this.own;
    const top = Math.max(...high, 0), digits = top >= 1000 ? 1 : top >= 10 ? 3 : 6;
    this.bars.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
    this.bars.setData(times.map((ms, at) => ({ time: ms / 1000, open: open[at], high: high[at], low: low[at], close: close[at] })));
    this.chart.timeScale().fitContent();
    this.mark();
    this.settle();
  }

  settle() {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.load(), SETTLED_MS);
  }

  // A range of the chart's places, as it can be shown: who goes beyond the finer bars around a trade gets those of the
  // whole again, at the same time; beyond the whole there is nothing.
  onBars(range) {
    const { own, symbol } = this, whole = this.prices.find((each) => each.symbol === symbol), edge = own.time_ms.length * 0.1;
    if (own === whole) {
      const length = Math.min(range.to - range.from, own.time_ms.length + 2 * edge);
      const from = Math.min(Math.max(range.from, -edge), own.time_ms.length + edge - length);
      return { from, to: from + length };
    }
    if (range.from > -edge && range.to < own.time_ms.length + edge) return range;
    const place = (each) => (own.time_ms[0] + each * own.interval_ms - whole.time_ms[0]) / whole.interval_ms;
    this.show(symbol);
    return this.onBars({ from: place(range.from), to: place(range.to) });
  }

  // All trades of the time that is to be seen, and half as much on both sides of it.
  async load() {
    const places = this.chart.timeScale().getVisibleLogicalRange(), { own } = this;
    const shown = places && this.onBars(places);
    if (own !== this.own) {
      this.chart.timeScale().setVisibleLogicalRange(shown);
      return;
    }
    const seen = this.chart.timeScale().getVisibleRange();
    if (!seen) return;
    const from = seen.from * 1000, to = seen.to * 1000 + this.own.interval_ms, around = (to - from) / 2, { symbol, loaded } = this;
    if (loaded?.symbol === symbol && loaded.from <= from && loaded.to >= to) {
      this.tell(from, to);
      return;
    }
    const asked = (this.loading = (this.loading ?? 0) + 1), isWanted = () => asked === this.loading && symbol === this.symbol;
    try {
      let found = null, trades = null;
      for (const [first, last] of [[from - around, to + around], [from, to]]) {
        [found, trades] = await this.tradesBetween(symbol, Math.max(0, first), last, isWanted);
        if (!isWanted()) return;
        if (trades) {
          this.loaded = { symbol, from: first, to: last };
          break;
        }
      }
      this.trades = trades ?? [];
      this.problem = trades ? "" : `${money(found, 0)} trades in sight are too many to mark: zoom in`;
    } catch (error) {
      if (!isWanted()) return;
      this.problem = `The trades could not be marked: ${error.message}`;
    }
    this.mark();
    this.tell(from, to);
  }

  tell(from, to) {
    const inSight = this.trades.filter((each) => each.closed_ms >= from && each.opened_ms <= to).length;
    this.words.textContent = this.problem || `${money(inSight, 0)} trades in sight; press one in the table to see it`;
  }

  // How many there are, and the trades; null where they are too many.
  async tradesBetween(symbol, from, to, isWanted) {
    const trades = [];
    for (let page = 1; ; page += 1) {
      const { count, results } = await this.source.rows("trades", { symbol, from: Math.floor(from), to: Math.ceil(to), sort: "opened_ms", limit: MARKED_AT_ONCE, page });
      if (count > MOST_MARKED) return [count, null];
      trades.push(...results);
      if (trades.length >= count || !results.length || !isWanted()) return [count, trades];
    }
  }

  barOf(ms) {
    const first = this.own.time_ms[0];
    return (first + Math.floor((ms - first) / this.own.interval_ms) * this.own.interval_ms) / 1000;
  }

  mark() {
    const isChosen = (trade) => trade.symbol === this.chosen?.symbol && trade.opened_ms === this.chosen.opened_ms;
    const shown = this.trades.filter((each) => each.symbol === this.symbol && !isChosen(each));
    if (this.chosen?.symbol === this.symbol) shown.push(this.chosen);
    const marks = shown.flatMap((trade) => {
      const long = trade.side === "Buy", won = Number(trade.pnl) >= 0;
      return [
        { time: this.barOf(trade.opened_ms), position: long ? "belowBar" : "aboveBar", shape: long ? "arrowUp" : "arrowDown", color: long ? "#2fbf8a" : "#ef5d6b", text: trade === this.chosen ? trade.entry_price : "" },
        { time: this.barOf(trade.closed_ms), position: long ? "aboveBar" : "belowBar", shape: "circle", color: won ? "#2fbf8a" : "#ef5d6b", text: trade === this.chosen ? `${trade.exit_price} (${signed(trade.pnl)})` : "" },
      ];
    });
    const known = new Set(this.own.time_ms.map((ms) => ms / 1000));
    // Of marks that lie on each other one is enough; a chosen trade's words come last and stay.
    const apart = new Map(marks.filter((each) => known.has(each.time)).map((each) => [`${each.time} ${each.shape} ${each.color} ${each.position}`, each]));
    this.markers.setMarkers([...apart.values()].sort((a, b) => a.time - b.time));
  }

  // With finer bars around the trade where the source has them; `symbol`'s button brings the whole back.
  async zoom(trade) {
    this.chosen = trade;
    const around = Math.max(trade.closed_ms - trade.opened_ms, 20 * this.own.interval_ms);
    const [from, to] = [trade.opened_ms - around, trade.closed_ms + around];
    const asked = (this.asked = (this.asked ?? 0) + 1);
    let finer = null;
    try {
      finer = await this.source.pricesBetween?.(trade.symbol, from, to);
    } catch {
      // The bars may have left the archive since; those of the whole are here.
    }
    if (asked !== this.asked) return;
    this.show(trade.symbol, finer?.time_ms.length ? finer : undefined);
    if (this.own.time_ms.at(-1) > this.own.time_ms[0]) this.chart.timeScale().setVisibleRange({ from: from / 1000, to: to / 1000 });
  }
}

// A table whose rows come page by page, sorted by the column whose head was pressed.
export class PagedTable {
  constructor(parent, { columns, load, sort, empty, onChoose = null }) {
    Object.assign(this, { columns, load, sort, empty, onChoose, page: 1, filters: {} });
    this.note = element("p", "", "note");
    this.table = element("table", "", "rows paged");
    this.head = this.table.createTHead().insertRow();
    this.body = this.table.createTBody();
    this.pager = element("div", "", "pager");
    this.where = element("span", "", "muted push");
    [this.previous, this.next] = ["Previous", "Next"].map((text, index) => {
      const button = element("button", text, "quiet");
      button.type = "button";
      button.addEventListener("click", () => this.go(this.page + (index ? 1 : -1)));
      return button;
    });
    this.pager.append(this.where, this.previous, this.next);
    parent.append(this.note, scrolled(this.table), this.pager);
    for (const [title, column, , number] of columns) {
      const cell = element("th", "", number ? "number" : "");
      cell.scope = "col";
      if (column) {
        const button = element("button", title, "sort");
        button.type = "button";
        button.addEventListener("click", () => this.sortBy(column));
        cell.append(button);
      } else cell.textContent = title;
      this.head.append(cell);
    }
    this.go(1);
  }

  sortBy(column) {
    this.sort = this.sort === `-${column}` ? column : `-${column}`;
    this.go(1);
  }

  filter(filters) {
    this.filters = filters;
    this.go(1);
  }

  async go(page) {
    const asked = (this.asked = (this.asked ?? 0) + 1);
    let found;
    try {
      found = await this.load({ page, sort: this.sort, ...this.filters });
    } catch (error) {
      if (asked === this.asked) this.say(`The rows could not be loaded: ${error.message}`);
      return;
    }
    if (asked !== this.asked) return;
    this.page = page;
    [...this.head.cells].forEach((cell, index) => {
      const column = this.columns[index][1];
      if (this.sort.replace("-", "") === column) cell.setAttribute("aria-sort", this.sort.startsWith("-") ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    this.say(found.count ? (found.cut ? `The first ${found.count} of ${found.cut}; all are in the CSV and JSON files.` : "") : this.empty);
    this.table.hidden = !found.count;
    this.body.replaceChildren(...found.results.map((row) => this.line(row)));
    const first = (page - 1) * LIMIT;
    this.pager.hidden = found.count <= LIMIT;
    this.where.textContent = `${first + 1} – ${first + found.results.length} of ${found.count}`;
    this.previous.disabled = page === 1;
    this.next.disabled = first + LIMIT >= found.count;
  }

  line(row) {
    const line = element("tr");
    for (const [, , show, number] of this.columns) {
      const value = show(row), [text, color] = Array.isArray(value) ? value : [value, ""];
      line.append(element("td", text, `${number ? "number " : ""}${color}`.trim()));
    }
    if (this.onChoose) {
      line.tabIndex = 0;
      line.addEventListener("click", () => this.onChoose(row));
      line.addEventListener("keydown", (event) => {
        const next = { ArrowDown: line.nextElementSibling, ArrowUp: line.previousElementSibling }[event.key];
        if (event.key === "Enter" || event.key === " ") this.onChoose(row);
        else if (next) next.focus();
        else return;
        event.preventDefault();
      });
    }
    return line;
  }

  say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }
}

function drawMonths(root, years) {
  const { made } = sheet(root, "Returns by month");
  const columns = [["Year"], ...MONTHS.map((name) => [name, true]), ["Year", true]];
  const grid = table(columns, years.map(({ year, months, total }) => [String(year), ...months.map((value) => (value === null ? "" : signed(value * 100, 1))), percent(total, 1)]), "rows months");
  years.forEach(({ months, total }, line) => [...months, total].forEach((value, at) => {
    if (value === null) return;
    const strength = Math.min(1, Math.abs(value) / 0.1) * 0.55;
    grid.tBodies[0].rows[line].cells[at + 1].style.background = `rgb(${value >= 0 ? "47 191 138" : "239 93 107"} / ${strength.toFixed(2)})`;
  }));
  made.append(scrolled(grid));
}

function drawGroups(root, summary) {
  const { made } = sheet(root, "Trades by what they have in common", "groups");
  const columns = [[""], ["Trades", true], ["Win rate", true], ["Net profit", true], ["Fees", true], ["Funding", true]];
  const rows = [];
  for (const [title, groups, name] of [["How they ended", summary.by_end, ends], ["Side", summary.by_side, String], ["Symbol", summary.by_symbol, String], ["Strategy", summary.by_strategy, String]]) {
    groups.forEach((each, index) => rows.push([`${index ? "" : `${title}: `}${name(each.name)}`, money(each.trades, 0), share(each.wins / each.trades, 0), [usd(each.pnl), tone(each.pnl)], money(each.fees), [usd(each.funding), tone(each.funding)]]));
  }
  made.append(scrolled(table(columns, rows)));
}

function drawOrder(root, found) {
  const { made } = sheet(root, "The same trades in another order (Monte-Carlo)");
  const lib = window.LightweightCharts;
  const at = Object.fromEntries(found.percentiles.map((each, index) => [each, index]));
  const words = element("p", `${found.runs} draws. The order alone: half of all orders of these trades fall ${share(found.shuffled_drawdown[at[50]])} or more on their way, one in twenty ${share(found.shuffled_drawdown[at[95]])}. Drawn again with replacement, ${share(found.loses, 0)} of the draws end below the start.`, "words");
  const chart = chartIn(made, "fan-chart", "Bands of the equity of trades drawn again", { timeScale: { tickMarkFormatter: (time) => `${time}`, borderColor: "#222c39" }, localization: { timeFormatter: (time) => `${time} trades` } });
  found.fan.forEach((band, index) => {
    const middle = found.percentiles[index] === 50;
    const line = chart.addSeries(lib.LineSeries, { color: middle ? COLORS[0] : "#6fa8ff", lineWidth: middle ? 2 : 1, lineStyle: middle ? 0 : 2, priceLineVisible: false, title: `${found.percentiles[index]} %`, priceFormat: { type: "custom", minMove: 0.01, formatter: (value) => `${signed(value, 1)} %` } });
    line.setData(band.map((value, place) => ({ time: found.fan_at[place], value: (value - 1) * 100 })));
  });
  chart.timeScale().fitContent();
  const columns = [["Percentile"], ...found.percentiles.map((each) => [`${each} %`, true])];
  made.append(scrolled(table(columns, [
    ["Return, drawn", ...found.drawn_return.map((value) => [percent(value, 1), tone(value)])],
    ["Drawdown, drawn", ...found.drawn_drawdown.map((value) => share(value))],
    ["Drawdown, another order", ...found.shuffled_drawdown.map((value) => share(value))],
  ])), words);
}

function drawAsked(root, run) {
  const { made } = sheet(root, "What was asked, and of what data");
  const flat = (value) => {
    if (Array.isArray(value)) return value.map((each) => (Array.isArray(each) ? `${each[0]} → ${each[1]}` : each)).join(", ") || "none";
    if (value === null) return "no limit";
    if (typeof value === "boolean") return value ? "yes" : "no";
    if (typeof value !== "object") return String(value);
    const set = Object.entries(value).filter(([, each]) => each !== null && (typeof each !== "object" || Object.keys(each).length));
    return set.map(([name, each]) => `${name.replaceAll("_", " ")} ${flat(each)}`).join("; ") || "none";
  };
  const { strategies, costs, limits, exit_rules, ...rest } = run.request;
  const groups = strategies.map(({ parameters, ...each }) => [each.name || each.strategy, { ...each, ...parameters }]);
  groups.push(["Run", { ...Object.fromEntries(Object.entries(rest).filter(([name]) => name !== "groups")), code: run.code, worker: run.worker }], ["Costs", costs], ["Risk limits", limits], ["Exit rules", exit_rules]);
  const box = element("div", "", "asked");
  for (const [title, values] of groups) {
    const part = element("details"), list = element("dl");
    part.open = box.children.length < strategies.length;
    part.append(element("summary", title), list);
    for (const [name, value] of Object.entries(values)) {
      if (name === "name" && !value) continue;
      const line = element("div");
      line.append(element("dt", name.replaceAll("_", " ")), element("dd", flat(value)));
      list.append(line);
    }
    box.append(part);
  }
  made.append(box);
  const rows = run.summary.coverage.map((each) => [each.symbol, `${each.interval === "D" ? "1 d" : `${each.interval} m`}`, money(each.bars, 0), [share(each.bars / each.expected, 2), each.bars < each.expected ? "warn" : ""], utc(each.first_ms), utc(each.last_ms)]);
  made.append(scrolled(table([["Symbol"], ["Bars"], ["There were", true], ["Of all there could be", true], ["First"], ["Last"]], rows)));
  const digests = element("details", "", "digests");
  digests.append(element("summary", "Digests of the data"), ...Object.entries(run.data).map(([name, digest]) => element("p", `${name}: ${digest}`, "digest")));
  made.append(digests);
}

export function drawReport(root, run, source) {
  const { summary } = run, { statistics } = summary;
  const all = figures(summary);
  const strip = element("dl", "", "strip");
  for (const [label, text, color] of [all.Result[0], all.Result[2], all.Risk[0], all.Risk[3], all.Trades[1], all.Trades[2], all.Trades[0]]) {
    const each = element("div");
    each.append(element("dt", label), element("dd", text, color));
    strip.append(each);
  }
  root.append(strip);
  if (statistics.ruined) root.append(element("p", "The account was ruined: equity fell to nothing. Figures after that moment are not counted.", "form-error"));
  const equity = sheet(root, "Equity and drawdown");
  equity.head.append(element("span", "UTC", "muted"));
  drawEquity(equity.made, run);
  const prices = sheet(root, "Trades on the price");
  const board = element("div", "", "figure-board");
  root.append(board);
  for (const [title, rows] of Object.entries(all)) {
    const { made } = sheet(board, title);
    const list = element("dl", "", "figure-list");
    for (const [label, text, color, words] of rows) {
      const line = element("div");
      line.append(element("dt", label), element("dd", text, color));
      if (words) line.append(element("small", words));
      list.append(line);
    }
    made.append(list);
  }
  drawMonths(root, summary.months);
  const trades = sheet(root, "Trades");
  if (statistics.trades) drawGroups(root, summary);
  let chart = null;
  new PagedTable(trades.made, {
    sort: "-closed_ms",
    empty: "No trades: no signal was approved and filled.",
    load: (query) => source.rows("trades", query),
    onChoose: (row) => {
      chart?.zoom(row);
      prices.made.scrollIntoView({ block: "nearest" });
    },
    columns: [
      ["Opened", "opened_ms", (row) => utc(row.opened_ms)],
      ["Closed", "closed_ms", (row) => utc(row.closed_ms)],
      ["Symbol", "symbol", (row) => row.symbol],
      ["Strategy", "strategy", (row) => row.strategy],
      ["Side", "side", (row) => (row.side === "Buy" ? ["long", "up"] : ["short", "down"])],
      ["Quantity", "quantity", (row) => row.quantity, true],
      ["Entry", "entry_price", (row) => row.entry_price, true],
      ["Exit", "exit_price", (row) => row.exit_price, true],
      ["Fees", "fees", (row) => money(row.fees), true],
      ["Funding", "funding", (row) => [usd(row.funding), tone(row.funding)], true],
      ["Net profit", "pnl", (row) => [usd(row.pnl), tone(row.pnl)], true],
      ["Best", "best", (row) => `${signed(row.best, 2)} %`, true],
      ["Worst", "worst", (row) => `${signed(row.worst, 2)} %`, true],
      ["Ended", "why", (row) => ends(row.why)],
    ],
  });
  const denied = sheet(root, "Signals that did not become orders");
  if (summary.refusals.length) {
    denied.made.append(scrolled(table([["Outcome"], ["Why"], ["Signals", true]], summary.refusals.map((each) => [each.outcome, [each.words || "no words", "wrap"], money(each.count, 0)]))));
    new PagedTable(denied.made, {
      sort: "-time_ms",
      empty: "None.",
      load: (query) => source.rows("signals", { ...query, outcome: statistics.denied ? "denied" : "vetoed" }),
      columns: [
        ["Time", "time_ms", (row) => utc(row.time_ms)],
        ["Symbol", "symbol", (row) => row.symbol],
        ["Side", "side", (row) => (row.side === "Buy" ? ["buy", "up"] : ["sell", "down"])],
        ["Strength", "strength", (row) => money(row.strength), true],
        ["Entry", "entry_price", (row) => row.entry_price, true],
        ["Outcome", "outcome", (row) => row.outcome],
        ["Why", "words", (row) => [row.words, "wrap"]],
      ],
    });
  } else denied.made.append(element("p", statistics.signals ? "All signals were approved." : "There were no signals.", "note"));
  if (summary.trade_order) drawOrder(root, summary.trade_order);
  drawAsked(root, run);
  source.prices().then((found) => {
    const drawn = found.filter((each) => each.time_ms.length);
    if (!drawn.length) throw new Error("there are none");
    chart = new PriceChart(prices.made, prices.head, drawn, source, "Prices with the trades on them. Arrow keys go along the time, plus and minus zoom.");
  }).catch((error) => prices.made.append(element("p", `The prices could not be drawn: ${error.message}`, "note")));
}

// Figures of several runs side by side, the best of each marked.
export function comparisonTable(runs) {
  const columns = [["Figure"], ...runs.map((run) => [`#${run.id} ${run.name}`, true])];
  const rows = Object.values(figures(runs[0].summary)).flatMap((group, place) => group.map(([label], at) => [label, ...runs.map((run) => {
    const [, text, color] = Object.values(figures(run.summary))[place][at];
    return [text, color];
  })]));
  return table(columns, rows, "rows comparison");
}
