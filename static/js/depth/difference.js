// Bids against asks in all six depths of the book now: which rest more, by how much, and whether all of it is known.
import { element, signed, signedVolume, tone } from "../formats.js";
import { DEPTHS } from "./choosers.js";

export class DifferencePanel {
  constructor(root, onDepth) {
    this.cards = new Map(DEPTHS.map((depth) => {
      const card = element("button", "", "difference");
      card.type = "button";
      card.dataset.depth = depth;
      const bar = element("i");
      bar.append(element("u"));
      card.append(element("span", `${depth} %`, "depth-name"), element("b"), element("small", "", "amount"), bar, element("small", "", "bound"));
      card.addEventListener("click", () => onDepth(depth));
      return [depth, card];
    }));
    root.replaceChildren(...this.cards.values());
  }

  choose(depth) {
    for (const [each, card] of this.cards) card.setAttribute("aria-pressed", String(each === depth));
  }

  show(book, unit) {
    for (const { depth, bidCovered, askCovered, ...volumes } of book.depthVolumes) {
      const diff = book.diffs.find((each) => each.depth === depth), card = this.cards.get(depth);
      const bids = Number(volumes.bidVolumeUsd), asks = Number(volumes.askVolumeUsd);
      const inDollars = unit === "usd";
      const amount = inDollars ? bids - asks : Number(diff.diff);
      const percent = inDollars ? (bids + asks ? (100 * (bids - asks)) / (bids + asks) : 0) : Number(diff.percentage);
      const [, share, difference, bar, bound] = card.children;
      share.textContent = `${signed(percent, 1)} %`;
      difference.textContent = `${inDollars ? "$ " : ""}${signedVolume(amount)}`;
      card.className = `difference ${tone(amount)}`;
      bar.firstChild.style.cssText = `width:${Math.min(50, Math.abs(percent) / 2)}%;${percent < 0 ? "right" : "left"}:50%`;
      const sides = [[bidCovered, "bids"], [askCovered, "asks"]].filter(([covered]) => !covered).map(([, side]) => side);
      bound.textContent = sides.length ? `≥ ${sides.join(", ")}` : "";
      card.title = sides.length ? `Lower bound: of the ${sides.join(" and ")} not every level within ${depth} % is known` : `Every level within ${depth} % is known`;
    }
  }
}
