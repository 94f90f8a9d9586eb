"""A backtest's request as JSON and back: every value from outside is checked here, and all that is wrong is told at
once, each with its field, its value and the rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from marketdata.candles.series import INTERVALS, interval_ms
from marketdata.instruments import Violation
from risk.exits import RANGES as EXIT_RANGES
from risk.exits import ExitRuleError, ExitRules
from risk.groups import GroupLimit, SymbolGroup, SymbolGroups
from risk.limits import ACCOUNT_DEFAULTS, Limits
from strategies.base import ParameterError, ParameterSpec, parse_parameters
from trading.backtest.request import BacktestRequest, Costs, Source, StrategyRun

MOST_STRATEGIES, MOST_SYMBOLS, MOST_GROUPS, MOST_STEPS = 10, 100, 20, 20
MOST_BARS = 60_000_000
EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
VENUES = ("bybit", "binance")
SIZINGS = ("percent", "fixed_usd", "minimum")
# Python's Decimal also reads other scripts' digits and 1_0: that would be a guess.
PLAIN_NUMBER = re.compile(r"[+-]?([0-9]{1,30}(\.[0-9]{0,18})?|\.[0-9]{1,18})([eE][+-]?[0-9]{1,2})?")
SYMBOL = re.compile(r"[A-Z0-9]{2,32}")
NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")
NAME_OR_NONE = re.compile(r"[A-Za-z0-9_.-]{0,40}")
RECORDING = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,99}){0,4}")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
Specs = Mapping[str, tuple[ParameterSpec, ...]]


class RequestInvalid(Exception):
    """What is asked cannot be tested: every field that breaks a rule."""

    def __init__(self, found: Iterable[Violation]) -> None:
        self.violations = tuple(found)
        super().__init__("; ".join(f"{each.field} {each.value}: {each.rule}" for each in self.violations))


class FieldError(ValueError):
    """The rule that a value breaks."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number's range; ``whole``: an int, otherwise a Decimal. None passes where ``optional``."""

    least: Decimal
    most: Decimal
    help: str
    whole: bool = False
    optional: bool = False

    @property
    def rule(self) -> str:
        noun = "a whole number" if self.whole else "a number"
        return f"must be {noun} from {self.least:f} to {self.most:f}{', or null' if self.optional else ''}"

    def read(self, value: Any) -> Any:
        if value is None and self.optional:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
            raise FieldError(self.rule)
        if isinstance(value, str) and (len(value) > 60 or not PLAIN_NUMBER.fullmatch(value.strip())):
            raise FieldError(self.rule)
        # A float by its shortest text: 0.1 is meant as 0.1. Of an int only what can be in range is written out.
        if isinstance(value, int) and not -(10**30) < value < 10**30:
            raise FieldError(self.rule)
        number = Decimal(repr(value) if isinstance(value, float) else str(value).strip())
        if not number.is_finite() or not self.least <= number <= self.most or (self.whole and number % 1):
            raise FieldError(self.rule)
        return int(number) if self.whole else number


def number(least: str, most: str, words: str) -> Number:
    return Number(Decimal(least), Decimal(most), words)


def limit(least: str, most: str, words: str, whole: bool = False) -> Number:
    return Number(Decimal(least), Decimal(most), words, whole, optional=True)


