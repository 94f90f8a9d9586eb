"""What the pages of strategies say of them: the sections that follow a marker, written anew as a whole."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np

from benchmarks.strategy_pages import book_runs, candle_runs
from benchmarks.strategy_pages.book_runs import Followed, Session
from benchmarks.strategy_pages.candle_runs import Run, net_percent
from trading.backtest.preparation import code_version
from trading.backtest.request import BacktestRequest
from trading.backtest.result import BacktestTrade

# Fewer trades than this say nothing about a rule, whatever they won.
TOO_FEW = 100
_WRITTEN = re.compile(r"\n## (A trade|Results)\n.*\Z", re.DOTALL)
NOTHING = 0.01
COUNTS = ("none", "one", "two", "three")
LINE = 116
HEAD = """\
| symbol | from – to | trades | win rate | net return | free | Sharpe | max drawdown | profit factor | hold |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""
BOOK_HEAD = """\
| recording | minutes | books | signals | gained | sum before fees | after |
| --- | --- | --- | --- | --- | --- | --- |"""
IN_SAMPLE = (
    "Read this as in-sample: the parameters are the ones that the strategy comes with, and nobody searched for them "
    "on these bars, but no part of the bars was kept from those who wrote the strategy and looked at it. Three coins "
    "of one venue in one stretch of time are one past. Within a bar the order of high and low is assumed "
    "(docs/backtest.md, rule 2), and 0.05 % of slippage is kind to a small coin."
)


def write(path: Path, text: str) -> None:
    """Instead of the sections *A trade* and *Results*, which are the last of a page."""
    path.write_text(_WRITTEN.sub("", path.read_text()).rstrip("\n") + "\n\n" + text)


def together(*parts: str) -> str:
    """Markdown of sections, paragraphs and tables; what is plain words is broken into lines."""
    whole = [each if each.startswith(("#", "|", "!")) else _filled(each) for each in parts]
    return "\n\n".join(whole) + "\n"


def _filled(words: str) -> str:
    """In lines, none of which ends between a number and its percent sign."""
    held = words.replace(" %", "\u00a0%")
    return textwrap.fill(held, LINE, break_on_hyphens=False, break_long_words=False).replace("\u00a0", " ")


def candle_page(key: str, runs: Sequence[Run], shown: tuple[Run, BacktestTrade, float]) -> str:
    _, trade, middle = shown
    count = sum(len(run.result.trades) for run in runs)
    how = (
        f"Not the best one: of all {count:,} trades below, the one that ended nearest to their median "
        f"({percent(middle)} of what was held), among those that lasted {candle_runs.SHORTEST} to "
        f"{candle_runs.LONGEST} bars. Lines are drawn where the values of a bar are known, at its end."
    )
    image = f"![{_alternative(trade)}](../images/strategies/{key}.svg)"
    table = "\n".join([HEAD, *map(_row, runs)])
    verdict = _verdict(runs)
    return together(
        "## A trade", image, how, "## Results", _setting(runs[0].request), table, verdict, IN_SAMPLE, made_again(key)
    )


def _setting(request: BacktestRequest) -> str:
    run, costs = request.strategies[0], request.costs
    held, margin, leverage = plain(run.sizing_value * run.leverage), plain(run.sizing_value), plain(run.leverage)
    return (
        f"Default parameters; an account's default limits and exit rules; each trade holds {held} % of the account "
        f"({margin} % as margin, leverage {leverage}). Fee {plain(costs.fee * 100)} % and slippage "
        f"{plain(costs.slippage * 100)} % a side, funding as it was, {costs.latency_ms} ms. Prices move by Bybit's "
        f"bars of {request.interval} minutes. *Free*: the same without fee, slippage and funding. *Hold*: as much as "
        "a trade holds, bought at the start and sold at the end, with the same fee and slippage; the rest is cash."
    )


def _alternative(trade: BacktestTrade) -> str:
    side = "long" if trade.side == "Buy" else "short"
    return f"Candles around a {side} trade in {trade.symbol}, with what the rule looks at, entry, exit, stop and target"


def _row(run: Run) -> str:
    figures, request = run.statistics, run.request
    cells = [
        run.symbol,
        f"{_day(request.start_ms)} – {_day(request.end_ms - 1)}",
        f"{figures.trades:,}",
        share(figures.win_rate),
        percent(figures.total_return * 100),
        percent((float(run.free.balance) / float(request.balance) - 1.0) * 100),
        "—" if figures.sharpe is None else signed(figures.sharpe),
        share(figures.max_drawdown),
        "—" if figures.profit_factor is None else f"{figures.profit_factor:.2f}",
        percent(run.hold * 100),
    ]
    return f"| {' | '.join(cells)} |"


