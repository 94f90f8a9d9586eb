"""A chart as SVG: prices over time, what a rule looks at, and one trade. It has a ground of its own, so that it reads
on a dark page as on a light one, and no script and no font of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WIDTH, PLOT_LEFT, PLOT_RIGHT = 880, 12, 736
PRICE_HEIGHT, PANEL_HEIGHT, GAP = 330, 90, 32
GROUND, GRID, TEXT, MUTED = "#11161e", "#202935", "#dfe6ee", "#93a1b3"
UP, DOWN = "#2fbf8a", "#ef5d6b"
LINES = ("#e8b04a", "#6fa8ff", "#c58bff", "#7fd4d9", "#ff8fb1")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
TAG_HEIGHT, CHARACTER = 16, 6.7
SECOND_MS, DAY_MS = 1_000, 86_400_000
STEPS_MS = tuple(
    SECOND_MS * each
    for each in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400)
) + tuple(DAY_MS * each for each in (2, 4, 7, 14))


@dataclass(frozen=True, slots=True)
class Line:
    """``values`` at ``times_ms``, NaN where there is none; ``style`` is line, dashed or dots."""

    name: str
    color: str
    times_ms: NDArray[np.int64]
    values: Floats
    style: str = "line"


@dataclass(frozen=True, slots=True)
class Bars:
    """Candles that start at ``start_ms``, each ``interval_ms`` long."""

    interval_ms: int
    start_ms: NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats


@dataclass(frozen=True, slots=True)
class ShownTrade:
    """From its signal on: levels in quote coin, ``exit_ms`` where it ended, ``why`` in words."""

    side: str
    signal_ms: int
    entry_ms: int
    entry: float
    exit_ms: int
    exit: float
    stop: float
    target: float
    why: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines below the prices, on a scale of their own; ``levels``: thresholds with their names."""

    title: str
    lines: Sequence[Line]
    levels: Sequence[tuple[float, str]] = ()


@dataclass(slots=True)
class _Scale:
    """Values to pixels, the largest on top."""

    low: float
    high: float
    top: float
    height: float

    def __call__(self, value: float) -> float:
        return self.top + (self.high - value) / (self.high - self.low) * self.height


@dataclass(slots=True)
class _Drawing:
    first_ms: int
    last_ms: int
    parts: list[str] = field(default_factory=list)

    def x(self, ms: float) -> float:
        return PLOT_LEFT + (ms - self.first_ms) / (self.last_ms - self.first_ms) * (PLOT_RIGHT - PLOT_LEFT)

    def text(self, x: float, y: float, words: str, color: str = MUTED, anchor: str = "start", size: int = 12) -> None:
        look = f'fill="{color}" font-size="{size}" text-anchor="{anchor}"'
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(words)}</text>')

    def rule(self, x1: float, y1: float, x2: float, y2: float, color: str, more: str = "") -> None:
        place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self.parts.append(f'<line {place} stroke="{color}" {more}'.rstrip() + "/>")


def chart(
    title: str,
    about: str,
    trade: ShownTrade,
    *,
    bars: Bars | None = None,
    lines: Sequence[Line] = (),
    panels: Sequence[Panel] = (),
    decimals: int,
) -> str:
    """The whole file. ``title`` and ``about`` are its first two rows, ``decimals`` those of prices."""
    first, last = _span(bars, lines)
    drawing, (low, high) = _Drawing(first, last), _reach(bars, lines, trade)
    lines = [line for line in lines if ((line.values >= low) & (line.values <= high)).any()]
    legend = _legend(drawing, bars, [*lines, *(line for panel in panels for line in panel.lines)])
    top = 54.0 + 20.0 * legend
    scale = _Scale(low, high, top, PRICE_HEIGHT)
    height = top + PRICE_HEIGHT + len(panels) * (PANEL_HEIGHT + GAP) + 32
    times = _times(drawing, first, last, top, height - 28)
    taken = _tag_places(trade, scale, decimals)
    _grid(drawing, scale, decimals, [place for place, *_ in taken])
    if bars is not None:
        _candles(drawing, bars, scale)
    for line in lines:
        _line(drawing, line, scale)
    _trade(drawing, trade, scale)
    _tags(drawing, taken)
    for place, panel in enumerate(panels):
        _panel(drawing, panel, top + PRICE_HEIGHT + place * (PANEL_HEIGHT + GAP) + GAP)
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" font-family="{FONT}" role="img" aria-labelledby="title about">',
        f'<title id="title">{escape(title)}</title><desc id="about">{escape(about)}</desc>',
        f'<rect width="{WIDTH}" height="{height:.0f}" rx="8" fill="{GROUND}"/>',
        f'<text x="{PLOT_LEFT}" y="24" fill="{TEXT}" font-size="15" font-weight="600">{escape(title)}</text>',
        f'<text x="{PLOT_LEFT}" y="43" fill="{MUTED}" font-size="12">{escape(about)}</text>',
    ]
    return "\n".join([*head, *times, *drawing.parts, "</svg>"]) + "\n"


