// Resting volume by price and time as an image, one pixel a cell. It is painted once for each answer and scale; panning
// and zooming only stretch it.
const STOPS = [[0, 15, 22, 42], [0.18, 20, 38, 84], [0.4, 28, 78, 150], [0.62, 38, 140, 190], [0.82, 130, 205, 208], [1, 250, 246, 205]];
const SHADES = 256;
// Colours end at this share of the cells that have volume: one giant order must not make all others invisible.
const SATURATED = 0.995, FAINTEST = 0.2;

export const RAMP = Array.from({ length: SHADES }, (_, index) => {
  const at = index / (SHADES - 1), upper = Math.max(1, STOPS.findIndex(([stop]) => stop >= at));
  const [low, high] = [STOPS[upper - 1], STOPS[upper]], share = (at - low[0]) / (high[0] - low[0]);
  return [1, 2, 3].map((part) => Math.round(low[part] + share * (high[part] - low[part])));
});
// Pixels as the image's memory has them: red first, on the little-endian machines that browsers run on.
const PIXELS = Uint32Array.from(RAMP, ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red);

// How volume becomes a share of the colours: `top` and `floor` in coins of a cell of the layer it was made from.
export class Scale {
  constructor(kind, top, floor) {
    Object.assign(this, { kind, top, floor });
  }

  static of(kind, layer) {
    const sizes = Float64Array.from(layer.sizes().filter((size) => size > 0)).sort();
    const at = (share) => sizes[Math.min(sizes.length - 1, Math.floor(share * sizes.length))] || 1;
    return new Scale(kind, at(SATURATED), at(FAINTEST));
  }

  share(volume) {
    const share = this.kind === "log" ? Math.log1p(volume / this.floor) / Math.log1p(this.top / this.floor) : volume / this.top;
    return Math.min(1, share);
  }

  volume(share) {
    return this.kind === "log" ? this.floor * Math.expm1(share * Math.log1p(this.top / this.floor)) : this.top * share;
  }
}

// One answer of the heatmap's endpoint on an even grid of time and price. What nothing is known of is NaN: minutes without
// a book, and prices further than a book is known.
export class Layer {
  constructor({ times, prices, step, interval, known, bids, asks }) {
    this.rows = prices.length;
    this.low = prices[0];
    this.step = step;
    this.high = this.low + this.rows * step;
    this.width = interval;
    this.from = times[0];
    this.columns = Math.round((times.at(-1) - this.from) / interval) + 1;
    this.to = this.from + this.columns * interval;
    this.bids = new Float64Array(this.columns * this.rows).fill(NaN);
    this.asks = this.bids.slice();
    times.forEach((time, index) => {
      const start = Math.round((time - this.from) / interval) * this.rows;
      for (const [kept, told] of [[this.bids, bids[index]], [this.asks, asks[index]]]) {
        for (let row = 0; row < this.rows; row++) kept[start + row] = told[row] ?? NaN;
      }
    });
    this.best = this.bestRows();
    // Between which prices nothing is missing, by column; null where there is no book.
    this.sure = new Array(this.columns).fill(null);
    times.forEach((time, index) => {
      const [low, high] = known[index];
      this.sure[Math.round((time - this.from) / interval)] = { low, high };
    });
    this.filled = this.filledPrices();
  }

  // Of both sides together, NaN where neither is known.
  size(index) {
    const bid = this.bids[index], ask = this.asks[index];
    return Number.isNaN(bid) ? ask : Number.isNaN(ask) ? bid : bid + ask;
  }

  sizes() {
    return this.bids.map((_, index) => this.size(index));
  }

  // The highest price with bids and the lowest with asks of each column, as near as rows tell.
  bestRows() {
    return Array.from({ length: this.columns }, (_, column) => {
      const start = column * this.rows;
      let bid = this.rows - 1, ask = 0;
      while (bid >= 0 && !(this.bids[start + bid] > 0)) bid--;
      while (ask < this.rows && !(this.asks[start + ask] > 0)) ask++;
      const best = { bid: bid < 0 ? null : this.low + (bid + 1) * this.step, ask: ask === this.rows ? null : this.low + ask * this.step };
      // Both in one row: no row tells which price lies between them.
      if (best.bid !== null && best.ask !== null && best.bid > best.ask) best.bid = best.ask = (best.bid + best.ask) / 2;
      return best;
    });
  }

  // The prices between which anything rests: of a thin book that is little of what is known.
  filledPrices() {
    let first = this.rows, last = -1;
    for (let index = 0; index < this.bids.length; index++) {
      if (!(this.size(index) > 0)) continue;
      first = Math.min(first, index % this.rows);
      last = Math.max(last, index % this.rows);
    }
    return last < 0 ? { low: this.low, high: this.high } : { low: this.low + first * this.step, high: this.low + (last + 1) * this.step };
  }

  // What rests at a price and a moment; null outside and where nothing is known.
  at(time, price) {
    const column = Math.floor((time - this.from) / this.width), row = Math.floor((price - this.low) / this.step);
    if (column < 0 || column >= this.columns || row < 0 || row >= this.rows) return null;
    const index = column * this.rows + row;
    if (Number.isNaN(this.size(index))) return null;
    const from = this.low + row * this.step, { low, high } = this.sure[column], rounding = this.step / 1e6;
    return { time: this.from + column * this.width, price: from, bid: this.bids[index], ask: this.asks[index], isSure: from >= low - rounding && from + this.step <= high + rounding };
  }

  // `perRow`: the price step that the scale's volumes are of, so that finer and coarser layers share its colours.
  paint(scale, perRow) {
    const canvas = new OffscreenCanvas(this.columns, this.rows), context = canvas.getContext("2d");
    const image = context.createImageData(this.columns, this.rows), pixels = new Uint32Array(image.data.buffer);
    const factor = perRow / this.step;
    for (let column = 0; column < this.columns; column++) {
      for (let row = 0; row < this.rows; row++) {
        const size = this.size(column * this.rows + row);
        if (Number.isNaN(size)) continue;
        const share = scale.share(size * factor);
        pixels[(this.rows - 1 - row) * this.columns + column] = PIXELS[Math.round(share * (SHADES - 1))];
      }
    }
    context.putImageData(image, 0, 0);
    this.image = canvas;
  }
}
