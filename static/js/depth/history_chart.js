// Lines over time in one chart of stacked panes, with the values under the crosshair, or the newest, in a legend.
import { element } from "../formats.js";

const SHIFT = 60 * new Date().getTimezoneOffset(); // the library shows UTC; people read their own clock

export const SPANS = { "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800, "30d": 2592000, "1y": 31536000 };

// `lines`: { key: { label, color, kind: "line" | "columns" | "baseline", pane, show(value) -> text } }; columns above
// and below 0 have the two colours of `color`.
export class HistoryChart {
  constructor(root, legend, lines) {
    const lib = window.LightweightCharts;
    this.lines = lines;
    this.legend = legend;
    this.chart = lib.createChart(root, {
      autoSize: true,
      layout: { background: { color: "#11161e" }, textColor: "#8794a5", attributionLogo: true, panes: { separatorColor: "#222c39", separatorHoverColor: "#344356" } },
      grid: { vertLines: { color: "#1a222d" }, horzLines: { color: "#1a222d" } },
      timeScale: { timeVisible: true, secondsVisible: false, borderColor: "#222c39" },
      rightPriceScale: { borderColor: "#222c39" },
      crosshair: { mode: 0 },
    });
    this.series = Object.fromEntries(Object.entries(lines).map(([key, line]) => [key, this.add(lib, line)]));
    const panes = this.chart.panes();
    if (panes.length > 1) {
      panes[0].setStretchFactor(2);
      panes[1].setStretchFactor(1);
    }
    this.points = [];
    this.chart.subscribeCrosshairMove(({ time }) => this.read(time));
  }

  add(lib, { kind, color, show, pane = 0 }) {
    const options = { priceLineVisible: false, priceFormat: { type: "custom", minMove: 1e-8, formatter: show } };
    if (kind === "columns") return this.chart.addSeries(lib.HistogramSeries, options, pane);
    if (kind === "baseline") {
      const [above, below] = color;
      const fills = { topLineColor: above, topFillColor1: `${above}40`, topFillColor2: `${above}08`, bottomLineColor: below, bottomFillColor1: `${below}08`, bottomFillColor2: `${below}40` };
      return this.chart.addSeries(lib.BaselineSeries, { ...options, ...fills, baseValue: { type: "price", price: 0 }, lineWidth: 2 }, pane);
    }
    return this.chart.addSeries(lib.LineSeries, { ...options, color, lineWidth: 2 }, pane);
  }

  // `points`: the earliest first, each `{ time, ...values by key }`, times in seconds; a value may be null.
  setData(points) {
    this.points = points;
    this.byTime = new Map(points.map((point) => [point.time - SHIFT, point]));
    for (const key of Object.keys(this.lines)) this.series[key].setData(points.map((point) => this.datum(key, point)));
    this.chart.timeScale().fitContent();
    this.read();
  }

  // The newest point, or a newer one of the same time.
  update(point) {
    const last = this.points.at(-1);
    if (last && point.time < last.time) return;
    if (last?.time === point.time) this.points[this.points.length - 1] = point;
    else this.points.push(point);
    this.byTime.set(point.time - SHIFT, point);
    for (const key of Object.keys(this.lines)) this.series[key].update(this.datum(key, point));
    this.read();
  }

  datum(key, point) {
    const time = point.time - SHIFT, value = point[key], { kind, color } = this.lines[key];
    if (value === null || value === undefined) return { time };
    return kind === "columns" ? { time, value, color: color[value < 0 ? 1 : 0] } : { time, value };
  }

  read(time) {
    if (time !== undefined) this.pointed = this.byTime?.has(time) ? time : null;
    else if (!this.byTime?.has(this.pointed)) this.pointed = null;
    const point = this.byTime?.get(this.pointed) ?? this.points.at(-1);
    if (!point) {
      this.legend.replaceChildren();
      return;
    }
    const when = new Date(point.time * 1000).toLocaleString("en-GB", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });
    this.legend.replaceChildren(element("span", when, "muted"), ...Object.entries(this.lines).map(([key, { label, color, show }]) => {
      const entry = element("span", `${label} `), value = point[key];
      const figure = element("b", value === null || value === undefined ? "—" : show(value));
      figure.style.color = Array.isArray(color) ? color[value < 0 ? 1 : 0] : color;
      entry.append(figure);
      return entry;
    }));
  }
}