def _span(bars: Bars | None, lines: Sequence[Line]) -> tuple[int, int]:
    if bars is not None:
        return int(bars.start_ms[0]), int(bars.start_ms[-1]) + bars.interval_ms
    return int(lines[0].times_ms[0]), int(lines[0].times_ms[-1])


def _reach(bars: Bars | None, lines: Sequence[Line], trade: ShownTrade) -> tuple[float, float]:
    """All prices; lines and levels of the trade as far as they are not so far away that nothing else is left."""
    prices = [bars.high, bars.low] if bars is not None else [line.values[np.isfinite(line.values)] for line in lines]
    low, high = min(float(each.min()) for each in prices), max(float(each.max()) for each in prices)
    room = (high - low) * 0.5
    least, most = low - room, high + room
    known = [line.values[(line.values >= least) & (line.values <= most)] for line in lines]
    levels = [each for each in (trade.entry, trade.exit, trade.stop, trade.target) if least <= each <= most]
    low = min([low, *levels, *(float(each.min()) for each in known if len(each))])
    high = max([high, *levels, *(float(each.max()) for each in known if len(each))])
    margin = (high - low) * 0.04
    return low - margin, high + margin


def _legend(drawing: _Drawing, bars: Bars | None, lines: Iterable[Line]) -> int:
    """How many rows it takes."""
    entries = [(line.name, line.color, line.style) for line in lines if line.name]
    if bars is not None:
        entries[:0] = [("bar that rose", UP, "box"), ("bar that fell", DOWN, "box")]
    entries += [("entry", TEXT, "arrow"), ("exit", TEXT, "cross")]
    x, row = float(PLOT_LEFT), 0
    for name, color, style in entries:
        width = 24 + len(name) * CHARACTER + 14
        if x + width > WIDTH:
            x, row = float(PLOT_LEFT), row + 1
        y = 64.0 + 20 * row
        if style == "box":
            drawing.parts.append(f'<rect x="{x + 5:.1f}" y="{y - 9:.1f}" width="7" height="10" fill="{color}"/>')
        elif style == "arrow":
            drawing.parts.append(f'<path d="M{x + 9:.1f} {y - 10:.1f}l5 9h-10z" fill="{color}"/>')
        elif style == "cross":
            drawing.parts.append(_cross(x + 9, y - 5, color))
        elif style == "dots":
            drawing.parts.append(f'<circle cx="{x + 9:.1f}" cy="{y - 4:.1f}" r="2.2" fill="{color}"/>')
        else:
            dashes = 'stroke-dasharray="4 3"' if style == "dashed" else ""
            drawing.rule(x, y - 4, x + 18, y - 4, color, f'stroke-width="2" {dashes}'.strip())
        drawing.text(x + 24, y, name)
        x += width
    return row + 1


