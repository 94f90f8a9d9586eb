// What is known of one symbol, market and depth at one interval: loaded in pieces, older ones as they are wanted, kept
// while the page is open. A row has the server's texts: bidVolume, askVolume, bidVolumeUsd, askVolumeUsd.
import { request } from "../api.js";

export const LENGTHS = { "1m": 60, "1h": 3600, "1d": 86400 };
// Seconds of one request: the API gives at most 5,000 minutes and 92 days of hours at once.
const PIECES = { "1m": 86400, "1h": 90 * 86400, "1d": 3 * 365 * 86400 };
// In an empty stretch minutes are looked for further at once.
const LARGEST_PIECES = { ...PIECES, "1m": 3 * 86400 };
// Hours and days are kept for ever: so many pieces without any are taken for the beginning.
const EMPTY_PIECES = 2;
const VOLUMES = ["bidVolume", "askVolume", "bidVolumeUsd", "askVolumeUsd"];
const MOST_SERIES = 64;
// Rows are written up to a minute late, and replace what was told live.
const RECENT = 4;

const now = () => Math.floor(Date.now() / 1000);

export const keyOf = ({ symbol, market, depth }) => `${symbol}:${market}:${depth}`;

export class Series {
  constructor({ symbol, market, depth }, interval) {
    Object.assign(this, { symbol, market, depth, interval });
    this.length = LENGTHS[interval];
    this.key = keyOf(this);
    this.clear();
  }

  clear() {
    this.rows = [];
    this.from = this.to = null; // what has been asked for
    this.isWhole = false; // there is nothing older
    this.under = null;
  }

  get isOpen() {
    return this.from !== null;
  }

  // Whether it reaches until now, so that live rows belong to its end.
  get isCurrent() {
    return this.isOpen && this.to >= now() - 3 * this.length;
  }

  // The first piece: `span` seconds until `to`, or until now. Tells whether there was anything.
  open(span, to = null) {
    const end = to ?? now(), start = end - Math.min(span, PIECES[this.interval]);
    return this.alone(async () => {
      if (this.isOpen) return true;
      const rows = await this.ask(start, end);
      this.from = start;
      this.to = end;
      this.merge(rows);
      return rows.length > 0;
    });
  }

  // The piece before what is known. Tells whether rows came.
  older() {
    return this.alone(async () => {
      for (let empty = 0; !this.isWhole; ) {
        const end = this.from - 1, start = end - (empty ? LARGEST_PIECES : PIECES)[this.interval];
        const rows = await this.ask(start, end);
        this.from = start;
        this.merge(rows);
        if (rows.length) return true;
        empty += 1;
        this.isWhole = await this.nothingBefore(start, empty);
      }
      return false;
    });
  }

  // The piece after what is known, up to now. Tells whether rows came.
  newer() {
    return this.alone(async () => {
      const start = Math.max(this.from, this.to - RECENT * this.length), end = Math.min(now(), start + PIECES[this.interval]);
      const rows = await this.ask(start, end);
      this.to = end;
      this.merge(rows);
      return rows.length > 0;
    });
  }

  async nothingBefore(time, empty) {
    if (this.interval !== "1m") return empty >= EMPTY_PIECES;
    const { oldest } = await request("GET", `analytics/stats?symbol=${this.symbol}&marketType=${this.market}`);
    return oldest === null || Date.parse(oldest) / 1000 >= time;
  }

  // One request at a time: whoever asks meanwhile gets its answer.
  alone(work) {
    this.under ??= work().finally(() => (this.under = null));
    return this.under;
  }

  async ask(from, to) {
    const of = `symbol=${this.symbol}&marketType=${this.market}&depth=${this.depth}&from=${from}&to=${to}`;
    if (this.interval === "1m") {
      const { results } = await request("GET", `snapshots?${of}&limit=5000`);
      return results.map((row) => ({ ...row, time: Date.parse(row.timestamp) / 1000 }));
    }
    const { results } = await request("GET", `analytics/history?${of}&interval=${this.interval}`);
    return results.map(({ start, ...each }) => Object.assign({ time: Date.parse(start) / 1000 }, ...VOLUMES.map((name) => ({ [name]: each[name].avg }))));
  }

  merge(rows) {
    if (!rows.length) return;
    const known = new Map(this.rows.map((row) => [row.time, row])), finished = now() - this.length;
    // The minute that is not over stays as it was told live, which is newer.
    for (const row of rows) if (row.time <= finished || !known.has(row.time)) known.set(row.time, row);
    this.rows = [...known.values()].sort((a, b) => a.time - b.time);
  }

  // A book as it is now becomes the row of its minute; minutes only. Tells whether it did.
  put(book) {
    if (this.interval !== "1m" || !this.isCurrent) return false;
    const volumes = book.depthVolumes.find(({ depth }) => depth === this.depth);
    const time = Math.floor(book.timestamp / 60000) * 60, last = this.rows.at(-1);
    // A stale book is no news: what was stored of its minute is the word on it.
    if (!volumes || book.wsStatus === "STALE" || (last && last.time > time)) return false;
    if (last?.time === time) this.rows.pop();
    this.rows.push({ ...volumes, time });
    this.to = Math.max(this.to, time);
    return true;
  }

  // The row of a time, or the newest before it.
  at(time) {
    return this.rows[this.countUntil(time) - 1];
  }

  // The first row from a time on.
  after(time) {
    return this.rows[this.countUntil(time - 1)];
  }

  countUntil(time) {
    let low = 0, high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].time <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

// All series that the page has seen, the ones seen longest ago given up first.
export class SeriesStore {
  constructor() {
    this.known = new Map();
  }

  get(entry, interval) {
    const key = `${keyOf(entry)}:${interval}`, found = this.known.get(key) ?? new Series(entry, interval);
    this.known.delete(key);
    this.known.set(key, found);
    if (this.known.size > MOST_SERIES) this.known.delete(this.known.keys().next().value);
    return found;
  }
}

// A side of a row in coins or dollars, as a number; mean: of both sides.
export function valueOf(row, side, unit) {
  const of = (name) => Number(row[unit === "usd" ? `${name}Usd` : name]);
  if (side === "mean") return (of("bidVolume") + of("askVolume")) / 2;
  return of(side === "bid" ? "bidVolume" : "askVolume");
}

// Whether what is shown is a lower bound: levels beyond what is known of the book could be in it. Aggregates cannot tell.
export const isLowerBound = (row, side) => (side !== "ask" && row.bidCovered === false) || (side !== "bid" && row.askCovered === false);