COSTS: Mapping[str, Number] = {
    "fee": number("-0.01", "0.1", "of takers, fraction of a trade's worth"),
    "maker_fee": number("-0.01", "0.1", "of resting orders"),
    "slippage": number("0", "0.1", "beyond the best price, fraction"),
    "spread": number("0", "0.1", "between best bid and ask, fraction"),
    "impact": number("0", "10", "times the root of the share of the bar's volume"),
    "latency_ms": Number(Decimal(0), Decimal(600_000), "from signal to market, milliseconds", whole=True),
    "maintenance_margin": number("0", "0.5", "liquidation below it, fraction of a position's worth"),
}
SHOWN_BY_BOOKS = ("slippage", "spread", "impact")
LIMITS: Mapping[str, Number] = {
    "max_order_notional": limit("0.01", "1000000000000", "USD, one order"),
    "max_position_notional": limit("0.01", "1000000000000", "USD, one symbol"),
    "max_positions": limit("1", "100", "at once", whole=True),
    "max_positions_per_symbol": limit("1", "100", "in one symbol", whole=True),
    "max_open_orders": limit("0", "500", "orders that may still fill", whole=True),
    "max_risk_per_trade_percent": limit("0.01", "100", "loss at an order's stop, % of equity"),
    "max_total_risk_percent": limit("0.01", "100", "loss at all stops together, % of equity"),
    "max_daily_loss_percent": limit("1", "50", "loss since 00:00 UTC, % of the equity then"),
    "max_drawdown_percent": limit("1", "100", "% below the peak of equity"),
    "max_correlation": limit("0", "1", "from which on two symbols count as one bet"),
    "max_correlated_positions": limit("1", "100", "positions that move together", whole=True),
    "max_leverage": limit("1", "50", "times"),
    "price_collar_percent": limit("0", "100", "% from the market"),
    "max_slippage_percent": limit("0.01", "100", "% from the middle of the book"),
    "max_order_rate": limit("0", "10000", "orders per second", whole=True),
}
GROUP_LIMITS: Mapping[str, Number] = {
    "max_positions": LIMITS["max_positions"],
    "max_notional": LIMITS["max_order_notional"],
}
EXITS: Mapping[str, Number] = {
    name: Number(least, most, "", whole=name in ("reversal_indicators", "reversal_cooldown_seconds"))
    for name, least, most in EXIT_RANGES
}
EXIT_SWITCHES = ("enabled", "trailing_take_profit", "trailing_stop", "reversal")
EXIT_STEPS = ("trailing_stop_distances", "partial_exits")
BALANCE = number("1", "1000000000000", "USDT at the start")
SEED = Number(Decimal(0), Decimal(2**31 - 1), "of everything that is drawn", whole=True)
LEVERAGE = number("1", "50", "times")
SIZE = number("0.000001", "1000000000000", "percent of the balance, or USD, by the sizing mode")
PERCENT = number("0.000001", "100", "percent of the balance")
STRATEGY_SWITCHES = ("allow_reversal", "size_by_confidence", "adaptive_leverage")
STRATEGY_FIELDS = tuple(each.name for each in fields(StrategyRun))
REQUEST_FIELDS = (
    *("strategies", "start", "end", "source", "venue", "interval", "balance", "costs"),
    *("limits", "exit_rules", "groups", "recording", "accept_gaps", "seed", "combine"),
)


class Reader:
    """Reads the fields of one JSON object and keeps what is wrong with them."""

    def __init__(self, data: Mapping[str, Any], prefix: str, found: list[Violation]) -> None:
        self.data, self.prefix, self.found = data, prefix, found

    def known(self, names: Iterable[str]) -> None:
        names = tuple(names)
        for name in [each for each in self.data if each not in names][:5]:
            self.refuse(str(name), self.data[name], f"unknown field; known are {', '.join(names)}")

    def refuse(self, name: str, value: Any, rule: str) -> None:
        self.found.append(Violation(f"{self.prefix}{name}"[:120], shown(value), rule))

    def read(self, name: str, take: Callable[[Any], Any], default: Any) -> Any:
        """The value, or the default where it is not given or wrong."""
        if name not in self.data:
            return default
        try:
            return take(self.data[name])
        except FieldError as error:
            self.refuse(name, self.data[name], str(error))
            return default

    def inner(self, name: str) -> Reader:
        """The reader of an object within; of an empty one where there is none."""
        value = self.data.get(name, {})
        if not isinstance(value, Mapping):
            self.refuse(name, value, "must be an object")
            value = {}
        return Reader(value, f"{self.prefix}{name}.", self.found)


def shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of many digits"
    return str(value)[:100]


def switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FieldError("must be true or false")
    return value