def _times(drawing: _Drawing, first: int, last: int, top: float, bottom: float) -> list[str]:
    """The grid of the time axis and its words, behind everything else."""
    apart = (last - first) / 8
    step = next((each for each in STEPS_MS if each >= apart), STEPS_MS[-1])
    ground = _Drawing(first, last)
    day = None
    for ms in range(-(-first // step) * step, last, step):
        moment, x = datetime.fromtimestamp(ms / 1_000, UTC), ground.x(ms)
        if not PLOT_LEFT + 36 < x < PLOT_RIGHT - 16:
            continue
        ground.rule(x, top, x, bottom - 6, GRID)
        words = f"{moment:%H:%M:%S}" if step < 60 * SECOND_MS else f"{moment:%H:%M}"
        if step >= DAY_MS or moment.date() != day:
            words = (
                f"{moment.day} {moment:%b}"
                if step >= DAY_MS or ms % DAY_MS == 0
                else f"{moment.day} {moment:%b} {words}"
            )
        day = moment.date()
        ground.text(x, bottom + 10, words, anchor="middle")
    ground.text(PLOT_RIGHT + 8, bottom + 10, "UTC")
    return ground.parts


def _round_step(span: float, count: int) -> float:
    rough = span / count
    size = 10.0 ** math.floor(math.log10(rough))
    return next(size * each for each in (1, 2, 5, 10) if size * each >= rough)


def _grid(drawing: _Drawing, scale: _Scale, decimals: int, taken: Sequence[float]) -> None:
    """``taken``: where words of the trade are; none of the scale's go there."""
    step = _round_step(scale.high - scale.low, 6)
    value = math.ceil(scale.low / step) * step
    while value < scale.high:
        drawing.rule(PLOT_LEFT, scale(value), PLOT_RIGHT, scale(value), GRID)
        if all(abs(scale(value) - place) > TAG_HEIGHT for place in taken):
            drawing.text(PLOT_RIGHT + 8, scale(value) + 4, f"{value:,.{decimals}f}")
        value += step


def _candles(drawing: _Drawing, bars: Bars, scale: _Scale) -> None:
    width = (drawing.x(bars.interval_ms) - drawing.x(0)) * 0.7
    for color, rose in ((UP, True), (DOWN, False)):
        wicks, bodies = [], []
        for at in np.flatnonzero((bars.close >= bars.open) == rose).tolist():
            middle = drawing.x(int(bars.start_ms[at]) + bars.interval_ms / 2)
            opened, closed = scale(bars.open[at]), scale(bars.close[at])
            top, height = min(opened, closed), max(abs(opened - closed), 1.0)
            wicks.append(f"M{middle:.1f} {scale(bars.high[at]):.1f}V{scale(bars.low[at]):.1f}")
            bodies.append(f"M{middle - width / 2:.1f} {top:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}z")
        drawing.parts.append(f'<path d="{"".join(wicks)}" stroke="{color}" fill="none"/>')
        drawing.parts.append(f'<path d="{"".join(bodies)}" fill="{color}"/>')


def _line(drawing: _Drawing, line: Line, scale: _Scale) -> None:
    known = np.isfinite(line.values) & (line.values >= scale.low) & (line.values <= scale.high)
    if line.style == "dots":
        dots = (
            f'<circle cx="{drawing.x(ms):.1f}" cy="{scale(value):.1f}" r="2"/>'
            for ms, value in zip(line.times_ms[known].tolist(), line.values[known].tolist(), strict=True)
        )
        drawing.parts.append(f'<g fill="{line.color}">{"".join(dots)}</g>')
        return
    path, drawn = [], False
    for ms, value, is_known in zip(line.times_ms.tolist(), line.values.tolist(), known.tolist(), strict=True):
        if is_known:
            path.append(f"{'L' if drawn else 'M'}{drawing.x(ms):.1f} {scale(value):.1f}")
        drawn = is_known
    dashes = ' stroke-dasharray="4 3"' if line.style == "dashed" else ""
    look = f'fill="none" stroke="{line.color}" stroke-width="1.6" stroke-linejoin="round"{dashes}'
    drawing.parts.append(f'<path d="{"".join(path)}" {look}/>')


def _cross(x: float, y: float, color: str) -> str:
    return f'<path d="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10" stroke="{color}" stroke-width="2.4" fill="none"/>'


def _trade(drawing: _Drawing, trade: ShownTrade, scale: _Scale) -> None:
    long = trade.side == "Buy"
    entered, ended = drawing.x(trade.entry_ms), drawing.x(trade.exit_ms)
    ended = max(ended, entered + 3)
    for level, color in ((trade.target, UP), (trade.stop, DOWN)):
        within = min(max(level, scale.low), scale.high)
        top, bottom = sorted((scale(within), scale(trade.entry)))
        drawing.parts.append(
            f'<rect x="{entered:.1f}" y="{top:.1f}" width="{ended - entered:.1f}" height="{bottom - top:.1f}" '
            f'fill="{color}" fill-opacity=".13"/>'
        )
        if within == level:
            drawing.rule(entered, scale(level), PLOT_RIGHT, scale(level), color, 'stroke-dasharray="6 4"')
    at = drawing.x(trade.signal_ms)
    drawing.rule(at, scale.top, at, scale.top + scale.height, MUTED, 'stroke-dasharray="2 4"')
    drawing.text(at + 4, scale.top + 12, "signal")
    drawing.rule(
        entered, scale(trade.entry), ended, scale(trade.exit), TEXT, 'stroke-width="1.4" stroke-dasharray="3 3"'
    )
    head = 11 if long else -11
    drawing.parts.append(
        f'<path d="M{entered:.1f} {scale(trade.entry) + (2 if long else -2):.1f}l6 {head}h-12z" fill="{TEXT}" '
        f'stroke="{GROUND}"/>'
    )
    drawing.parts.append(_cross(ended, scale(trade.exit), TEXT))


Tag = tuple[float, float, str, str]


def _tag_places(trade: ShownTrade, scale: _Scale, decimals: int) -> list[Tag]:
    """Where the words of each level stand, where the level is, the words and their colour: moved apart where they would
    lie on each other; an arrow at those that are off the scale."""
    levels = (
        ("target", trade.target, UP),
        ("stop", trade.stop, DOWN),
        ("entry", trade.entry, TEXT),
        ("exit", trade.exit, TEXT),
    )
    tags = []
    for name, value, color in levels:
        off = " ↑" if value > scale.high else " ↓" if value < scale.low else ""
        tags.append((scale(min(max(value, scale.low), scale.high)), f"{name} {value:,.{decimals}f}{off}", color))
    tags.sort()
    places = [y for y, _, _ in tags]
    for _ in range(len(tags) * 4):
        for above in range(len(tags) - 1):
            if (short := TAG_HEIGHT + 2 - (places[above + 1] - places[above])) > 0:
                places[above], places[above + 1] = places[above] - short / 2, places[above + 1] + short / 2
    return [(place, *tag) for place, tag in zip(places, tags, strict=True)]


def _tags(drawing: _Drawing, tags: Sequence[Tag]) -> None:
    for place, y, words, color in tags:
        drawing.rule(PLOT_RIGHT, y, PLOT_RIGHT + 6, place, color)
        drawing.parts.append(
            f'<rect x="{PLOT_RIGHT + 6}" y="{place - TAG_HEIGHT / 2:.1f}" width="{WIDTH - PLOT_RIGHT - 10}" '
            f'height="{TAG_HEIGHT}" rx="3" fill="{GROUND}" stroke="{color}"/>'
        )
        drawing.text(PLOT_RIGHT + 11, place + 4, words, color, size=11)


def _panel(drawing: _Drawing, panel: Panel, top: float) -> None:
    values = np.concatenate([line.values[np.isfinite(line.values)] for line in panel.lines])
    levels = [level for level, _ in panel.levels]
    low, high = min([float(values.min()), *levels]), max([float(values.max()), *levels])
    margin = (high - low or 1.0) * 0.08
    scale = _Scale(low - margin, high + margin, top, PANEL_HEIGHT)
    drawing.rule(PLOT_LEFT, top - 22, PLOT_RIGHT, top - 22, GRID)
    drawing.text(PLOT_LEFT + 2, top - 7, panel.title)
    for level, name in panel.levels:
        drawing.rule(PLOT_LEFT, scale(level), PLOT_RIGHT, scale(level), MUTED, 'stroke-dasharray="2 3"')
        drawing.text(PLOT_RIGHT + 8, scale(level) + 4, name)
    for line in panel.lines:
        _line(drawing, line, scale)
