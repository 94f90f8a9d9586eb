// Candles with what the account did on them: fills as arrows, the position and open orders as lines.
import { request } from "./api.js";

const SHIFT = 60 * new Date().getTimezoneOffset(); // the library shows UTC; traders read their own clock

function bar(candle) {
  const start = typeof candle.start === "number" ? candle.start : Date.parse(candle.start);
  return { time: start / 1000 - SHIFT, open: +candle.open, high: +candle.high, low: +candle.low, close: +candle.close, volume: +candle.volume };
}

export class Chart {
  constructor(root, note) {
    const lib = window.LightweightCharts;
    this.note = note;
    this.chart = lib.createChart(root, {
      autoSize: true,
      layout: { background: { color: "#11161e" }, textColor: "#8794a5", attributionLogo: true },
      grid: { vertLines: { color: "#1a222d" }, horzLines: { color: "#1a222d" } },
      timeScale: { timeVisible: true, borderColor: "#222c39" },
      rightPriceScale: { borderColor: "#222c39" },
      crosshair: { mode: 0 },
    });
    this.candles = this.chart.addSeries(lib.CandlestickSeries, { upColor: "#2fbf8a", downColor: "#ef5d6b", wickUpColor: "#2fbf8a", wickDownColor: "#ef5d6b", borderVisible: false });
    this.volume = this.chart.addSeries(lib.HistogramSeries, { priceScaleId: "", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.85, bottom: 0 } });
    this.markers = lib.createSeriesMarkers(this.candles, []);
    this.lines = [];
    this.fills = [];
  }

  async load(symbol, interval, digits) {
    const changed = this.symbol !== symbol || this.interval !== interval;
    Object.assign(this, { symbol, interval });
    this.candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
    if (changed) {
      this.bars = [];
      this.show();
      this.say("Loading candles …");
    }
    let rows;
    try {
      rows = await request("GET", `market/candles/${symbol}?interval=${interval}&limit=1000`);
    } catch (error) {
      this.say(`Candles could not be loaded: ${error.message}`);
      return;
    }
    if (this.symbol !== symbol || this.interval !== interval) return;
    const newest = this.bars.at(-1);
    this.bars = rows.map(bar);
    if (!changed && newest && newest.time >= (this.bars.at(-1)?.time ?? 0)) this.put(newest);
    this.show();
    this.say(this.bars.length ? "" : "No candles yet: the engine stores them as they close.");
    if (changed) this.chart.timeScale().setVisibleLogicalRange({ from: this.bars.length - 140, to: this.bars.length + 6 });
    this.mark();
  }

  update(candles) {
    const candle = candles?.[this.interval];
    if (!candle || !this.bars) return;
    const next = bar(candle), last = this.bars.at(-1);
    if (last && next.time < last.time) return;
    const first = !last;
    this.put(next);
    this.candles.update(next);
    this.volume.update(this.column(next));
    if (first) this.say("");
  }

  put(next) {
    if (this.bars.at(-1)?.time === next.time) this.bars[this.bars.length - 1] = next;
    else this.bars.push(next);
  }

  show() {
    this.candles.setData(this.bars);
    this.volume.setData(this.bars.map((each) => this.column(each)));
  }

  column(each) {
    return { time: each.time, value: each.volume, color: each.close >= each.open ? "#2fbf8a40" : "#ef5d6b40" };
  }

  setFills(fills) {
    this.fills = fills;
    this.mark();
  }

  mark() {
    if (!this.bars?.length) {
      this.markers.setMarkers([]);
      return;
    }
    const length = Number(this.interval) * 60, first = this.bars[0].time;
    const marks = this.fills.map((fill) => {
      const time = Date.parse(fill.executed_at) / 1000 - SHIFT;
      const buy = fill.side === "Buy";
      return { time: time - ((time + SHIFT) % length), position: buy ? "belowBar" : "aboveBar", shape: buy ? "arrowUp" : "arrowDown", color: buy ? "#2fbf8a" : "#ef5d6b", text: `${fill.quantity}` };
    });
    this.markers.setMarkers(marks.filter((each) => each.time >= first).sort((a, b) => a.time - b.time));
  }

  setLines(lines) {
    for (const line of this.lines) this.candles.removePriceLine(line);
    this.lines = lines.map(({ price, title, color, style }) => this.candles.createPriceLine({ price: +price, title, color, lineStyle: style, lineWidth: 1, axisLabelVisible: true }));
  }

  say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }
}
