// A page's state in the query of its address: a view can be shared, and the back button goes to the view before.
//
//   const place = new PageLocation({ symbol: { accept: isSymbol }, depth: { initial: "5", accept: isDepth } }, draw);
//   place.values.depth; place.set({ depth: "3" }); place.set({ from }, { replace: true });
//
// A value is text; one that equals its initial text is left out of the address. `onChange(values)` is called when the
// reader goes back or forward, not for `set`.
export class PageLocation {
  constructor(fields, onChange = () => {}) {
    this.fields = fields;
    this.read();
    addEventListener("popstate", () => onChange(this.read()));
  }

  read() {
    const query = new URLSearchParams(location.search);
    this.refused = [];
    this.values = Object.fromEntries(Object.entries(this.fields).map(([name, { initial = "", accept = () => true }]) => {
      const text = query.get(name);
      if (text === null || text === "") return [name, initial];
      if (accept(text)) return [name, text];
      this.refused.push(`${name}=${text}`);
      return [name, initial];
    }));
    return this.values;
  }

  // `replace` for what is no step of its own, like a chart that is dragged.
  set(changes, { replace = false } = {}) {
    Object.assign(this.values, changes);
    const query = new URLSearchParams();
    for (const [name, { initial = "" }] of Object.entries(this.fields)) {
      if (this.values[name] !== initial) query.set(name, this.values[name]);
    }
    // Commas and colons are fine in a query and make it readable.
    const text = query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
    const address = text ? `${location.pathname}?${text}` : location.pathname;
    if (address === location.pathname + location.search) return;
    if (replace) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
  }
}
