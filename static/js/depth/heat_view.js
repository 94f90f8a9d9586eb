// The heatmap on its canvas: which window of time and price is seen, drawing it, and moving it by mouse, touch and keys.
// Nothing is computed of volumes here: layers are painted already.
const AXIS_RIGHT = 76, AXIS_BOTTOM = 24, LEAST_COLUMNS = 8, LEAST_ROWS = 6, WHEEL = 0.0016, KEY_PAN = 0.1, KEY_ZOOM = 1.25;
const NICE_SECONDS = [60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 604800];
const SURE = "#dfe6ee90", BID = "#3ddc9a", ASK = "#ff7a87", INK = "#0b0e13", TEXT = "#aab6c5", LINE = "#222c39";

const two = (number) => String(number).padStart(2, "0");
const dayText = (date) => `${two(date.getDate())}.${two(date.getMonth() + 1)}.`;
const clockText = (date) => `${two(date.getHours())}:${two(date.getMinutes())}`;

export class HeatView {
  // `canvas` is drawn on whatever moves, `overlay` lies on it for the crosshair: pointing redraws no volumes.
  constructor(canvas, overlay, { onPoint, onMove }) {
    Object.assign(this, { canvas, overlay, onPoint, onMove });
    this.context = canvas.getContext("2d", { alpha: false });
    this.cross = overlay.getContext("2d");
    this.layers = [];
    this.window = null;
    this.point = null;
    this.quote = null;
    this.pointers = new Map();
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.listen();
  }

  // The first layer is the whole answer; others lie on it, finer or newer.
  show(layers, { keepWindow = false } = {}) {
    this.layers = layers;
    if (!layers.length) this.window = null;
    else if (!keepWindow || !this.window) this.fit();
    this.redraw();
  }

  get extent() {
    const { from, low, high } = this.layers[0];
    return { from, to: Math.max(...this.layers.map(({ to }) => to)), low, high };
  }

  fit() {
    if (!this.layers.length) return;
    const { from, to } = this.extent, [{ filled, step }] = this.layers;
    const spare = Math.max((filled.high - filled.low) * 0.02, (LEAST_ROWS * step - (filled.high - filled.low)) / 2);
    this.window = { from, to: to + (to - from) * 0.02, low: filled.low - spare, high: filled.high + spare };
    this.moved();
  }

  setWindow(window) {
    this.window = window;
    this.moved();
  }

  // Whether the newest column is in sight: then the view goes along with time.
  follows() {
    return Boolean(this.window) && this.window.to >= this.extent.to - this.layers[0].width;
  }

  shift(seconds) {
    this.window.from += seconds;
    this.window.to += seconds;
    this.moved();
  }

  setQuote(quote) {
    this.quote = quote;
    this.redraw();
  }

  resize() {
    const ratio = devicePixelRatio || 1, box = this.canvas.parentElement.getBoundingClientRect();
    Object.assign(this, { ratio, width: box.width, height: box.height });
    for (const each of [this.canvas, this.overlay]) {
      each.width = Math.round(box.width * ratio);
      each.height = Math.round(box.height * ratio);
    }
    this.redraw();
  }

  get plotWidth() {
    return Math.max(10, this.width - AXIS_RIGHT);
  }

  get plotHeight() {
    return Math.max(10, this.height - AXIS_BOTTOM);
  }

  x(time) {
    return ((time - this.window.from) / (this.window.to - this.window.from)) * this.plotWidth;
  }

  y(price) {
    return ((this.window.high - price) / (this.window.high - this.window.low)) * this.plotHeight;
  }

  time(x) {
    return this.window.from + (x / this.plotWidth) * (this.window.to - this.window.from);
  }

  price(y) {
    return this.window.high - (y / this.plotHeight) * (this.window.high - this.window.low);
  }

  // Moving. Every way of moving ends in `zoom` or `pan`.

  pan(dx, dy) {
    const { from, to, low, high } = this.window;
    const seconds = (dx / this.plotWidth) * (to - from), step = (dy / this.plotHeight) * (high - low);
    this.setWindow(this.held({ from: from - seconds, to: to - seconds, low: low + step, high: high + step }));
  }

