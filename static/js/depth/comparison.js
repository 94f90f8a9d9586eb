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
    this.first = this.last = null; // the oldest and the newest time of all lines
    this.touched = 0;
    this.target = null; // the logical range that the next frame will show
    this.chart = lib.createChart(root, {
      autoSize: true,
      layout: { background: { color: "#11161e" }, textColor: "#8794a5", attributionLogo: true },
      grid: { vertLines: { color: "#1a222d" }, horzLines: { color: "#1a222d" } },
      timeScale: { timeVisible: true, borderColor: "#222c39", minBarSpacing: 0.08 },
      rightPriceScale: { borderColor: "#222c39", scaleMargins: { top: 0.14, bottom: 0.06 } },
      crosshair: { mode: 0 },
      localization: { priceFormatter: volume },
    });
    // Without values, for its times: where rows are missing the scale goes on as time does.
    this.clock = this.chart.addSeries(lib.LineSeries, { lastValueVisible: false, priceLineVisible: false, crosshairMarkerVisible: false });
    const scale = this.chart.timeScale();
    scale.subscribeVisibleLogicalRangeChange((range) => {
      if (!range || this.isEmpty) return;
      // Who scrolls will want what is beyond the edge; otherwise only what is in view is asked for.
      const isScrolled = this.isScrolled, margin = isScrolled ? NEAR : -2;
      if (range.from < margin) onOlder();
      if (range.to > this.count - margin) onNewer();
      if (!isScrolled) return;
      clearTimeout(this.telling);
      this.telling = setTimeout(() => onRange(), RANGE_MS);
    });
    this.chart.subscribeCrosshairMove(({ time }) => onCrosshair(time === undefined ? null : time + this.shift));
    for (const kind of ["wheel", "pointerdown", "pointermove", "touchmove"])
      root.addEventListener(kind, (event) => (kind !== "pointermove" || event.buttons) && (this.touched = Date.now()), { passive: true, capture: true });
    root.addEventListener("keydown", (event) => this.move(event));
  }

  get isEmpty() {
    return this.first === null;
  }

  // Whether the reader has just moved it.
  get isScrolled() {
    return Date.now() - this.touched < USER_MS;
  }

  // Of points on the scale.
  get count() {
    return this.isEmpty ? 0 : (this.last - this.first) / this.length + 1;
  }

  get length() {
    return LENGTHS[this.interval];
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
    const before = this.first;
    const filled = [...this.lines.values()].map(({ series }) => series.rows).filter(({ length }) => length);
    this.first = filled.length ? Math.min(...filled.map((rows) => rows[0].time)) : null;
    this.last = filled.length ? Math.max(...filled.map((rows) => rows.at(-1).time)) : null;
    this.clock.setData(Array.from({ length: this.count }, (_, index) => ({ time: this.timeOf(index) - this.shift })));
    for (const line of this.lines.values()) line.drawn.setData(line.series.rows.map((row, index) => this.point(index, line)));
    if (!this.target || before === null || this.isEmpty) return;
    const older = (before - this.first) / this.length;
    this.moveTo({ from: this.target.from + older, to: this.target.to + older });
  }

  point(index, { series, side, unit }) {
    const rows = series.rows, row = rows[index], next = rows[index + 1], point = { time: row.time - this.shift, value: valueOf(row, side, unit) };
    // Nothing is known of a gap: no line goes across it. A point's colour is that of the line from it to the next one.
    if (next && next.time - row.time > 2 * series.length) point.color = HIDDEN;
    return point;
  }

  // The newest row of a series.
  update(series) {
    const count = series.rows.length, { time } = series.rows[count - 1];
    if (this.isEmpty || time > this.last + this.length) {
      this.redraw();
      return;
    }
    this.last = Math.max(this.last, time);
    for (const line of this.lines.values()) {
      if (line.series !== series) continue;
      line.drawn.update(this.point(count - 1, line));
      if (count > 1) line.drawn.update(this.point(count - 2, line), true); // a gap may begin there
    }
  }

  setPercent(isPercent) {
    this.chart.priceScale("right").applyOptions({ mode: isPercent ? PERCENTAGE : NORMAL });
  }

  // So many seconds, up to a time or to now; with `isWhole` not much more than there is.
  setSpan(seconds, to, isWhole) {
    const wanted = seconds / this.length, bars = isWhole && to === null ? Math.max(20, Math.min(wanted, this.count * 1.02)) : wanted;
    const end = to === null ? this.count + bars * 0.03 : (to - this.first) / this.length;
    this.moveTo({ from: end - bars, to: end });
  }

  // What is in view: {from, to} in seconds, and whether the newest row is.
  view() {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    if (!range || this.isEmpty) return null;
    return { from: this.timeOf(Math.floor(range.from)), to: this.timeOf(Math.ceil(range.to)), isNow: range.to >= this.count - 1 };
  }

  timeOf(index) {
    return this.first + index * this.length;
  }

  // Arrows scroll, plus and minus zoom, End goes to now.
  move(event) {
    const scale = this.chart.timeScale(), range = this.target ?? scale.getVisibleLogicalRange();
    if (!range || event.ctrlKey || event.metaKey || event.altKey) return;
    const width = range.to - range.from;
    const moved = {
      ArrowLeft: [-0.1, -0.1], ArrowRight: [0.1, 0.1], "+": [0.1, 0], "=": [0.1, 0], "-": [-0.12, 0],
    }[event.key];
    if (event.key === "End") scale.scrollToRealTime();
    else if (moved) {
      this.touched = Date.now();
      this.moveTo({ from: range.from + moved[0] * width, to: range.to + moved[1] * width });
    } else return;
    event.preventDefault();
  }

  // The library moves with the next frame: keys that are pressed until then go on from where it will be.
  moveTo(range) {
    this.target = range;
    this.chart.timeScale().setVisibleLogicalRange(range);
    requestAnimationFrame(() => (this.target = null));
  }
}
