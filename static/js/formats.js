// How numbers and times look. Text from the server stays text wherever it is only shown.
export function decimals(step) {
  const point = step.indexOf(".");
  return point < 0 ? 0 : step.replace(/0+$/, "").length - point - 1;
}

export function money(value, digits = 2) {
  if (value === null || value === undefined || value === "") return "—";
  return Number(value).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function signed(value, digits = 2) {
  const number = Number(value);
  return (number > 0 ? "+" : number < 0 ? "−" : "") + money(Math.abs(number), digits);
}

export function fixed(value, digits) {
  return value === null || value === undefined || value === "" ? "—" : Number(value).toFixed(digits);
}

export function compact(value) {
  return Number(value).toLocaleString("en-US", { notation: "compact", maximumFractionDigits: 2 });
}

// Made once: toLocaleString makes one each time, which a chart's scale notices.
const LARGE = new Intl.NumberFormat("en-US", { notation: "compact", minimumFractionDigits: 2, maximumFractionDigits: 2 });
const PLAIN = [0, 1, 2, 5].map((maximumFractionDigits) => new Intl.NumberFormat("en-US", { maximumFractionDigits }));

// Volumes from dust to billions: some five digits that matter, from a million on M, B.
export function volume(value) {
  if (value === null || value === undefined || value === "") return "—";
  const number = Number(value), size = Math.abs(number);
  if (size >= 1e6) return LARGE.format(number);
  return PLAIN[size >= 1e4 ? 0 : size >= 1000 ? 1 : size >= 10 ? 2 : 3].format(number);
}

export function signedVolume(value) {
  return (Number(value) > 0 ? "+" : Number(value) < 0 ? "−" : "") + volume(Math.abs(value));
}

export function ago(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 90) return `${seconds} s ago`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min ago` : `${Math.round(minutes / 60)} h ago`;
}

export function clock(value) {
  return new Date(value).toLocaleTimeString("en-GB", { hour12: false });
}

export function moment(value) {
  const date = new Date(value);
  const today = new Date().toDateString() === date.toDateString();
  return today ? clock(date) : `${date.toISOString().slice(5, 10)} ${clock(date)}`;
}

export function tone(value) {
  return Number(value) > 0 ? "up" : Number(value) < 0 ? "down" : "";
}

export function element(tag, text = "", classes = "") {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (classes) made.className = classes;
  return made;
}
