"""How smooth the heatmap page is: the time between frames while it is panned, zoomed and pointed at.

    python benchmarks/bench_heatmap_page.py [--minutes 1440] [--frames 600]

PostgreSQL, Valkey and the web process are its own, in a folder that is thrown away.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.own_servers import own_servers

DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
# One event a frame, from within the page: what a driver outside sends comes when it comes. ``nothing`` is what the
# machine has to say by itself.
DRIVE = """([gesture, frames]) => new Promise((done) => {
  const surface = document.getElementById("cross"), box = surface.getBoundingClientRect();
  const at = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true, cancelable: true };
  const press = (key, how = {}) => surface.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, ...how }));
  const turn = (deltaY, how = {}) => surface.dispatchEvent(new WheelEvent("wheel", { deltaY, ...at, ...how }));
  const gestures = {
    nothing: () => {},
    pan: (step) => press(["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"][Math.floor(step / 5) % 4]),
    zoom: (step) => turn(step % 80 < 40 ? -30 : 30, { shiftKey: step % 2 === 1 }),
    point: (step) => surface.dispatchEvent(
      new PointerEvent("pointermove", { ...at, clientX: at.clientX + (step % 60) * 3, pointerType: "mouse" })),
  };
  const gaps = [];
  let last = performance.now();
  const next = () => {
    const now = performance.now();
    gaps.push(now - last);
    last = now;
    if (gaps.length === frames) done(gaps.slice(5));
    else {
      gestures[gesture](gaps.length);
      requestAnimationFrame(next);
    }
  };
  requestAnimationFrame(next);
})"""


def measure(page: Any, frames: int, size: str) -> None:
    for gesture in ("nothing", "pan", "zoom", "point"):
        page.keyboard.press("0")
        page.keyboard.press("+")
        page.wait_for_timeout(1_000)  # what is seen finer has come by then
        gaps = sorted(page.evaluate(DRIVE, [gesture, frames]))
        p50, p95 = statistics.median(gaps), gaps[int(len(gaps) * 0.95)]
        print(f"{size}, {gesture}: a frame each p50 {p50:.1f} ms, p95 {p95:.1f} ms ({len(gaps)} frames)")


def browse(url: str, session: str, frames: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        for size, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
            context = chromium.new_context(viewport=viewport)
            context.add_cookies([{"name": "sessionid", "value": session, "url": url}])
            page = context.new_page()
            page.goto(f"{url}/depth/heatmap/?span=24h")
            page.wait_for_selector("#heat[data-state=ready]")
            page.locator("#cross").focus()
            measure(page, frames, size)
            context.close()
        chromium.close()


def serve(minutes: int, frames: int) -> None:
    from django.test import Client

    from marketdata.depth import services
    from marketdata.depth.snapshots import Market
    from tests import builders
    from tests.depth_pages.heat import store_heat
    from tests.depth_pages.rows import tell_book
    from tests.processes import start_site

    services.collector_symbols_add(symbols=["BTCUSDT"], source="stream", actor="bench")
    print(f"{store_heat('BTCUSDT', Market.SPOT, minutes)} minutes of 200 rows")
    tell_book(price=84_000)
    client = Client()
    client.force_login(builders.user("bench"))
    server = start_site(Path(os.environ["BALLAST_DATA_DIR"]) / "web.log", dict(os.environ))
    try:
        browse(server.url, client.cookies["sessionid"].value, frames)
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=1_440, help="stored ones; default 1440, 720 columns")
    parser.add_argument("--frames", type=int, default=600, help="of each gesture; default 600")
    options = parser.parse_args()
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with own_servers():
        serve(options.minutes, options.frames)


if __name__ == "__main__":
    main()
