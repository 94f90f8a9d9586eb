// The equity curve, drawn when its tab is open.
const SHIFT = 60 * new Date().getTimezoneOffset();

export class EquityChart {
  constructor(root) {
    const lib = window.LightweightCharts;
    this.chart = lib.createChart(root, {
      autoSize: true,
      layout: { background: { color: "#11161e" }, textColor: "#8794a5", attributionLogo: false },
      grid: { vertLines: { visible: false }, horzLines: { color: "#1a222d" } },
      timeScale: { timeVisible: true, secondsVisible: true, borderColor: "#222c39" },
      rightPriceScale: { borderColor: "#222c39" },
    });
    this.series = this.chart.addSeries(lib.AreaSeries, { lineColor: "#e8b04a", topColor: "#e8b04a33", bottomColor: "#e8b04a00", lineWidth: 2 });
  }

  show(points) {
    const bySecond = new Map(points.map((point) => [Math.floor(new Date(point.taken_at) / 1000) - SHIFT, +point.equity]));
    this.series.setData([...bySecond].sort((a, b) => a[0] - b[0]).map(([time, value]) => ({ time, value })));
    this.chart.timeScale().fitContent();
  }

  remove() {
    this.chart.remove();
  }
}