  zoom(byTime, byPrice, x = this.plotWidth / 2, y = this.plotHeight / 2) {
    const { from, to, low, high } = this.window, [base] = this.layers, all = this.extent;
    const seconds = clamp((to - from) / byTime, LEAST_COLUMNS * base.width, (all.to - all.from) * 1.3);
    const span = clamp((high - low) / byPrice, LEAST_ROWS * base.step, (all.high - all.low) * 1.3);
    const time = this.time(x), price = this.price(y);
    const begin = time - (x / this.plotWidth) * seconds, top = price + (y / this.plotHeight) * span;
    this.setWindow(this.held({ from: begin, to: begin + seconds, low: top - span, high: top }));
  }

  // Some of the data always stays in sight.
  held({ from, to, low, high }) {
    const all = this.extent, spare = 0.2;
    const late = clamp(from, all.from - (to - from) * (1 - spare), all.to - (to - from) * spare) - from;
    const up = clamp(low, all.low - (high - low) * (1 - spare), all.high - (high - low) * spare) - low;
    return { from: from + late, to: to + late, low: low + up, high: high + up };
  }

  moved() {
    this.onMove?.(this.window);
    this.redraw();
  }

  listen() {
    const surface = this.overlay;
    surface.addEventListener("wheel", (event) => {
      if (!this.window) return;
      event.preventDefault();
      const by = Math.exp(-event.deltaY * WHEEL), { x, y } = this.place(event);
      // On the price axis, or with Shift, prices are zoomed; a pinch on a touchpad comes with Ctrl and zooms both.
      const prices = event.shiftKey || x > this.plotWidth;
      if (event.ctrlKey) this.zoom(by, by, x, y);
      else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && !event.shiftKey) this.pan(-event.deltaX, 0);
      else if (prices) this.zoom(1, Math.exp(-(event.deltaY || event.deltaX) * WHEEL), x, y);
      else this.zoom(by, 1, x, y);
    }, { passive: false });
    surface.addEventListener("pointerdown", (event) => {
      if (!this.window) return;
      surface.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, this.place(event));
      this.setPoint(this.place(event));
    });
    surface.addEventListener("pointermove", (event) => this.window && this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) surface.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    surface.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && !this.pointers.size && this.setPoint(null));
    surface.addEventListener("dblclick", () => this.fit());
    surface.addEventListener("keydown", (event) => this.window && this.key(event));
  }

  place(event) {
    const box = this.overlay.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  drag(event) {
    const now = this.place(event), before = this.pointers.get(event.pointerId);
    if (before) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) this.pinch(before, now, other);
      else if (before.x > this.plotWidth) this.zoom(1, Math.exp((before.y - now.y) * 0.006));
      else this.pan(now.x - before.x, now.y - before.y);
      this.pointers.set(event.pointerId, now);
    }
    this.setPoint(now);
  }

  pinch(before, now, other) {
    const spread = (a, b) => Math.max(24, Math.abs(a - b));
    const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
    this.zoom(spread(now.x, other.x) / spread(before.x, other.x), spread(now.y, other.y) / spread(before.y, other.y), middle.x, middle.y);
    this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
  }

  key(event) {
    const across = { ArrowLeft: 1, ArrowRight: -1 }[event.key] || 0, down = { ArrowUp: 1, ArrowDown: -1 }[event.key] || 0;
    if (event.ctrlKey || event.metaKey) return;
    if ((across || down) && event.altKey) this.step(-across, down);
    else if ((across || down) && event.shiftKey) this.zoom(across ? KEY_ZOOM ** -across : 1, down ? KEY_ZOOM ** down : 1);
    else if (across || down) this.pan(across * KEY_PAN * this.plotWidth, down * KEY_PAN * this.plotHeight);
    else if (event.key === "+" || event.key === "=") this.zoom(KEY_ZOOM, KEY_ZOOM);
    else if (event.key === "-") this.zoom(1 / KEY_ZOOM, 1 / KEY_ZOOM);
    else if (event.key === "0" || event.key === "Home") this.fit();
    else if (event.key === "Escape") this.setPoint(null);
    else return;
    event.preventDefault();
  }

  // The crosshair by keys: a cell at a time.
  step(columns, rows) {
    const { width, step } = this.layers[0];
    const at = this.point || { x: this.plotWidth / 2, y: this.plotHeight / 2 };
    const x = this.x(this.time(at.x) + columns * width), y = this.y(this.price(at.y) + rows * step);
    this.setPoint({ x: clamp(x, 0, this.plotWidth - 1), y: clamp(y, 0, this.plotHeight - 1) }, true);
  }

  setPoint(point, spoken = false) {
    const inside = point && point.x >= 0 && point.y >= 0 && point.x <= this.plotWidth && point.y <= this.plotHeight;
    this.point = inside ? point : null;
    this.onPoint?.(this.point && this.cell(), spoken);
    this.redraw({ volumes: false });
  }

  // What is under the crosshair, of the uppermost layer that knows.
  cell() {
    const time = this.time(this.point.x), price = this.price(this.point.y);
    for (let index = this.layers.length - 1; index >= 0; index--) {
      const found = this.layers[index].at(time, price);
      if (found) return { ...found, step: this.layers[index].step };
    }
    return { time, price, step: this.layers[0].step, bid: null, ask: null };
  }

  // Drawing, once a frame at most.

  redraw({ volumes = true } = {}) {
    this.stale ||= volumes;
    this.wanted ??= requestAnimationFrame(() => {
      this.wanted = null;
      if (!this.ratio) return;
      if (this.stale) this.draw();
      this.stale = false;
      this.drawCross();
    });
  }

  draw() {
    const { context, ratio } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = INK;
    context.fillRect(0, 0, this.width, this.height);
    if (!this.window) return;
    context.save();
    context.beginPath();
    context.rect(0, 0, this.plotWidth, this.plotHeight);
    context.clip();
    context.imageSmoothingEnabled = false;
    for (const layer of this.layers) {
      const left = this.x(layer.from), top = this.y(layer.high);
      context.drawImage(layer.image, left, top, this.x(layer.to) - left, this.y(layer.low) - top);
    }
    this.drawSure();
    this.drawBest();
    context.restore();
    this.drawAxes();
  }

  // The times of a layer's columns that are in sight and that no layer above it shows.
  *columnsOf(index) {
    const layer = this.layers[index], above = this.layers.slice(index + 1);
    const first = Math.max(0, Math.floor((this.window.from - layer.from) / layer.width));
    const last = Math.min(layer.columns, Math.ceil((this.window.to - layer.from) / layer.width));
    for (let column = first; column < last; column++) {
      const time = layer.from + column * layer.width;
      if (!above.some(({ from, to }) => time >= from && time < to)) yield { column, time };
    }
  }

  // How far every order is known: further away is the least that rests there.
  drawSure() {
    const path = new Path2D();
    this.layers.forEach((layer, index) => {
      for (const { column, time } of this.columnsOf(index)) {
        const { low, high } = layer.sure[column] ?? {};
        for (const price of [low, high]) {
          // Where it is at the map's own edge there is nothing to tell.
          if (price === undefined || price <= layer.low || price >= layer.high) continue;
          path.moveTo(this.x(time), this.y(price));
          path.lineTo(this.x(time + layer.width), this.y(price));
        }
      }
    });
    this.context.lineWidth = 1;
    this.context.strokeStyle = SURE;
    this.context.stroke(path);
  }

  drawBest() {
    const bid = this.bestPath("bid"), ask = this.bestPath("ask");
    for (const [path, width, ink] of [[bid, 4, INK], [ask, 4, INK], [bid, 1.5, BID], [ask, 1.5, ASK]]) {
      this.context.lineWidth = width;
      this.context.strokeStyle = ink;
      this.context.stroke(path);
    }
  }

  bestPath(side) {
    // Where one row holds both, the lines lie side by side.
    const path = new Path2D(), aside = side === "bid" ? 1 : -1;
    // The book now is told to the tick, and takes the place of the newest column's rows.
    const newest = this.extent.to - this.layers.at(-1).width, told = this.quote?.time > newest ? this.quote : null;
    this.layers.forEach((layer, index) => {
      let end = null;
      for (const { column, time } of this.columnsOf(index)) {
        const price = told && time >= newest ? null : layer.best[column][side];
        const y = price === null ? null : this.y(price) + aside;
        if (y !== null) {
          path[end === time ? "lineTo" : "moveTo"](this.x(time), y);
          path.lineTo(this.x(time + layer.width), y);
        }
        end = y === null ? null : time + layer.width;
      }
    });
    if (told) {
      path.moveTo(this.x(newest), this.y(told[side]) + aside);
      path.lineTo(this.x(told.time), this.y(told[side]) + aside);
    }
    return path;
  }

  drawAxes() {
    const { context } = this;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = TEXT;
    context.strokeStyle = LINE;
    context.lineWidth = 1;
    context.strokeRect(-1, -1, this.plotWidth + 1.5, this.plotHeight + 1.5);
    context.textBaseline = "middle";
    context.textAlign = "left";
    const step = niceStep((this.window.high - this.window.low) / Math.max(3, this.plotHeight / 48));
    for (let price = Math.ceil(this.window.low / step) * step; price < this.window.high; price += step) {
      const y = this.y(price);
      if (y > 8 && y < this.plotHeight - 8) context.fillText(this.priceText(price, step), this.plotWidth + 6, y);
    }
    context.textAlign = "center";
    const wanted = (this.window.to - this.window.from) / Math.max(2, this.plotWidth / 90);
    const seconds = NICE_SECONDS.find((each) => each >= wanted) ?? NICE_SECONDS.at(-1);
    const zone = 60 * new Date(1000 * this.window.from).getTimezoneOffset();
    for (let time = Math.ceil((this.window.from - zone) / seconds) * seconds + zone; time < this.window.to; time += seconds) {
      const x = this.x(time), date = new Date(time * 1000);
      const text = seconds >= 86400 || (date.getHours() === 0 && date.getMinutes() === 0) ? dayText(date) : clockText(date);
      if (x > 18 && x < this.plotWidth - 18) context.fillText(text, x, this.plotHeight + AXIS_BOTTOM / 2 + 1);
    }
    if (this.quote) {
      this.tag(context, this.quote.bid, this.quote.bidText, BID, 7);
      this.tag(context, this.quote.ask, this.quote.askText, ASK, -7);
    }
  }

  tag(context, price, text, color, below = 0) {
    const y = clamp(this.y(price) + below, 8, this.plotHeight - 8);
    if (this.y(price) < -4 || this.y(price) > this.plotHeight + 4) return;
    context.fillStyle = color;
    context.fillRect(this.plotWidth + 1, y - 8, AXIS_RIGHT - 1, 15);
    context.fillStyle = INK;
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(text, this.plotWidth + 6, y);
  }

  drawCross() {
    const { cross: context, point, ratio } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    if (!point || !this.window) return;
    context.strokeStyle = "#dfe6eeb0";
    context.lineWidth = 1;
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(Math.round(point.x) + 0.5, 0);
    context.lineTo(Math.round(point.x) + 0.5, this.plotHeight);
    context.moveTo(0, Math.round(point.y) + 0.5);
    context.lineTo(this.plotWidth, Math.round(point.y) + 0.5);
    context.stroke();
    context.setLineDash([]);
    context.font = "11px system-ui, sans-serif";
    this.tag(context, this.price(point.y), this.priceText(this.price(point.y)), "#dfe6ee");
    const date = new Date(this.time(point.x) * 1000), text = `${dayText(date)} ${clockText(date)}`;
    const x = clamp(point.x, 38, this.plotWidth - 38);
    context.fillStyle = "#dfe6ee";
    context.fillRect(x - 38, this.plotHeight + 3, 76, 17);
    context.fillStyle = INK;
    context.textAlign = "center";
    context.fillText(text, x, this.plotHeight + 12);
  }

  priceText(price, step = this.layers[0].step) {
    let digits = 0;
    while (digits < 10 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6 * step * 10 ** digits) digits++;
    return price.toFixed(digits);
  }
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, Math.min(low, high)), Math.max(low, high));
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((each) => each * power >= rough);
}
