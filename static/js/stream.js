// The live connection: reconnects with back-off, subscribes again, and says how it is.
const FIRST_WAIT = 500, LAST_WAIT = 10000, PING_MS = 15000, SILENCE_MS = 40000;
// Market and depth frames between two acknowledgements: the server holds back, newest only, once too many are on their way.
const ACKNOWLEDGE_EVERY = 10;

export class Stream {
  constructor({ onMessage, onState }) {
    this.onMessage = onMessage;
    this.onState = onState;
    this.wanted = new Map();
    this.wait = FIRST_WAIT;
    this.connect();
    setInterval(() => this.beat(), PING_MS);
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  subscribe(key, message) {
    this.wanted.set(key, message);
    this.send({ type: "subscribe", ...message });
  }

  unsubscribe(key) {
    const message = this.wanted.get(key);
    if (message && this.wanted.delete(key)) this.send({ type: "unsubscribe", ...message });
  }

  connect() {
    clearTimeout(this.timer);
    this.onState("connecting", "connecting");
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = (this.socket = new WebSocket(`${scheme}://${location.host}/ws/v1/stream/`));
    socket.onopen = () => {
      this.heard = Date.now();
      this.frames = 0;
      this.onState("live", "live");
      for (const message of this.wanted.values()) this.send({ type: "subscribe", ...message });
    };
    socket.onmessage = (event) => {
      if (socket !== this.socket) return;
      this.heard = Date.now();
      this.wait = FIRST_WAIT;
      const message = JSON.parse(event.data);
      if (/^(market|depth)_/.test(message.type) && ++this.frames % ACKNOWLEDGE_EVERY === 0)
        this.send({ type: "ack", frames: this.frames });
      this.onMessage(message);
    };
    socket.onclose = (event) => {
      if (socket !== this.socket) return;
      if (event.code === 4401) {
        location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
        return;
      }
      this.retry();
    };
  }

  retry() {
    const delay = this.wait * (0.5 + Math.random() / 2);
    this.wait = Math.min(this.wait * 2, LAST_WAIT);
    this.onState("offline", `reconnecting in ${Math.max(1, Math.round(delay / 1000))} s`);
    this.timer = setTimeout(() => this.connect(), delay);
  }

  hurry() {
    if (this.socket.readyState === WebSocket.CLOSED) this.connect();
  }

  beat() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    if (Date.now() - this.heard > SILENCE_MS) this.socket.close();
    else this.send({ type: "ping" });
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}
