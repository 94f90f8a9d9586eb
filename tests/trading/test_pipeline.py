"""From market data to approved intents: nothing unproven trades, nobody is twice in, one fault stays one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import count
from typing import Any

import numpy as np
import pytest

from marketdata.engine.feature_table import FEATURES, feature_index
from marketdata.events import BookView, Candle
from mlops.validation import Verdict
from risk.exposure import Exposure, PositionExposure, Totals
from risk.limits import Limits
from risk.policies import Policies
from risk.returns import STEP_NS
from risk.slippage import BookSide
from strategies.library import STRATEGIES
from tests.builders import RULES, intent
from trading.pipeline import (
    Pipeline,
    PipelineConfiguration,
    PipelineResult,
    Quote,
    RunningStrategy,
    StrategyFault,
    UnjudgedSignal,
)

D = Decimal
RICH = Exposure(known=True, equity=D(100_000), available_balance=D(100_000))


def running(**changes: Any) -> RunningStrategy:
    values: dict[str, Any] = {
        "config_id": 1,
        "version": 1,
        "account_id": 1,
        "name": "imbalance",
        "strategy": "scalping.imbalance",
        "symbols": ("BTCUSDT",),
        "parameters": {spec.name: spec.default for spec in STRATEGIES["scalping.imbalance"].parameters}
        | {"hold_ms": 0, "cooldown_s": 1},
        "sizing_mode": "percent",
        "sizing_value": D(1),
        "leverage": D(10),
        "allow_reversal": True,
        "limits": Limits(),
    }
    return RunningStrategy(**(values | changes))


def pipeline(*strategies: RunningStrategy, exposure: Exposure = RICH, **configuration: Any) -> Pipeline:
    numbers: Iterator[int] = count()
    made = Pipeline(lambda: f"{next(numbers):032x}")
    made.configure(PipelineConfiguration(strategies or (running(),), {"BTCUSDT": RULES}, **configuration))
    made.update_exposure(1, exposure)
    made.update_reference_price("BTCUSDT", D(60_000))
    return made


def view(imbalance: float, milliseconds: int = 0, state: str = "LIVE") -> BookView:
    features = np.full(len(FEATURES), np.nan)
    features[feature_index("imbalance_5")] = imbalance
    return BookView("BTCUSDT", state, milliseconds * 10**6, 0, 1, D("60000.0"), D("60000.1"), features)


def only(outcomes: list) -> PipelineResult:
    assert len(outcomes) == 1 and isinstance(outcomes[0], PipelineResult)
    return outcomes[0]


def test_a_signal_becomes_an_approved_market_order_with_its_exits_on_the_grid() -> None:
    result = only(pipeline().on_book(view(0.9)))
    assert result.approved and result.intent is not None
    made = result.intent
    # 1 % of 100,000 at leverage 10 is 10,000 USD: 0.166 BTC on the lot grid.
    assert (made.side, made.quantity, made.order_type) == ("Buy", D("0.166"), "Market")
    assert made.take_profit % RULES.tick_size == 0 and made.stop_loss % RULES.tick_size == 0
    assert made.stop_loss < D("60000.1") < made.take_profit


def test_a_book_that_is_not_proven_does_not_trade() -> None:
    for state in ("SYNCING", "STALE", "BROKEN"):
        assert pipeline().on_book(view(0.9, state=state)) == []


def test_candles_and_people_do_not_trade_on_an_unproven_book_either() -> None:
    made = Pipeline(lambda: "trace", book_proven=lambda symbol: False)
    made.configure(PipelineConfiguration((supertrend(),), {"BTCUSDT": RULES}))
    made.update_exposure(1, RICH)
    made.update_reference_price("BTCUSDT", D(60_000))
    made.warm(swings(0, 40))
    signals = [outcome for bar in swings(40, 60) for outcome in made.on_candle(bar)]
    assert signals and all(each.intent is None and each.decision.refusals[0].limit == "book" for each in signals)
    assert made.check(intent(), Limits()).refusals[0].limit == "book"
    long = {"BTCUSDT": PositionExposure("Buy", D("0.5"), D(60_000), D(60_000), D(10))}
    made.update_exposure(1, replace(RICH, positions=long))
    assert made.check(intent(side="Sell", reduce_only=True), Limits()).approved


def test_a_symbol_that_another_engine_holds_is_watched_in_silence() -> None:
    mine: set[str] = set()
    made = Pipeline(lambda: "trace", may_act=mine.__contains__)
    made.configure(PipelineConfiguration((running(),), {"BTCUSDT": RULES}))
    made.update_exposure(1, RICH)
    made.update_reference_price("BTCUSDT", D(60_000))
    assert made.on_book(view(0.9)) == [] and made.exposure(1) == RICH
    mine.add("BTCUSDT")
    # What it would have signalled before is not signalled again: its strategies are where the holder's are.
    assert made.on_book(view(0.9, 500)) == []
    assert only(made.on_book(view(0.9, 1_500))).approved


def test_a_signal_for_an_account_of_another_engine_is_left_to_it_and_judged_there() -> None:
    made = Pipeline(lambda: "trace", owns=lambda account_id: False)
    made.configure(PipelineConfiguration((running(),), {"BTCUSDT": RULES}))
    made.update_reference_price("BTCUSDT", D(60_000))
    (unjudged,) = made.on_book(view(0.9))
    assert isinstance(unjudged, UnjudgedSignal) and unjudged.reference_price == D(60_000)
    owner = pipeline()
    result = owner.decide(owner.strategy(1), unjudged.signal, unjudged.verdict, unjudged.reference_price, "trace")
    assert result.approved and owner.exposure(1).open_orders == 1
    # What it approved counts: the same again would be twice in.
    again = owner.decide(owner.strategy(1), unjudged.signal, unjudged.verdict, unjudged.reference_price, "trace")
    assert not again.approved


def test_only_followed_symbols_have_strategies_and_one_that_comes_back_starts_cold() -> None:
    made = pipeline(supertrend())
    made.warm(swings(0, 40))
    assert made.listens("BTCUSDT") and not made.cold()
    made.follow(frozenset())
    assert not made.listens("BTCUSDT") and made.reference_price("BTCUSDT") is None
    made.follow(frozenset({"BTCUSDT"}))
    assert made.cold()


def test_a_persons_order_on_another_engines_symbol_is_checked_by_what_that_one_says() -> None:
    made = pipeline()
    made.follow(frozenset())
    assert made.check(intent(), Limits()).refusals[0].limit == "market_data"
    assert made.check(intent(), Limits(), Quote(D(60_000), proven=False)).refusals[0].limit == "book"
    assert made.check(intent(), Limits(), Quote(D(60_000), proven=True)).approved


def test_an_account_that_is_not_reconciled_is_denied() -> None:
    result = only(pipeline(exposure=Exposure(equity=D(1000), available_balance=D(1000))).on_book(view(0.9)))
    assert not result.approved and "reconciliation" in {r.limit for r in result.decision.refusals}


def test_a_veto_is_no_order_and_an_error_of_the_model_is_a_veto() -> None:
    class Doubtful:
        def judge(self, signal: Any, features: Any) -> Verdict:
            return Verdict(False, 0.3, "model 7", "confidence 0.30 is under 0.65")

    class Broken:
        def judge(self, signal: Any, features: Any) -> Verdict:
            raise RuntimeError("no weights")

    for validator, words in ((Doubtful(), "under 0.65"), (Broken(), "no weights")):
        result = only(pipeline(validator=validator).on_book(view(0.9)))
        assert not result.verdict.executed and words in result.verdict.reason and result.intent is None


def test_two_signals_of_one_millisecond_do_not_both_pass() -> None:
    made = pipeline(running(), running(config_id=2, name="twin"))
    first, second = made.on_book(view(0.9))
    assert first.approved and not second.approved
    assert second.decision.refusals[0].limit == "max_positions_per_symbol"


def test_an_opposite_signal_closes_and_turns_or_only_closes() -> None:
    long = replace(RICH, positions={"BTCUSDT": PositionExposure("Buy", D("0.5"), D(60_000), D(60_000), D(10))})
    turned = only(pipeline(exposure=long).on_book(view(-0.9))).intent
    assert turned is not None and (turned.side, turned.quantity, turned.reduce_only) == ("Sell", D("0.666"), False)
    closed = only(pipeline(running(allow_reversal=False), exposure=long).on_book(view(-0.9))).intent
    assert closed is not None and (closed.quantity, closed.reduce_only, closed.stop_loss) == (D("0.5"), True, None)
    again = only(pipeline(exposure=long).on_book(view(0.9)))
    assert not again.approved and "open already" in again.decision.refusals[0].message


LONG = {"BTCUSDT": PositionExposure("Buy", D("0.5"), D(60_000), D(60_000), D(10))}


def test_a_size_is_made_to_fit_the_limits_and_a_signal_without_room_is_denied_by_name() -> None:
    fits = only(pipeline(running(limits=Limits(max_order_notional=D(3_000)))).on_book(view(0.9)))
    assert fits.approved and fits.intent is not None and fits.intent.quantity == D("0.05")
    risk = Limits(max_risk_per_trade_percent=D("0.01"))
    less = only(pipeline(running(limits=risk)).on_book(view(0.9))).intent
    assert less is not None and 0 < less.quantity < D("0.166")
    assert less.quantity * (D(60_000) - (less.stop_loss or D(0))) <= D(10)
    none = only(pipeline(running(limits=Limits(max_order_notional=D(1)))).on_book(view(0.9)))
    assert [each.limit for each in none.decision.refusals] == ["max_order_notional"]


def test_what_may_not_turn_a_position_still_closes_it() -> None:
    for limits in (Limits(max_order_notional=D(1)), Limits(trading_enabled=False)):
        result = only(pipeline(running(limits=limits), exposure=replace(RICH, positions=LONG)).on_book(view(-0.9)))
        assert result.approved and result.intent is not None
        assert (result.intent.quantity, result.intent.reduce_only) == (D("0.5"), True)
        assert result.intent.stop_loss is None


def test_a_position_that_is_being_closed_is_not_closed_twice() -> None:
    made = pipeline(running(allow_reversal=False), exposure=replace(RICH, positions=LONG))
    closes = intent(side="Sell", quantity=D("0.5"), order_type="Market", price=None, reduce_only=True)
    assert made.check(closes, Limits()).approved
    again = only(made.on_book(view(-0.9)))
    assert again.intent is None and "being closed already" in again.decision.refusals[0].message
    turning = pipeline(exposure=replace(RICH, positions=LONG))
    assert turning.check(closes, Limits()).approved
    opens = only(turning.on_book(view(-0.9))).intent
    assert opens is not None and (opens.quantity, opens.reduce_only) == (D("0.166"), False)


def test_a_stronger_signal_gets_more_where_the_strategy_asks_for_it() -> None:
    full = only(pipeline().on_book(view(0.9)))
    scaled = only(pipeline(running(size_by_confidence=True)).on_book(view(0.9)))
    assert full.intent is not None and scaled.intent is not None
    strength = scaled.signal.strength
    assert 0 < strength < 1
    expected = D("0.001") + (D(10_000) / 60_000 - D("0.001")) * D(repr(strength))
    assert scaled.intent.quantity == RULES.floor_quantity(expected) < full.intent.quantity


def test_leverage_follows_the_volatility_and_no_limit_is_passed() -> None:
    made = pipeline(running(adaptive_leverage=True))
    assert made.leverages(1) == {"BTCUSDT": D(5)}
    for minute in range(40):
        made.update_reference_price("BTCUSDT", D(60_000) + minute % 2, minute * STEP_NS)
    assert made.leverages(1) == {"BTCUSDT": D(20)}
    calm = only(made.on_book(view(0.9))).intent
    # 1 % of 100,000 at 20 is 20,000 USD.
    assert calm is not None and (calm.leverage, calm.quantity) == (D(20), D("0.333"))
    limited = pipeline(running(leverage=D(40), limits=Limits(max_leverage=D(8))))
    assert limited.leverages(1) == {"BTCUSDT": D(8)}
    assert only(limited.on_book(view(0.9))).approved


def test_a_thin_book_refuses_a_market_order_and_one_that_is_not_here_does_not() -> None:
    thin = BookSide([(600_000, 10), (620_000, 1_000)], D("0.1"), D("0.001"), D(60_000))
    limits = Limits(max_slippage_percent=D(1))

    def judged(side: BookSide | None) -> PipelineResult:
        made = Pipeline(lambda: "trace", book_side=lambda symbol, taken: side)
        made.configure(PipelineConfiguration((running(limits=limits),), {"BTCUSDT": RULES}))
        made.update_exposure(1, RICH)
        made.update_reference_price("BTCUSDT", D(60_000))
        return only(made.on_book(view(0.9)))

    assert [each.limit for each in judged(thin).decision.refusals] == ["max_slippage_percent"]
    assert judged(None).approved


def test_an_order_of_one_account_counts_at_once_for_the_others_of_its_user() -> None:
    limits = Limits(other_levels=(("user", Limits(max_positions=1)),))
    made = pipeline(running(limits=limits), running(config_id=2, account_id=2, name="twin", limits=limits))
    for account_id in (1, 2):
        made.update_exposure(account_id, replace(RICH, owner_id=7, user=Totals()))
    first, second = made.on_book(view(0.9))
    assert first.approved and [each.limit for each in second.decision.refusals] == ["user.max_positions"]


def test_a_strategy_that_raises_stays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pipeline(running(), running(config_id=2, account_id=2, name="other"))
    made.update_exposure(2, RICH)
    broken = made._instances["BTCUSDT"][0].strategy
    monkeypatch.setattr(broken, "on_book", lambda view: 1 / 0)
    fault, result = made.on_book(view(0.9))
    assert isinstance(fault, StrategyFault) and "ZeroDivisionError" in fault.error
    assert isinstance(result, PipelineResult) and result.approved


def test_a_size_below_the_smallest_order_says_so() -> None:
    poor = replace(RICH, equity=D("0.1"))
    result = only(pipeline(exposure=poor).on_book(view(0.9)))
    assert result.intent is None and result.decision.refusals[0].limit == "sizing"


def supertrend(**changes: Any) -> RunningStrategy:
    specs = STRATEGIES["supertrend"].parameters
    parameters = {spec.name: spec.default for spec in specs} | {"timeframe": "1", "period": 2, "multiplier": 0.5}
    return running(strategy="supertrend", name="trend", parameters=parameters, **changes)


def candle(number: int, close: float) -> Candle:
    prices = [D(str(round(price, 1))) for price in (close, close + 20, close - 20, close)]
    return Candle("BTCUSDT", "1", number * 60_000, *prices, D(1), D(1), True)


def swings(start: int, bars: int) -> list[Candle]:
    return [candle(start + n, 60_000 + 900 * np.sin((start + n) / 3)) for n in range(bars)]


def test_nothing_is_signalled_before_the_warm_up_and_history_warms_without_trading() -> None:
    cold = pipeline(supertrend())
    assert cold.cold() == {("BTCUSDT", "1"): 30}
    assert [cold.on_candle(bar) for bar in swings(0, 30)] == [[]] * 30
    warm = pipeline(supertrend())
    warm.warm(swings(0, 40))
    assert warm.cold() == {}
    assert any(warm.on_candle(bar) for bar in swings(40, 20))


def test_an_unchanged_strategy_keeps_its_warm_up_when_the_configuration_is_swapped() -> None:
    made = pipeline(supertrend())
    made.warm(swings(0, 40))
    assert (
        made.configure(PipelineConfiguration((supertrend(limits=Limits(max_positions=1)),), {"BTCUSDT": RULES})) == ()
    )
    assert made.cold() == {}
    assert made.configure(PipelineConfiguration((supertrend(version=2),), {"BTCUSDT": RULES})) != ()
    assert made.cold() != {}


def test_the_same_data_makes_the_same_decisions() -> None:
    def run() -> list[str]:
        made = pipeline(supertrend())
        made.warm(swings(0, 40))
        return [repr(outcome) for bar in swings(40, 60) for outcome in made.on_candle(bar)]

    assert run() == run() != []


def disagreeing(account_id: int, first: int) -> tuple[RunningStrategy, RunningStrategy]:
    """Two strategies of one account on one book: the top level leans one way, five levels lean the other."""
    parameters = running().parameters
    return (
        running(config_id=first, account_id=account_id, name="five", parameters=parameters),
        running(config_id=first + 1, account_id=account_id, name="top", parameters=parameters | {"levels": "1"}),
    )


def split_view(five: float, top: float) -> BookView:
    seen = view(five)
    seen.features[feature_index("imbalance_1")] = top
    return seen


def combining(*accounts: int) -> Policies:
    return Policies(combining_of=dict.fromkeys(accounts, True))


def test_signals_that_contradict_each_other_are_judged_one_by_one_unless_the_policy_combines_them() -> None:
    outcomes = pipeline(*disagreeing(1, 1)).on_book(split_view(0.95, -0.5))
    assert [(each.signal.side, each.approved) for each in outcomes] == [("Buy", True), ("Sell", False)]
    assert "combination" not in {each.verdict.model for each in outcomes}


def test_combined_signals_become_one_order_in_the_direction_and_with_the_strength_of_all() -> None:
    made = pipeline(*disagreeing(1, 1), policies=combining(1))
    five, top = made.on_book(split_view(0.95, -0.5))
    assert five.approved and five.intent is not None and five.intent.side == "Buy"
    strength = (0.975 - 0.7) / 0.3
    against = (0.75 - 0.7) / 0.3
    assert five.signal.strength == pytest.approx((strength - against) / 2)
    assert not top.verdict.executed and top.intent is None
    assert (top.verdict.model, top.verdict.reason) == ("combination", five.signal.reason.split("; ", 1)[1])
    assert five.trace_id != top.trace_id


def test_combined_signals_that_cancel_trade_nothing() -> None:
    outcomes = pipeline(*disagreeing(1, 1), policies=combining(1)).on_book(split_view(0.9, -0.9))
    assert [each.intent for each in outcomes] == [None, None]
    assert all("at least 0.20 is asked for" in each.verdict.reason for each in outcomes)


def test_one_accounts_signals_are_never_combined_with_anothers() -> None:
    alice, bob = disagreeing(1, 1), disagreeing(2, 3)
    made = pipeline(alice[0], bob[1], policies=combining(1, 2))
    made.update_exposure(2, RICH)
    outcomes = made.on_book(split_view(0.9, -0.9))
    assert [(each.running.account_id, each.signal.side, each.approved) for each in outcomes] == [
        (1, "Buy", True),
        (2, "Sell", True),
    ]


def test_an_account_that_combines_changes_nothing_for_one_that_does_not() -> None:
    made = pipeline(*disagreeing(1, 1), *disagreeing(2, 3), policies=combining(1))
    made.update_exposure(2, RICH)
    outcomes = made.on_book(split_view(0.9, -0.9))
    assert [(each.running.account_id, each.verdict.executed) for each in outcomes] == [
        (1, False),
        (1, False),
        (2, True),
        (2, True),
    ]
