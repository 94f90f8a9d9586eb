"""From market data to approved intents: strategies -> validation -> sizing -> risk. One class, used live, on paper and
in backtests.

No database, no I/O, no clock: configuration, limits and exposure are frozen snapshots that the caller swaps whole, and
time comes with the data, so a replay of a recording decides bit for bit as the live run did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketdata.candles.series import interval_ms
from marketdata.events import BookView, Candle, Trade
from marketdata.instruments import InstrumentRules
from mlops.validation import PassThroughValidator, Validator, Verdict, held_to
from risk.checks import Decision, Market, Refusal, check_intent
from risk.exits import ExitRules
from risk.exposure import Exposure
from risk.groups import SymbolGroups
from risk.intents import OrderIntent, new_client_order_id
from risk.leverage import allowed_leverage
from risk.limits import Limits
from risk.policies import Policies
from risk.returns import KnownReturns, Returns
from risk.sizing import size_position, within_limits
from risk.slippage import BookSide, estimate_fill
from strategies.base import Strategy
from strategies.call_watch import Overrun
from strategies.faults import file_of, place_of, words_of
from strategies.registry import STRATEGIES
from strategies.signals import Signal
from strategies.weights import Combiner, Combining, Listening, Performance

LIVE = "LIVE"
# Getting out must be possible in a symbol of which nothing is heard: what only reduces is not judged by its worth.
NO_PRICE = Decimal(0)
NOTHING_KNOWN = Exposure()
# A strategy that raises so often in a row is not asked again.
MOST_FAULTS = 10
ENDS_A_CALL = (Exception, Overrun, SystemExit)
# To make a strategy may take so many times as long as to ask it: it may have to compile.
MAKING = 12
# What weights missed while nobody looked is replayed as far back as a venue tells it in one answer.
REPLAYED_BARS = 999


@dataclass(frozen=True, slots=True)
class RunningStrategy:
    """One enabled strategy configuration with the limits that apply to it. ``code``: the digest of the strategy's file,
    empty for a built-in one."""

    config_id: int
    version: int
    account_id: int
    name: str
    strategy: str
    symbols: tuple[str, ...]
    parameters: Mapping[str, Any]
    sizing_mode: str
    sizing_value: Decimal
    leverage: Decimal
    allow_reversal: bool
    limits: Limits
    size_by_confidence: bool = False
    adaptive_leverage: bool = False
    code: str = ""


@dataclass(frozen=True, slots=True)
class PipelineConfiguration:
    strategies: tuple[RunningStrategy, ...] = ()
    rules: Mapping[str, InstrumentRules] = field(default_factory=lambda: MappingProxyType({}))
    validator: Validator = field(default_factory=PassThroughValidator)
    groups: SymbolGroups = field(default_factory=SymbolGroups)
    policies: Policies = field(default_factory=Policies)
    combining: Combining = field(default_factory=Combining)


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """What became of one signal. ``intent`` is None when validation vetoed or nothing could be sized; ``decision`` is
    then None or names why."""

    running: RunningStrategy
    signal: Signal
    verdict: Verdict
    intent: OrderIntent | None
    decision: Decision | None
    trace_id: str

    @property
    def approved(self) -> bool:
        return self.intent is not None and self.decision is not None and self.decision.approved


@dataclass(frozen=True, slots=True)
class UnjudgedSignal:
    """A valid signal for an account that another engine owns: only that one knows what is at stake."""

    running: RunningStrategy
    signal: Signal
    verdict: Verdict
    reference_price: Decimal
    trace_id: str


@dataclass(frozen=True, slots=True)
class Quote:
    """What another engine says of a symbol: its reference price, and whether its book is proven correct."""

    price: Decimal | None
    proven: bool


@dataclass(frozen=True, slots=True)
class StrategyFault:
    """A strategy that raised, or took too long. It was isolated: the others went on. ``where``: the file and line of
    its own code, which ``error`` ends with; ``in_a_row``: how often it has by now, without a call of the same kind in
    between that went well. With the last that it may it ``is_over``: it is not asked any more."""

    running: RunningStrategy
    symbol: str
    error: str
    where: str = ""
    in_a_row: int = 1

    @property
    def is_over(self) -> bool:
        return self.in_a_row >= MOST_FAULTS


@dataclass(frozen=True, slots=True)
class Hearing:
    """A strategy that is warm, and since which bar (its start) it has heard every one of a symbol."""

    running: RunningStrategy
    symbol: str
    interval: str
    first_ms: int


@dataclass(slots=True)
class _Instance:
    running: RunningStrategy
    strategy: Strategy
    candles_seen: int = 0
    # The starts of the first closed bar of its timeframe that it was told, and of the last.
    first_ms: int | None = None
    last_ms: int | None = None
    # The last one at whose end its signals counted.
    counted_ms: int | None = None
    # In a row, by what it was told: one that always fails on trades is not excused by books that it passes over.
    faults: dict[Callable[..., Any], int] = field(default_factory=dict)
    is_over: bool = False

    @property
    def warm(self) -> bool:
        return self.candles_seen >= self.strategy.warm_up

    def listens(self, candle: Candle) -> bool:
        """Whether it is a closed bar of its timeframe."""
        return candle.closed and self.strategy.timeframe == candle.interval

    def has_heard(self, candle: Candle) -> bool:
        return self.last_ms is not None and self.listens(candle) and candle.start_ms <= self.last_ms

    def lacking(self, candle: Candle) -> int:
        """How many bars before this one it should have been told and was not."""
        if self.strategy.timeframe != candle.interval:
            return 0
        if self.last_ms is None:
            return self.strategy.warm_up
        return max(0, (candle.start_ms - self.last_ms) // interval_ms(candle.interval) - 1)

    def heard(self, candle: Candle) -> None:
        if self.listens(candle):
            self.candles_seen += 1
            self.last_ms = candle.start_ms
            self.first_ms = candle.start_ms if self.first_ms is None else self.first_ms


Outcome = PipelineResult | UnjudgedSignal | StrategyFault


class Pipeline:
    """``new_trace_id`` is injected: random live, a counter in replays. ``book_proven`` says whether a symbol's
    book is LIVE now: what candles and trades signal does not trade on another one either. ``may_act`` says whether a
    symbol's signals count here: strategies that only stand by see the same market and keep silent. ``owns`` says
    whether an account's risk is judged here. ``book_side`` shows what a market order of a side would take,
    ``book_features`` the book's features now; both None where the book is not here. ``call(subject, ask, argument)``
    asks a strategy: with a watch (``strategies.call_watch``) where an endless loop must not stop everything.
    ``returns``: what knows how symbols move, where that is not made of the prices that are told."""

    def __init__(
        self,
        new_trace_id: Callable[[], str],
        book_proven: Callable[[str], bool] = lambda symbol: True,
        may_act: Callable[[str], bool] = lambda symbol: True,
        owns: Callable[[int], bool] = lambda account_id: True,
        book_side: Callable[[str, str], BookSide | None] = lambda symbol, side: None,
        book_features: Callable[[str], NDArray[np.float64] | None] = lambda symbol: None,
        call: Callable[..., Any] | None = None,
        returns: KnownReturns | None = None,
    ) -> None:
        self._call = call
        self._faults: list[StrategyFault] = []
        self._unmade: set[tuple[tuple[int, int, str], str]] = set()
        self._new_trace_id, self._book_side, self._book_features = new_trace_id, book_side, book_features
        self._book_proven, self._may_act, self._owns = book_proven, may_act, owns
        self._followed: frozenset[str] | None = None
        self._configuration = PipelineConfiguration()
        self._instances: dict[str, list[_Instance]] = {}
        self._exposures: dict[int, Exposure] = {}
        # Approved since, and not counted in it yet.
        self._reserved: dict[int, list[tuple[OrderIntent, Decimal]]] = {}
        self._reference_prices: dict[str, Decimal] = {}
        self._returns: KnownReturns = Returns() if returns is None else returns
        self._features: dict[str, NDArray[np.float64]] = {}
        self._combiner = Combiner()
        self._behind: set[tuple[str, str]] = set()

    def configure(self, configuration: PipelineConfiguration) -> tuple[RunningStrategy, ...]:
        """Swap the configuration whole. A strategy whose version and code are unchanged keeps its object, so that its
        warm-up is not lost; returns those that are new or changed, whose candles the caller should replay through
        :meth:`warm`. One that cannot be made is left out: :meth:`take_faults` says why."""
        kept = {(_identity(i.running), s): i for s, many in self._instances.items() for i in many}
        current = {_identity(running) for running in configuration.strategies}
        self._unmade = {(identity, symbol) for identity, symbol in self._unmade if identity in current}
        instances: dict[str, list[_Instance]] = defaultdict(list)
        fresh = []
        for running in configuration.strategies:
            is_fresh = False
            for symbol in running.symbols:
                if self._followed is not None and symbol not in self._followed:
                    continue
                instance = kept.get((_identity(running), symbol))
                if instance is None:
                    instance = self._made(running, symbol)
                    if instance is None:
                        continue
                    is_fresh = True
                instance.running = running
                instances[symbol].append(instance)
            if is_fresh:
                fresh.append(running)
        known = self._combiner.performances()
        self._combiner.hold_for(_listening(instances, configuration.policies), configuration.combining)
        self._behind |= self._combiner.candles_of(self._combiner.performances().keys() - known.keys())
        self._configuration, self._instances = configuration, dict(instances)
        return tuple(fresh)

    def performances(self) -> Mapping[tuple[int, str], Performance]:
        """What weights follow from, by account and symbol."""
        return self._combiner.performances()

    @property
    def combining(self) -> Combining:
        """The rules that they are learnt by."""
        return self._configuration.combining

    def restore_performances(self, states: Mapping[tuple[int, str], Mapping[str, Any]]) -> None:
        """Go on with what was known before; :meth:`cold` then names the candles that were missed since.

        Raises:
            KeyError, TypeError, ValueError: a state is none; nothing changed.
        """
        self._combiner.restore(states)
        self._behind |= self._combiner.candles_of(states)

    def _made(self, running: RunningStrategy, symbol: str) -> _Instance | None:
        if (_identity(running), symbol) in self._unmade:
            return None
        kind = STRATEGIES[running.strategy]
        try:
            if self._call is None:
                return _Instance(running, kind.create(symbol, running.parameters))
            subject = (running, symbol)
            return _Instance(running, self._call(subject, kind.create, symbol, running.parameters, times=MAKING))
        except ENDS_A_CALL as error:
            # Nothing of what it is made from can change but with its version or its code.
            self._unmade.add((_identity(running), symbol))
            self._faults.append(_fault(running, symbol, error, kind, MOST_FAULTS))
            return None

    def take_faults(self) -> list[StrategyFault]:
        """Of strategies that could not be made or warmed up, since the last call."""
        taken, self._faults = self._faults, []
        return taken

    def follow(self, symbols: frozenset[str]) -> None:
        """Run strategies on these symbols only (on all of their configuration before the first call). One that comes
        back later starts cold: it missed what happened meanwhile."""
        self._followed = symbols
        self._reference_prices = {name: price for name, price in self._reference_prices.items() if name in symbols}
        self._features = {name: values for name, values in self._features.items() if name in symbols}
        self.configure(self._configuration)

    def strategy(self, config_id: int | None) -> RunningStrategy | None:
        return next((each for each in self._configuration.strategies if each.config_id == config_id), None)

    def listens(self, symbol: str) -> bool:
        """Whether any strategy watches the symbol."""
        return symbol in self._instances

    def cold(self) -> dict[tuple[str, str], int]:
        """Symbol and interval of the candles that strategies still need to warm up, and weights to know of what they
        missed, and how many; the shortest first, for what a long one met is told apart by those within it."""
        needed: dict[tuple[str, str], int] = {}
        for symbol, many in self._instances.items():
            for instance in many:
                if instance.strategy.timeframe is not None and not instance.warm:
                    key = (symbol, instance.strategy.timeframe)
                    needed[key] = max(needed.get(key, 0), instance.strategy.warm_up)
        for key in self._behind:
            needed[key] = max(needed.get(key, 0), REPLAYED_BARS)
        return dict(sorted(needed.items(), key=lambda item: (interval_ms(item[0][1]), item[0])))

    def warm(self, candles: Iterable[Candle]) -> None:
        """Replay past closed candles, oldest first, into instances that are not warm yet; their signals are dropped:
        they are history. What an instance has heard is not told again."""
        history = list(candles)
        cold = {id(i): i for c in history for i in self._instances.get(c.symbol, ()) if not i.warm}
        for candle in history:
            self._combiner.note_candle(candle)
            self._behind.discard((candle.symbol, candle.interval))
            for instance in self._instances.get(candle.symbol, ()):
                if id(instance) in cold and instance.listens(candle) and not instance.has_heard(candle):
                    self._ask(instance, candle.symbol, _tell_candle, candle, self._faults)
                    instance.heard(candle)

    def lacking(self, candle: Candle) -> int:
        """How many older bars strategies should be told before this one: they are not warmed up, or missed some. From
        another history they would not decide as a backtest does."""
        return max((instance.lacking(candle) for instance in self._instances.get(candle.symbol, ())), default=0)

    def hearing(self, candle: Candle) -> list[Hearing]:
        """The strategies whose signals at the end of this bar count."""
        return [
            Hearing(each.running, candle.symbol, candle.interval, each.first_ms)
            for each in self._instances.get(candle.symbol, ())
            if each.listens(candle) and each.first_ms is not None and each.counted_ms == candle.start_ms
        ]

    def leverages(self, account_id: int) -> dict[str, Decimal]:
        """The leverage that the account's strategies want for each symbol; the first that names a symbol decides."""
        wanted: dict[str, Decimal] = {}
        for running in self._configuration.strategies:
            if running.account_id == account_id:
                for symbol in running.symbols:
                    wanted.setdefault(symbol, self._leverage(running, symbol))
        return wanted

    def update_exposure(self, account_id: int, exposure: Exposure) -> None:
        self._exposures[account_id] = exposure
        self._reserved.pop(account_id, None)

    def exposure(self, account_id: int) -> Exposure:
        """What the account has at stake, orders that were approved since counted."""
        exposure = self._exposures.get(account_id, NOTHING_KNOWN)
        for intent, price in self._reserved.pop(account_id, ()):
            exposure = self._exposures[account_id] = exposure.with_intent(intent, price)
        return exposure

    def update_reference_price(self, symbol: str, price: Decimal, time_ns: int | None = None) -> None:
        """The mark price (or the last), against which market orders and collars are judged. ``time_ns``: when it was
        heard, for the returns that correlations and volatilities are made of."""
        self._reference_prices[symbol] = price
        if time_ns is not None:
            self._returns.add(symbol, float(price), time_ns)

    def reference_price(self, symbol: str) -> Decimal | None:
        return self._reference_prices.get(symbol)

    def reference_prices(self) -> Mapping[str, Decimal]:
        """All of them, as they are now."""
        return MappingProxyType(dict(self._reference_prices))

    def exit_rules(self, account_id: int) -> ExitRules:
        """How the account's positions end."""
        return self._configuration.policies.exit_rules(account_id)

    def features(self, symbol: str) -> NDArray[np.float64] | None:
        """The features of the symbol's book as it is now."""
        return self._book_features(symbol)

    def rules(self, symbol: str) -> InstrumentRules | None:
        return self._configuration.rules.get(symbol)

    def on_book(self, view: BookView) -> list[Outcome]:
        """A book that is not proven correct does not trade."""
        if view.state != LIVE:
            return []
        self._features[view.symbol] = view.features
        self._combiner.note_book(view)
        return self._offer(view.symbol, _tell_book, view, self._instances.get(view.symbol, ()))

    def on_trade(self, trade: Trade) -> list[Outcome]:
        return self._offer(trade.symbol, _tell_trade, trade, self._instances.get(trade.symbol, ()))

    def on_candle(self, candle: Candle, *, late: Refusal | None = None) -> list[Outcome]:
        """``late``: why nothing is to be done any more about what strategies say to this bar."""
        many = self._instances.get(candle.symbol, [])
        unheard = [each for each in many if not each.has_heard(candle)]
        if len(unheard) < len(many) and not any(each.listens(candle) for each in unheard):
            return []
        self._combiner.note_candle(candle)
        outcomes = self._offer(candle.symbol, _tell_candle, candle, unheard, late)
        for instance in unheard:
            if instance.warm:
                instance.counted_ms = candle.start_ms
            instance.heard(candle)
        return outcomes

    def on_signal(self, running: RunningStrategy, signal: Signal) -> PipelineResult | UnjudgedSignal:
        """Judge a signal that a strategy made elsewhere: backtests ask a kernel for those of many bars at once."""
        return self._judge(running, signal)

    def instances(self) -> Iterator[tuple[RunningStrategy, str, Strategy]]:
        """Every strategy object with its symbol, in the order in which a symbol's are asked."""
        for symbol, many in self._instances.items():
            for instance in many:
                yield instance.running, symbol, instance.strategy

    def check(
        self,
        intent: OrderIntent,
        limits: Limits,
        quote: Quote | None = None,
        side: BookSide | None = None,
        *,
        replacing: Exposure | None = None,
    ) -> Decision:
        """Ask risk about an intent that did not come from a strategy (a person's or a bot's). ``quote`` and ``side``,
        what the venue tells of the book, are for symbols that another engine follows. ``replacing``: the account's
        exposure without the order that the intent replaces; until the outcome is known both count."""
        rules = self._configuration.rules.get(intent.symbol)
        price, proven = self._reference_prices.get(intent.symbol), self._book_proven(intent.symbol)
        if price is None and quote is not None:
            price, proven = quote.price, quote.proven
        if price is None and intent.reduce_only:
            price = NO_PRICE
        if rules is None or price is None:
            message = f"{intent.symbol} has no market data in any engine"
            return Decision(False, (Refusal("market_data", "required", "none", message),))
        if not intent.reduce_only and not proven:
            return Decision(False, (unproven(intent.symbol),))
        exposure = self.exposure(intent.account_id) if replacing is None else replacing
        decision = check_intent(intent, limits, exposure, rules, price, self._market(intent, side))
        if decision.approved:
            self._reserve(intent, price)
        return decision

    def _ask(
        self, instance: _Instance, symbol: str, tell: Callable[..., Signal | None], news: Any, faults: list[Any]
    ) -> Signal | None:
        """A strategy is other people's code: it may fail, alone."""
        if instance.is_over:
            return None
        try:
            if self._call is None:
                signal = tell(instance.strategy, news)
            else:
                signal = self._call((instance.running, symbol), tell, instance.strategy, news)
        except ENDS_A_CALL as error:
            # One that did not come back in time would keep everybody waiting each time.
            in_a_row = MOST_FAULTS if isinstance(error, Overrun) else instance.faults.get(tell, 0) + 1
            instance.faults[tell], instance.is_over = in_a_row, in_a_row >= MOST_FAULTS
            faults.append(_fault(instance.running, symbol, error, type(instance.strategy), in_a_row))
            return None
        if instance.faults:
            instance.faults.pop(tell, None)
        return signal

    def _offer(
        self,
        symbol: str,
        tell: Callable[..., Signal | None],
        news: Any,
        listeners: Sequence[_Instance],
        late: Refusal | None = None,
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        signals: list[tuple[RunningStrategy, Signal]] = []
        for instance in listeners:
            signal = self._ask(instance, symbol, tell, news, outcomes)
            if signal is not None and instance.warm and self._may_act(symbol):
                signals.append((instance.running, signal))
        combinations = self._combiner.combined((each.account_id, each.config_id, signal) for each, signal in signals)
        if late is not None:
            return [*outcomes, *(self._refused(running, signal, late) for running, signal in signals)]
        for running, signal in signals:
            combined = combinations.get(running.account_id)
            if combined is None:
                outcomes.append(self._judge(running, signal))
            elif combined.carrier is not None and combined.carrier.key == running.config_id:
                outcomes.append(self._judge(running, combined.carrier.signal))
            else:
                verdict = Verdict(False, None, "combination", combined.words)
                outcomes.append(PipelineResult(running, signal, verdict, None, None, self._new_trace_id()))
        return outcomes

    def _refused(self, running: RunningStrategy, signal: Signal, refusal: Refusal) -> PipelineResult:
        verdict = self._verdict(signal)
        return PipelineResult(running, signal, verdict, None, Decision(False, (refusal,)), self._new_trace_id())

    def _judge(self, running: RunningStrategy, signal: Signal) -> PipelineResult | UnjudgedSignal:
        trace_id = self._new_trace_id()
        verdict = self._verdict(signal)
        if not verdict.executed:
            return PipelineResult(running, signal, verdict, None, None, trace_id)
        if not self._book_proven(signal.symbol):
            return PipelineResult(running, signal, verdict, None, Decision(False, (unproven(signal.symbol),)), trace_id)
        price = self._reference_prices.get(signal.symbol, signal.entry_price)
        if not self._owns(running.account_id):
            return UnjudgedSignal(running, signal, verdict, price, trace_id)
        return self.decide(running, signal, verdict, price, trace_id)

    def decide(
        self,
        running: RunningStrategy,
        signal: Signal,
        verdict: Verdict,
        price: Decimal,
        trace_id: str,
        side: BookSide | None = None,
    ) -> PipelineResult:
        """Size a valid signal and ask risk, by what is known here to be at stake on its account. ``side`` as for
        :meth:`check`."""
        exposure = self.exposure(running.account_id)
        rules = self._configuration.rules.get(signal.symbol)
        if rules is None:
            refusal = Refusal("instrument", "known", signal.symbol, f"{signal.symbol} is not an instrument we know")
            return PipelineResult(running, signal, verdict, None, Decision(False, (refusal,)), trace_id)
        refusal_or_intent = self._intent(running, signal, exposure, rules, price, trace_id)
        if isinstance(refusal_or_intent, Refusal):
            return PipelineResult(running, signal, verdict, None, Decision(False, (refusal_or_intent,)), trace_id)
        intent = refusal_or_intent
        decision = check_intent(intent, running.limits, exposure, rules, price, self._market(intent, side))
        closing = exposure.signed_quantity(intent.symbol) * -signal.direction
        if not decision.approved and closing > 0 and not intent.reduce_only:
            # What may not turn the position may still close it.
            closes = replace(intent, quantity=closing, reduce_only=True, take_profit=None, stop_loss=None)
            closed = check_intent(closes, running.limits, exposure, rules, price)
            intent, decision = (closes, closed) if closed.approved else (intent, decision)
        if decision.approved:
            self._reserve(intent, price)
        return PipelineResult(running, signal, verdict, intent, decision, trace_id)

    def _verdict(self, signal: Signal) -> Verdict:
        try:
            verdict = self._configuration.validator.judge(signal, self._features.get(signal.symbol))
            return held_to(signal, verdict)
        except Exception as error:  # an error of the model never executes
            return Verdict(False, None, "error", f"validation failed: {type(error).__name__}: {error}")

    def _intent(
        self,
        running: RunningStrategy,
        signal: Signal,
        exposure: Exposure,
        rules: InstrumentRules,
        price: Decimal,
        trace_id: str,
    ) -> OrderIntent | Refusal:
        """The market order that carries the signal out: opening, or closing (and turning) an opposite position."""
        held = exposure.signed_quantity(signal.symbol) * signal.direction
        if held > 0:
            message = f"a {signal.side} position in {signal.symbol} is open already"
            return Refusal("max_positions_per_symbol", "1", "2", message)
        pending = exposure.pending.get(signal.symbol)
        if pending is not None and pending.opens:
            message = f"orders in {signal.symbol} are still pending; the next signal waits for their end"
            return Refusal("max_positions_per_symbol", "1", "2", message)
        closing = -held
        if closing > 0 and pending is not None:
            # What is being closed already is not closed twice: the rest of this order would open the other side.
            closing = max(closing - (pending.closing_buy if signal.side == "Buy" else pending.closing_sell), Decimal(0))
            if closing == 0 and not running.allow_reversal:
                message = f"the position in {signal.symbol} is being closed already"
                return Refusal("max_positions_per_symbol", "1", "2", message)
        leverage = self._leverage(running, signal.symbol)
        opening = self._opening(running, signal, exposure, rules, price, leverage, closing)
        if isinstance(opening, Refusal) and closing == 0:
            return opening
        # Without room for a new position an opposite one is closed all the same.
        reduce_only = closing > 0 and (not running.allow_reversal or isinstance(opening, Refusal))
        quantity = closing if reduce_only or isinstance(opening, Refusal) else closing + opening
        return OrderIntent(
            account_id=running.account_id,
            symbol=signal.symbol,
            side=signal.side,
            order_type="Market",
            quantity=quantity,
            price=None,
            time_in_force="IOC",
            reduce_only=reduce_only,
            take_profit=None if reduce_only else rules.round_price(signal.take_profit),
            stop_loss=None if reduce_only else rules.round_price(signal.stop_loss),
            strategy=running.name,
            client_order_id=new_client_order_id(
                signal.time_ns // 1_000_000, signal.symbol, running.name, trace_id[-8:]
            ),
            reason=signal.reason,
            trace_id=trace_id,
            leverage=leverage,
        )

    def _opening(
        self,
        running: RunningStrategy,
        signal: Signal,
        exposure: Exposure,
        rules: InstrumentRules,
        price: Decimal,
        leverage: Decimal,
        closing: Decimal,
    ) -> Decimal | Refusal:
        """What the signal opens, as far as the limits leave room for it."""
        sized = size_position(
            running.sizing_mode,
            running.sizing_value,
            equity=exposure.equity,
            leverage=leverage,
            price=price,
            rules=rules,
            confidence=signal.strength if running.size_by_confidence else None,
        )
        if sized == 0:
            message = f"{running.sizing_value:f} ({running.sizing_mode}) buys less than the venue's smallest order"
            return Refusal("sizing", running.sizing_mode, f"{running.sizing_value:f}", message)
        allowed = within_limits(
            sized,
            closing=closing,
            side=signal.side,
            price=price,
            stop_loss=rules.round_price(signal.stop_loss),
            limits=running.limits,
            exposure=exposure,
            rules=rules,
        )
        # Where nothing fits, the checks say which limit it is.
        return allowed or sized

    def _leverage(self, running: RunningStrategy, symbol: str) -> Decimal:
        rules = self._configuration.rules.get(symbol)
        wanted = running.leverage
        if running.adaptive_leverage:
            by_volatility = self._configuration.policies.leverage_rules(running.account_id)
            wanted = by_volatility.leverage(self._returns.volatility_percent(symbol))
        return allowed_leverage(wanted, running.limits.max_leverage, rules.max_leverage if rules else None)

    def _market(self, intent: OrderIntent, told: BookSide | None) -> Market:
        if intent.order_type != "Market" or intent.reduce_only:
            return Market(self._configuration.groups, self._returns)
        side = told or self._book_side(intent.symbol, intent.side)
        fill = estimate_fill(side, intent.quantity) if side is not None else None
        unread = fill is None and self.reference_price(intent.symbol) is None
        return Market(self._configuration.groups, self._returns, fill, unread)

    def _reserve(self, intent: OrderIntent, price: Decimal) -> None:
        """Count an approved order at once, for its account and for those whose limits count it too."""
        # For its account when it is asked next: the order that was approved now need not wait for it.
        self._reserved.setdefault(intent.account_id, []).append((intent, price))
        owner_id = self._exposures.get(intent.account_id, NOTHING_KNOWN).owner_id
        for account_id, other in self._exposures.items():
            if account_id != intent.account_id and (other.user is not None or other.platform is not None):
                same_owner = other.owner_id == owner_id
                self._exposures[account_id] = other.with_others_intent(intent, price, same_owner=same_owner)


def _tell_book(strategy: Strategy, view: BookView) -> Signal | None:
    return strategy.on_book(view)


def _tell_trade(strategy: Strategy, trade: Trade) -> Signal | None:
    return strategy.on_trade(trade)


def _tell_candle(strategy: Strategy, candle: Candle) -> Signal | None:
    return strategy.on_candle(candle)


def _listening(instances: Mapping[str, Iterable[_Instance]], policies: Policies) -> dict[int, Listening]:
    """Of the accounts that combine, what their strategies are told."""
    candles: dict[int, set[tuple[str, str]]] = defaultdict(set)
    books: dict[int, set[str]] = defaultdict(set)
    for symbol, many in instances.items():
        for instance in many:
            account, timeframe = instance.running.account_id, instance.strategy.timeframe
            if timeframe is None:
                books[account].add(symbol)
            else:
                candles[account].add((symbol, timeframe))
    return {
        account: Listening(frozenset(candles[account]), frozenset(books[account]))
        for account in sorted({*candles, *books})
        if policies.combines(account)
    }


def _identity(running: RunningStrategy) -> tuple[int, int, str]:
    return running.config_id, running.version, running.code


def _fault(running: RunningStrategy, symbol: str, error: BaseException, kind: type, in_a_row: int) -> StrategyFault:
    where = str(place_of(error, file_of(kind)))
    words = "it did not come back in time" if isinstance(error, Overrun) else words_of(error)
    return StrategyFault(running, symbol, f"{words} ({where})", where, in_a_row)


def unproven(symbol: str) -> Refusal:
    return Refusal("book", LIVE, "not proven", f"the book of {symbol} is not proven correct now; nothing trades on it")