def _verdict(runs: Sequence[Run]) -> str:
    """What the figures mean, in plain words."""
    gained = [run.symbol for run in runs if run.statistics.net_profit > 0]
    lost = [run.symbol for run in runs if run.symbol not in gained]
    if gained and lost:
        told = f"It lost money on {_and(lost)} and made some on {_and(gained)}."
    else:
        told = f"It {'made' if gained else 'lost'} money on all {COUNTS[len(runs)]}."
    mean = float(np.mean([net_percent(trade) for run in runs for trade in run.result.trades]))
    free = float(np.mean([net_percent(trade) for run in runs for trade in run.free.trades]))
    told += f" In the mean a trade {_made(mean)} of what it held; without costs it would have {_made(free)}."
    if free < NOTHING:
        told += " The rule found nothing here, even for free."
    elif mean <= 0:
        told += (
            " What the rule finds is less than what it costs to trade it: it needs cheaper fees, or fewer and larger"
            " moves, before it is worth an account."
        )
    if gained and lost:
        told += (
            f" {COUNTS[len(gained)].capitalize()} of {COUNTS[len(runs)]} is what chance gives easily; it is no reason"
            " to trade there."
        )
    if few := [run.symbol for run in runs if run.statistics.trades < TOO_FEW]:
        told += f" On {_and(few)} there were fewer than {TOO_FEW} trades, which say little either way."
    if better := [run.symbol for run in runs if run.hold > run.statistics.total_return]:
        told += f" Holding did better on {'all of them' if len(better) == len(runs) else _and(better)}."
    return told


def _made(value: float) -> str:
    if abs(value) < NOTHING:
        return "made next to nothing"
    return f"{'made' if value > 0 else 'lost'} {abs(value):.2f} %"


def book_page(key: str, sessions: Sequence[Session], shown: tuple[Session, Followed, float] | None) -> str:
    real = [session for session in sessions if session.recording.is_real]
    told = [each for session in real for each in session.signals]
    asks_model = key == "scalping.orderbook"
    parts = []
    if shown is not None:
        _, followed, middle = shown
        side = "buy" if followed.signal.direction > 0 else "sell"
        how = (
            f"Not the best one: of the {len(told)} signals on recordings of real markets, the one that ended nearest "
            f"to their median ({percent(middle, 3)} after fees), among those that met their target or stop"
            f"{' and need no model' if asks_model else ''}. Its reason: {followed.signal.reason}."
        )
        about = f"Best bid and ask and the imbalance around a {side} signal, with entry, exit, stop and target"
        parts = ["## A trade", f"![{about}](../images/strategies/{key}.svg)", how]
    setting = (
        "Default parameters. Every signal is taken at the best price of the other side and ended at the best price "
        "where its target or stop was met, or at the end of the recording; no latency, no queue, no limits of an "
        f"account. Sums in percent of the worth of one trade, before and after fees of {book_runs.FEE_PERCENT} % a"
        f" side{', as if a model had believed in every leaning book' if asks_model else ''}."
    )
    table = "\n".join([BOOK_HEAD, *map(_book_row, sessions)])
    return together(*parts, "## Results", setting, table, _book_verdict(real, told), made_again(key))


def _book_verdict(real: Sequence[Session], told: Sequence[Followed]) -> str:
    minutes, net = sum(session.minutes for session in real), sum(each.net_percent for each in told)
    fees = 2 * book_runs.FEE_PERCENT
    words = (
        f"On {minutes:.0f} minutes of recordings of real books: {len(told)} signals, {percent(net, 3)} after fees in "
        "all. Nothing can be concluded from that about the rule"
    )
    if told and net < 0:
        words += f", only that a taker's fees, {fees:g} % of each trade, are more than what the price moves in minutes"
    return f"{words}."


def _book_row(session: Session) -> str:
    gross = [each.gross_percent for each in session.signals]
    cells = [
        session.recording.name,
        f"{session.minutes:.1f}",
        f"{session.messages:,}",
        str(len(gross)),
        str(sum(each > 0 for each in gross)),
        signed(sum(gross), 3),
        signed(sum(each.net_percent for each in session.signals), 3),
    ]
    return f"| {' | '.join(cells)} |"


def made_again(key: str) -> str:
    command = f".venv/bin/python benchmarks/strategy_results.py {key}"
    return (
        f"Made on {datetime.now(UTC):%Y-%m-%d} with code `{code_version()}` by `{command}`, which needs the "
        "recordings (`MARKET_DATA_DIR`)."
    )


def plain(value: Decimal) -> str:
    return f"{value.normalize():f}"


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


def percent(value: float, digits: int = 2) -> str:
    return f"{signed(value, digits)} %"


def share(value: float | None) -> str:
    return "—" if value is None else f"{value * 100:.1f} %"


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _day(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d}"
