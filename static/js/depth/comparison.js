// Lines of several series in one chart. It says when an edge comes near, and where the crosshair is.
import { volume } from "../formats.js";
import { LENGTHS, valueOf } from "./series.js";

const SHIFT = 60 * new Date().getTimezoneOffset(); // the library shows UTC; readers have their own clock
const NEAR = 60, USER_MS = 1500, RANGE_MS = 250, PERCENTAGE = 2, NORMAL = 0;
const HIDDEN = "#00000000";

export class ComparisonChart {
  constructor(root, { onOlder, onNewer, onRange, onCrosshair }) {
    const lib = window.LightweightCharts;
    this.root = root;
    this.lines = new Map();
    this.times = [];
    this.touched = 0;
    this.chart = lib.createChart(root, {
      autoSize: true,
      layout: { background: { color: "#11161e" }, textColor: "#8794a5", attributionLogo: true },
      grid: { vertLines: { color: "#1a222d" }, horzLines: { color: "#1a222d" } },
      timeScale: { timeVisible: true, borderColor: "#222c39", minBarSpacing: 0.08 },
      rightPriceScale: { borderColor: "#222c39", scaleMargins: { top: 0.14, bottom: 0.06 } },
      crosshair: { mode: 0 },
      localization: { priceFormatter: volume },
    });
    const scale = this.chart.timeScale();
    scale.subscribeVisibleLogicalRangeChange((range) => {
      if (!range || !this.times.length) return;
      // Who scrolls will want what is beyond the edge; otherwise only what is in view is asked for.
      const isScrolled = Date.now() - this.touched < USER_MS, margin = isScrolled ? NEAR : -2;
      if (range.from < margin) onOlder();
      if (range.to > this.times.length - margin) onNewer();
      if (!isScrolled) return;
      clearTimeout(this.telling);
      this.telling = setTimeout(() => onRange(), RANGE_MS);
    });
    this.chart.subscribeCrosshairMove(({ time }) => onCrosshair(time === undefined ? null : time + this.shift));
    for (const kind of ["wheel", "pointerdown", "pointermove", "touchmove"])
      root.addEventListener(kind, (event) => (kind !== "pointermove" || event.buttons) && (this.touched = Date.now()), { passive: true, capture: true });
    root.addEventListener("keydown", (event) => this.move(event));
  }

  get shift() {
    return this.interval === "1d" ? 0 : SHIFT; // a day is a day of UTC
  }

  // `lines`: {key, series, side, unit, color, dashed}, all of one interval.
  show(lines, interval) {
    const lib = window.LightweightCharts, wanted = new Set(lines.map(({ key }) => key));
    this.interval = interval;
    for (const [key, { drawn }] of this.lines) {
      if (wanted.has(key)) continue;
      this.chart.removeSeries(drawn);
      this.lines.delete(key);
    }
    for (const line of lines) {
      const options = { color: line.color, lineWidth: 2, lineStyle: line.dashed ? 2 : 0, priceLineVisible: lines.length <= 2, lastValueVisible: lines.length <= 8, crosshairMarkerRadius: 3, priceFormat: { type: "custom", formatter: volume, minMove: 1e-8 } };
      const drawn = this.lines.get(line.key)?.drawn ?? this.chart.addSeries(lib.LineSeries, options);
      drawn.applyOptions(options);
      this.lines.set(line.key, { ...line, drawn });
    }
    this.chart.timeScale().applyOptions({ timeVisible: interval !== "1d" });
    this.redraw();
  }

  // Everything anew, after rows came at either end; the view stays where it is.
  redraw() {
    this.times = [...new Set([...this.lines.values()].flatMap(({ series }) => series.rows.map(({ time }) => time)))].sort((a, b) => a - b);
    for (const line of this.lines.values()) line.drawn.setData(line.series.rows.map((row, index) => this.point(index, line)));
  }

  point(index, { series, side, unit }) {
    const rows = series.rows, row = rows[index], point = { time: row.time - this.shift, value: valueOf(row, side, unit) };
    // Nothing is known of a gap: no line goes across it. The newest point lends its colour to the label on the scale.
    if (index && row !== rows.at(-1) && row.time - rows[index - 1].time > 2 * series.length) point.color = HIDDEN;
    return point;
  }

  // The newest row of a series.
  update(series) {
    const count = series.rows.length, { time } = series.rows[count - 1];
    for (const line of this.lines.values()) {
      if (line.series !== series) continue;
      line.drawn.update(this.point(count - 1, line));
      if (count > 1) line.drawn.update(this.point(count - 2, line), true); // it is not the newest any more
    }
    if (time > (this.times.at(-1) ?? 0)) this.times.push(time);
  }

  setPercent(isPercent) {
    this.chart.priceScale("right").applyOptions({ mode: isPercent ? PERCENTAGE : NORMAL });
  }

  // So many seconds, up to a time or to now; with `isWhole` not much more than there is.
  setSpan(seconds, to, isWhole) {
    const wanted = seconds / LENGTHS[this.interval], bars = isWhole && to === null ? Math.max(20, Math.min(wanted, this.times.length * 1.02)) : wanted;
    const end = to === null ? this.times.length + bars * 0.03 : this.indexOf(to);
    this.chart.timeScale().setVisibleLogicalRange({ from: end - bars, to: end });
  }

  // What is in view: {from, to} in seconds, and whether the newest row is.
  view() {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    if (!range || !this.times.length) return null;
    return { from: this.timeOf(range.from), to: this.timeOf(range.to), isNow: range.to >= this.times.length - 1 };
  }

  indexOf(time) {
    const last = this.times.length - 1;
    if (time >= this.times[last]) return last + (time - this.times[last]) / LENGTHS[this.interval];
    const found = this.times.findIndex((each) => each >= time);
    return found === 0 ? (time - this.times[0]) / LENGTHS[this.interval] : found;
  }

  timeOf(index) {
    const last = this.times.length - 1, length = LENGTHS[this.interval], whole = Math.round(index);
    if (whole < 0) return this.times[0] + whole * length;
    return whole > last ? this.times[last] + (whole - last) * length : this.times[whole];
  }

  // Arrows scroll, plus and minus zoom, End goes to now.
  move(event) {
    const scale = this.chart.timeScale(), range = scale.getVisibleLogicalRange();
    if (!range || event.ctrlKey || event.metaKey || event.altKey) return;
    const width = range.to - range.from;
    const moved = {
      ArrowLeft: [-0.1, -0.1], ArrowRight: [0.1, 0.1], "+": [0.1, 0], "=": [0.1, 0], "-": [-0.12, 0],
    }[event.key];
    if (event.key === "End") scale.scrollToRealTime();
    else if (moved) {
      this.touched = Date.now();
      scale.setVisibleLogicalRange({ from: range.from + moved[0] * width, to: range.to + moved[1] * width });
    } else return;
    event.preventDefault();
  }
}