def one_of(allowed: Iterable[str]) -> Callable[[Any], str]:
    allowed = tuple(allowed)

    def take(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise FieldError(f"must be one of {', '.join(allowed)}")
        return value

    return take


def matching(pattern: re.Pattern[str], rule: str) -> Callable[[Any], str]:
    def take(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise FieldError(rule)
        return value

    return take


def moment(value: Any) -> datetime:
    """A day (its start, UTC) or an ISO 8601 time with its offset from UTC."""
    rule = "must be a day like 2026-01-31 or a time with its offset, like 2026-01-31T12:00:00Z"
    if not isinstance(value, str) or len(value) > 40:
        raise FieldError(rule)
    try:
        if DAY.fullmatch(value):
            found = datetime.combine(date.fromisoformat(value), time(), tzinfo=UTC)
        else:
            found = datetime.fromisoformat(value)
    except ValueError:
        raise FieldError(rule) from None
    if found.tzinfo is None:
        raise FieldError(rule)
    if not EARLIEST <= found <= LATEST:
        raise FieldError(f"must be from {EARLIEST:%Y-%m-%d} to {LATEST:%Y-%m-%d}")
    return found


def symbols_of(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= MOST_SYMBOLS:
        raise FieldError(f"must be a list of 1 to {MOST_SYMBOLS} symbols")
    for each in value:
        if not isinstance(each, str) or not SYMBOL.fullmatch(each):
            raise FieldError("must be symbols like BTCUSDT: 2 to 32 of A-Z 0-9")
    if len(set(value)) < len(value):
        raise FieldError("must name each symbol once")
    return tuple(value)


def steps_of(value: Any) -> tuple[tuple[Decimal, Decimal], ...]:
    rule = f"must be a list of at most {MOST_STEPS} pairs of numbers, like [[2, 1], [5, 1.5]]"
    if not isinstance(value, (list, tuple)) or len(value) > MOST_STEPS:
        raise FieldError(rule)
    if any(not isinstance(pair, (list, tuple)) or len(pair) != 2 for pair in value):
        raise FieldError(rule)
    each = number("0", "1000", "")
    return tuple((each.read(pair[0]), each.read(pair[1])) for pair in value)


def request_from_json(data: Any, specs: Specs) -> BacktestRequest:
    """What is asked. ``specs``: the parameters of each strategy that there is, by its key.

    Raises:
        RequestInvalid: with every field that breaks a rule.
    """
    if not isinstance(data, Mapping):
        raise RequestInvalid([Violation("request", shown(data), "must be an object")])
    found: list[Violation] = []
    reader = Reader(data, "", found)
    reader.known(REQUEST_FIELDS)
    start, end = (reader.read(name, moment, None) for name in ("start", "end"))
    for name in ("start", "end"):
        if name not in data:
            reader.refuse(name, "", "is required: the first day, and the day after the last")
    if start is not None and end is not None and start >= end:
        reader.refuse("end", data["end"], "must be after start")
    source = reader.read("source", one_of(str(each) for each in Source), str(Source.CANDLES))
    plain = BacktestRequest(strategies=(), start_ms=0, end_ms=0)
    groups = _groups(reader)
    request = replace(
        plain,
        strategies=_strategies(reader, specs, groups),
        start_ms=as_ms(start or EARLIEST),
        end_ms=as_ms(end or LATEST),
        source=Source(source),
        venue=reader.read("venue", one_of(VENUES), plain.venue),
        interval=reader.read("interval", one_of(INTERVALS), plain.interval),
        balance=reader.read("balance", BALANCE.read, plain.balance),
        costs=_costs(reader.inner("costs"), source),
        limits=_limits(reader.inner("limits"), groups, ACCOUNT_DEFAULTS),
        exit_rules=_exit_rules(reader.inner("exit_rules")),
        groups=SymbolGroups(groups),
        recording=reader.read("recording", matching(RECORDING, "must be a recording's name"), ""),
        accept_gaps=reader.read("accept_gaps", switch, plain.accept_gaps),
        seed=reader.read("seed", SEED.read, plain.seed),
        combine=reader.read("combine", switch, plain.combine),
    )
    _refuse_too_much(reader, request, is_dated=start is not None and end is not None)
    if found:
        raise RequestInvalid(found)
    return request


def _refuse_too_much(reader: Reader, request: BacktestRequest, *, is_dated: bool) -> None:
    if request.source != Source.CANDLES and not request.recording:
        reader.refuse("recording", "", f"is required for source {request.source}: the recording's name")
    if request.source == Source.CANDLES and request.recording:
        reader.refuse("recording", request.recording, "must not be said for source candles; say source books or trades")
    if request.source == Source.CANDLES and request.accept_gaps:
        reader.refuse("accept_gaps", True, "is for recordings: bars are mended when they are imported")
    if request.source == Source.BOOKS and request.venue != VENUES[0]:
        reader.refuse("venue", request.venue, f"must be {VENUES[0]} for source books: that is where engines trade")
    if request.source != Source.CANDLES or not is_dated:
        return
    bars = (request.end_ms - request.start_ms) // interval_ms(request.interval) * len(request.symbols)
    if request.end_ms > request.start_ms and bars == 0 and request.symbols:
        reader.refuse("end", reader.data["end"], f"must be at least a bar of interval {request.interval} after start")
    if bars > MOST_BARS:
        rule = f"{bars} bars in all are too many; at most {MOST_BARS}: fewer symbols, days, or a longer interval"
        reader.refuse("interval", request.interval, rule)


def _strategies(reader: Reader, specs: Specs, groups: Iterable[SymbolGroup]) -> tuple[StrategyRun, ...]:
    given = reader.data.get("strategies")
    if not isinstance(given, (list, tuple)) or not 1 <= len(given) <= MOST_STRATEGIES:
        reader.refuse("strategies", given, f"must be a list of 1 to {MOST_STRATEGIES} strategies")
        return ()
    runs = []
    for place, one in enumerate(given):
        if not isinstance(one, Mapping):
            reader.refuse(f"strategies.{place}", one, "must be an object")
            continue
        runs.append(_strategy(Reader(one, f"strategies.{place}.", reader.found), specs, groups))
    names = [run.name or run.strategy for run in runs]
    if len(set(names)) < len(names):
        reader.refuse("strategies", ", ".join(names), "two have one name; give each a name of its own")
    return tuple(runs)


def _strategy(reader: Reader, specs: Specs, groups: Iterable[SymbolGroup]) -> StrategyRun:
    reader.known(STRATEGY_FIELDS)
    plain = StrategyRun("", ())
    strategy = reader.data.get("strategy")
    known = specs.get(strategy) if isinstance(strategy, str) else None
    parameters: Mapping[str, Any] = {}
    if known is None:
        reader.refuse("strategy", strategy, f"must be one of {', '.join(sorted(specs))}")
    else:
        given = reader.inner("parameters").data
        try:
            parameters = parse_parameters(known, given)
        except ParameterError as error:
            reader.refuse(f"parameters.{error.name}", error.value, error.rule)
    if "symbols" not in reader.data:
        reader.refuse("symbols", "", f"is required: 1 to {MOST_SYMBOLS} symbols")
    mode = reader.read("sizing_mode", one_of(SIZINGS), SIZINGS[0])
    switches = {name: reader.read(name, switch, getattr(plain, name)) for name in STRATEGY_SWITCHES}
    return StrategyRun(
        strategy=str(strategy),
        symbols=reader.read("symbols", symbols_of, ()),
        parameters=parameters,
        name=reader.read(
            "name", matching(re.compile(f"({NAME.pattern})?"), "must be up to 40 of A-Z a-z 0-9 _ . -"), ""
        ),
        sizing_mode=mode,
        sizing_value=reader.read("sizing_value", (PERCENT if mode == "percent" else SIZE).read, plain.sizing_value),
        leverage=reader.read("leverage", LEVERAGE.read, plain.leverage),
        limits=None if reader.data.get("limits") is None else _limits(reader.inner("limits"), groups, Limits()),
        **switches,
    )


def costs_of(data: Mapping[str, Any]) -> Costs:
    """Costs of a test of candles alone.

    Raises:
        RequestInvalid: with every field that breaks a rule.
    """
    found: list[Violation] = []
    costs = _costs(Reader(data, "costs.", found), Source.CANDLES)
    if found:
        raise RequestInvalid(found)
    return costs


def _costs(reader: Reader, source: str) -> Costs:
    reader.known((*COSTS, "funding"))
    # What a recorded book shows is not reckoned once more.
    plain = Costs(slippage=Decimal(0)) if source == Source.BOOKS else Costs()
    values = {name: reader.read(name, field.read, getattr(plain, name)) for name, field in COSTS.items()}
    if source == Source.BOOKS:
        for name in SHOWN_BY_BOOKS:
            if values[name]:
                reader.refuse(name, reader.data[name], "must be 0 for source books: the recorded book itself shows it")
    if source == Source.TRADES and values["impact"]:
        reader.refuse("impact", reader.data["impact"], "must be 0 for source trades: say a larger slippage")
    return Costs(**values, funding=reader.read("funding", switch, plain.funding))


def _limits(reader: Reader, groups: Iterable[SymbolGroup], plain: Limits) -> Limits:
    """As live: what is not said is what an account is held to, and nothing for a strategy; null is no limit."""
    reader.known((*LIMITS, "group_limits"))
    values = {name: reader.read(name, field.read, getattr(plain, name)) for name, field in LIMITS.items()}
    return Limits(**values, group_limits=MappingProxyType(_group_limits(reader.inner("group_limits"), groups)))


def _group_limits(reader: Reader, groups: Iterable[SymbolGroup]) -> dict[str, GroupLimit]:
    names = [group.name for group in groups]
    found = {}
    for name in reader.data:
        if name not in names:
            reader.refuse(str(name), reader.data[name], f"must be one of the groups: {', '.join(names) or 'none'}")
            continue
        each = reader.inner(name)
        each.known(GROUP_LIMITS)
        found[name] = GroupLimit(*(each.read(limit, field.read, None) for limit, field in GROUP_LIMITS.items()))
    return found


def _exit_rules(reader: Reader) -> ExitRules:
    reader.known((*EXIT_SWITCHES, *EXITS, *EXIT_STEPS))
    plain = ExitRules()
    values = {name: reader.read(name, switch, getattr(plain, name)) for name in EXIT_SWITCHES}
    values |= {name: reader.read(name, field.read, getattr(plain, name)) for name, field in EXITS.items()}
    values |= {name: reader.read(name, steps_of, getattr(plain, name)) for name in EXIT_STEPS}
    try:
        return ExitRules(**values)
    except ExitRuleError as error:
        reader.refuse(error.field, reader.data.get(error.field), f"must be {error.allowed}")
        return plain


def _groups(reader: Reader) -> list[SymbolGroup]:
    given = reader.data.get("groups", [])
    if not isinstance(given, (list, tuple)) or len(given) > MOST_GROUPS:
        reader.refuse("groups", given, f"must be a list of at most {MOST_GROUPS} groups")
        return []
    groups = []
    for place, one in enumerate(given):
        each = Reader(one if isinstance(one, Mapping) else {}, f"groups.{place}.", reader.found)
        each.known(("name", "symbols", "max_positions", "max_notional"))
        if "name" not in each.data or "symbols" not in each.data:
            reader.refuse(f"groups.{place}", one, "must be an object with name and symbols")
        name = each.read("name", matching(NAME, "must be 1 to 40 of A-Z a-z 0-9 _ . -"), "")
        symbols = frozenset(each.read("symbols", symbols_of, ()))
        positions, notional = (each.read(limit, field.read, None) for limit, field in GROUP_LIMITS.items())
        groups.append(SymbolGroup(name, symbols, positions, notional))
    return groups


def as_ms(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def iso(ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat().replace("+00:00", "Z")


def request_to_json(request: BacktestRequest) -> dict[str, Any]:
    """Everything that was asked, defaults written out: :func:`request_from_json` gives the same request again."""
    return {
        "strategies": [
            {
                name: plain(dict(value) if name == "parameters" else value)
                for name, value in ((name, getattr(run, name)) for name in STRATEGY_FIELDS)
                if name != "limits"
            }
            | {"limits": None if run.limits is None else _limits_json(run.limits)}
            for run in request.strategies
        ],
        "start": iso(request.start_ms),
        "end": iso(request.end_ms),
        "source": str(request.source),
        "venue": request.venue,
        "interval": request.interval,
        "balance": f"{request.balance:f}",
        "costs": {each.name: plain(getattr(request.costs, each.name)) for each in fields(Costs)},
        "limits": _limits_json(request.limits),
        "exit_rules": {each.name: plain(getattr(request.exit_rules, each.name)) for each in fields(ExitRules)},
        "groups": [
            {
                "name": group.name,
                "symbols": sorted(group.symbols),
                "max_positions": group.max_positions,
                "max_notional": plain(group.max_notional),
            }
            for group in groups_of(request)
        ],
        **({"recording": request.recording, "accept_gaps": request.accept_gaps} if request.recording else {}),
        "seed": request.seed,
        "combine": request.combine,
    }


def _limits_json(limits: Limits) -> dict[str, Any]:
    groups = {
        name: {each: plain(getattr(limit, each)) for each in GROUP_LIMITS}
        for name, limit in sorted(limits.group_limits.items())
    }
    return {**{name: plain(getattr(limits, name)) for name in LIMITS}, "group_limits": groups}


def groups_of(request: BacktestRequest) -> list[SymbolGroup]:
    """The groups that hold one of its symbols, by name."""
    found = {group.name: group for symbol in request.symbols for group in request.groups.of(symbol)}
    return [found[name] for name in sorted(found)]


def plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return value
