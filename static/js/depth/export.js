// Files of exactly what the chart shows, and the server's own of all minutes of the span.
import { csv, download } from "./page.js";
import { sidesOf } from "./legend.js";
import { valueOf } from "./series.js";

const NAMES = { bid: "bidVolume", ask: "askVolume", mean: "meanVolume" };
const LONGEST = 62 * 86400; // seconds; the API streams no more at once

// Rows of the series in view: {timestamp, symbol, marketType, depth, volumes in the chart's unit}; with `percent` also
// their change since the first one in view, which is what the chart shows then.
export function rowsShown(shown, { side, unit, percent }, view) {
  return shown.flatMap((series) => {
    const rows = series.rows.filter(({ time }) => time >= view.from && time <= view.to), sides = sidesOf(side);
    return rows.map((row) => {
      const made = { timestamp: new Date(row.time * 1000).toISOString().replace(".000", ""), symbol: series.symbol, marketType: series.market, depth: series.depth };
      for (const each of sides) {
        const name = unit === "usd" ? `${NAMES[each]}Usd` : NAMES[each];
        made[name] = each === "mean" ? String(valueOf(row, each, unit)) : row[name];
        if (percent) made[`${NAMES[each]}ChangePercent`] = ((valueOf(row, each, unit) / valueOf(rows[0], each, unit) - 1) * 100).toFixed(6);
      }
      if (row.bidCovered !== undefined) Object.assign(made, { bidCovered: row.bidCovered, askCovered: row.askCovered });
      return made;
    });
  });
}

export function exportShown(format, rows, name) {
  if (format === "json") download(`${name}.json`, "application/json", JSON.stringify(rows, null, 1));
  else {
    const columns = [...new Set(rows.flatMap(Object.keys))];
    download(`${name}.csv`, "text/csv", csv(columns, rows.map((row) => columns.map((column) => row[column] ?? ""))));
  }
}

// Where the server's file of all minutes of a series is.
export function serverFile(format, { symbol, market, depth }, view) {
  const to = Math.ceil(view.to), from = Math.max(Math.floor(view.from), to - LONGEST);
  return `/api/v1/snapshots/export?symbol=${symbol}&marketType=${market}&depth=${depth}&from=${from}&to=${to}&as=${format}`;
}
