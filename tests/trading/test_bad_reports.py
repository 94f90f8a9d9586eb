"""What a venue may not say: unreadable or contradictory reports are refused in words, told, and change nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson
import pytest
from asgiref.sync import sync_to_async
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.models import Alert, AuditEvent
from audit.services import dead_letters
from tests import builders
from tests.builders import fill_report, order_report
from tests.trading.lone_desk import LoneDesk
from trading.gateways.bybit import BybitEndpoints
from trading.gateways.bybit_reports import ReportError
from trading.gateways.bybit_reports import fill_report as read_fill
from trading.gateways.bybit_reports import order_report as read_order
from trading.gateways.bybit_stream import reports_of_frame
from trading.models import Account, Fill, Order, OrderTransition, Position
from trading.pipeline import Pipeline
from trading.report_text import Report, reports_as_text
from trading.reports import Submission, SubmissionResult
from trading.runtime.dead_letters import NotReplayed, letter_replay
from trading.services.order_commits import order_take
from trading.services.order_outcomes import order_submission_apply
from trading.services.orders import order_place
from trading.services.reports import reports_apply

D = Decimal
ORDER = {
    "orderId": "venue-1", "orderLinkId": "order-1", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit",
    "orderStatus": "New", "qty": "0.01", "price": "60000", "cumExecQty": "0", "avgPrice": "", "reduceOnly": False,
    "createdTime": "1795000000000", "updatedTime": "1795000000000", "timeInForce": "GTC",
}  # fmt: skip
FILL = {
    "execId": "execution-1", "execType": "Trade", "orderId": "venue-1", "orderLinkId": "order-1", "symbol": "BTCUSDT",
    "side": "Buy", "execPrice": "60000", "execQty": "0.01", "execFee": "0.3", "isMaker": False,
    "execTime": "1795000000000",
}  # fmt: skip
NUMBERS = ["NaN", "sNaN", "Infinity", "-1", "1e400", "1e15", "many", "0x10", True, [], {}, "1e-30", "9" * 5_000]
TEXTS = [None, "", 7, [], {}, True, "x" * 65, "a\0b"]
BAD_ORDERS = [
    *(("qty", value) for value in [*NUMBERS, None, ""]), *(("price", value) for value in NUMBERS),
    *(("cumExecQty", value) for value in NUMBERS), *(("orderId", value) for value in TEXTS),
    *(("symbol", value) for value in TEXTS), *(("orderStatus", value) for value in TEXTS),
    *(("side", value) for value in [*TEXTS, "Hold", "buy"]), ("orderLinkId", 7), ("orderLinkId", "x" * 65),
    ("reduceOnly", "false"), ("updatedTime", "soon"), ("updatedTime", "-1"), ("updatedTime", "9" * 30),
]  # fmt: skip
BAD_FILLS = [
    *(("execQty", value) for value in [*NUMBERS, None]), *(("execPrice", value) for value in [*NUMBERS, None]),
    *(("execFee", value) for value in ("NaN", "1e15", [])), *(("execId", value) for value in TEXTS),
    *(("side", value) for value in [*TEXTS, "Hold"]), ("orderId", 7), ("isMaker", "no"), ("execTime", None),
    ("execTime", "9" * 30),
]  # fmt: skip


@pytest.mark.parametrize(
    ("read", "row", "bad"), [(read_order, ORDER, BAD_ORDERS), (read_fill, FILL, BAD_FILLS)], ids=["order", "fill"]
)
def test_a_row_with_one_bad_value_is_refused_by_its_name(
    read: Callable[[Any], Report], row: dict[str, Any], bad: list[tuple[str, Any]]
) -> None:
    assert read(row)
    for name, value in bad:
        with pytest.raises(ReportError, match=f"^{name} is .*expected") as refused:
            read(row | {name: value})
        assert len(str(refused.value)) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(
    topic=st.sampled_from(["order", "execution", "position", "wallet"]),
    name=st.sampled_from(sorted({*ORDER, *FILL, "size", "avgPrice", "totalEquity", "category"})),
    value=JSON,
)
@settings(max_examples=150, deadline=None)
def test_whatever_a_field_holds_a_frame_is_read_or_refused_and_its_other_rows_live(
    topic: str, name: str, value: Any
) -> None:
    good = {**ORDER, **FILL, "size": "1", "totalEquity": "1", "totalWalletBalance": "1"}
    frame = json.dumps({"topic": topic, "data": [good | {name: value}, good]}, allow_nan=True).encode()
    reports, troubles = reports_of_frame(frame)
    if troubles and troubles[0].startswith("unreadable private frame"):
        with pytest.raises(orjson.JSONDecodeError):  # nothing of it can be read: it is laid aside whole
            orjson.loads(frame)
    else:
        assert len(reports) + len(troubles) >= 1 and reports


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=150, deadline=None)
def test_whatever_bytes_come_the_reader_lives(frame: bytes) -> None:
    reports, _ = reports_of_frame(frame)
    assert reports == []


@pytest.fixture
def working(account: Account) -> Order:
    """Buy 0.01 at 60,000, 0.004 of it filled."""
    order = order_place(
        account=account, actor="alice", symbol="BTCUSDT", side="Buy", order_type="Limit", quantity=D("0.01"),
        price=D("60000.0"), client_order_id="order-1",
    )  # fmt: skip
    order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=builders.ownership(account.pk))
    order_submission_apply(order_id=order.pk, result=SubmissionResult(Submission.ACCEPTED, "venue-1"))
    part = fill_report(execution_id="booked", quantity=D("0.004"))
    assert reports_apply(account_id=account.pk, reports=[order_report(), part]) == []
    return Order.objects.get()


def books() -> Any:
    return (
        list(Order.objects.values_list("state", "quantity", "price", "filled_quantity", "venue_order_id")),
        list(Fill.objects.values_list("execution_id", "quantity", "order_id")),
        list(Position.objects.values_list("side", "quantity", "state")),
        OrderTransition.objects.count(),
    )


CONTRADICTIONS: list[tuple[Report, str]] = [
    (fill_report(symbol="NOPEUSDT"), "which we do not know"),
    (fill_report(symbol="ETHUSDT"), "symbol of order order-1 is 'ETHUSDT'; expected 'BTCUSDT'"),
    (fill_report(side="Sell"), "side of order order-1"),
    (fill_report(quantity=D("0.007")), r"would fill 0\.011 of the 0\.01 .* expected at most 0\.006"),
    (fill_report(quantity=D("-0.001")), "expected both above 0"),
    (fill_report(quantity=D(0)), "expected both above 0"),
    (fill_report(quantity=D("NaN")), "expected both above 0"),
    (fill_report(price=D(-1)), "expected both above 0"),
    (fill_report(venue_order_id="venue-2", quantity=D("0.001")), "orderId of order order-1"),
    (fill_report(execution_id="booked", quantity=D("0.005")), "was booked with quantity 0.004"),
    (fill_report(execution_id="booked", quantity=D("0.004"), price=D(1)), "was booked with price"),
    (order_report(quantity=D("NaN")), "expected a quantity above 0"),
    (order_report(status="Vanished"), "status 'Vanished'"),
    (order_report(side="Sell"), "side of order order-1"),
    (order_report(symbol="ETHUSDT"), "symbol of order order-1"),
    (order_report(venue_order_id="venue-2"), "orderId of order order-1"),
    (order_report(quantity=D("0.003"), status="PartiallyFilled"), "below the 0.004 that are filled"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("lie", "why"), CONTRADICTIONS, ids=[why[:30] for _, why in CONTRADICTIONS])
def test_a_contradiction_is_refused_told_once_and_keeps_no_other_report_from_being_booked(
    working: Order, lie: Report, why: str
) -> None:
    before = books()
    for _ in range(2):
        refused = reports_apply(account_id=working.account_id, reports=[lie])
        assert [report for report, _ in refused] == [lie]
    assert books() == before
    alert = Alert.objects.get(kind="report_refused")
    assert (alert.level, alert.account_id, alert.count) == ("critical", working.account_id, 2)
    assert AuditEvent.objects.filter(action="report.refused").count() == 1
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(alert.message)
    rest = fill_report(execution_id="rest", quantity=D("0.006"))
    assert len(reports_apply(account_id=working.account_id, reports=[lie, rest])) == 1
    assert Order.objects.get().state == "filled"


@pytest.mark.django_db
def test_a_fill_of_an_order_that_was_never_sent_is_refused(account: Account) -> None:
    order_place(
        account=account, actor="alice", symbol="BTCUSDT", side="Buy", order_type="Limit", quantity=D("0.01"),
        price=D("60000.0"), client_order_id="order-1",
    )  # fmt: skip
    before = books()
    assert len(reports_apply(account_id=account.pk, reports=[fill_report()])) == 1
    assert books() == before


@pytest.mark.django_db
def test_a_liquidation_without_an_order_of_ours_is_booked_and_told(working: Order) -> None:
    forced = fill_report(
        execution_id="liquidation", execution_type="BustTrade", client_order_id="", venue_order_id="by-the-venue",
        side="Sell", quantity=D("0.004"), price=D(50_000),
    )  # fmt: skip
    assert reports_apply(account_id=working.account_id, reports=[forced]) == []
    assert Fill.objects.get(execution_id="liquidation").order is None
    assert Position.objects.get().state == "closed"
    assert Alert.objects.get(kind="position_changed_outside").level == "critical"


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["Cancelled", "Deactivated", "PartiallyFilledCanceled"])
def test_an_order_that_the_venue_ends_after_a_part_was_filled_is_cancelled_with_that_part(
    working: Order, status: str
) -> None:
    assert reports_apply(account_id=working.account_id, reports=[order_report(status=status)]) == []
    order = Order.objects.get()
    assert (order.state, order.filled_quantity, order.leaves_quantity) == ("cancelled", D("0.004"), 0)
    assert Position.objects.get().quantity == D("0.004")


@pytest.mark.django_db
def test_a_report_of_another_accounts_order_moves_neither(working: Order) -> None:
    bobs = builders.account(builders.user("bob"))
    before = books()
    assert reports_apply(account_id=bobs.pk, reports=[order_report(status="Cancelled")]) == []
    assert books() == before


@pytest.mark.django_db(transaction=True)
async def test_what_the_stream_cannot_say_is_laid_aside_and_told_while_the_stream_lives_on() -> None:
    """At the account's desk itself: a frame that is no JSON, a contradiction, and a true report after them."""
    account = await sync_to_async(_alices)()
    desk = LoneDesk(account, Pipeline(lambda: "trace"), BybitEndpoints("http://127.0.0.1:9", "ws://127.0.0.1:9"))
    known = {letter.identifier for letter in await asyncio.to_thread(_letters)}
    try:
        desk._on_trouble("unreadable private frame: test", b"{")
        lie = fill_report(client_order_id="", venue_order_id="", symbol="NOPEUSDT")
        true = fill_report(client_order_id="", venue_order_id="", execution_id="true")
        await desk._on_reports([lie, true])
    finally:
        await desk.stop()
    assert await sync_to_async(Fill.objects.get)(execution_id="true")
    kinds = await sync_to_async(lambda: set(Alert.objects.values_list("kind", flat=True)))()
    assert {"unreadable_report", "report_refused"} <= kinds
    new = [letter for letter in await asyncio.to_thread(_letters) if letter.identifier not in known]
    assert {letter.kind for letter in new} == {"private_frame", "reports"}
    contradiction = next(letter for letter in new if letter.kind == "reports")
    assert contradiction.payload == reports_as_text([lie])
    with pytest.raises(NotReplayed, match="contradicts our books still"):
        await sync_to_async(letter_replay)(identifier=contradiction.identifier, actor="alice")


def _alices() -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"))


def _letters() -> Any:
    return dead_letters().newest(limit=50)
