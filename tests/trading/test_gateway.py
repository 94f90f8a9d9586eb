"""The gateway and the reconciler against the real simulator: what is known after each kind of answer."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests import builders
from tests.processes import ServerProcess, start_simulator
from trading.gateways.base import AmendRequest, GatewayError, OrderRequest
from trading.gateways.bybit import BybitEndpoints, BybitGateway
from trading.lifecycle import OrderState
from trading.models import AbsenceReading, Account, Lease, Order, OrderAmendment, Position
from trading.reports import Submission
from trading.runtime.order_sender import amend_order
from trading.runtime.reconciler import FORGOTTEN_AFTER, READS_TO_PROVE, reconcile_account, reconcile_fills
from trading.services.amendments import order_amend_request, order_amend_take
from trading.services.fills import fill_apply, order_adopt
from trading.services.order_commits import order_take
from trading.services.order_outcomes import order_submission_apply
from trading.services.orders import order_place
from trading.simulator.keys import DEMO_KEYS

D = Decimal


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = start_simulator(tmp_path_factory.mktemp("venue") / "simulator.log", ("--symbols", "3"))
    yield server
    server.stop()


@pytest.fixture
def gateway(venue: ServerProcess) -> BybitGateway:
    return gateway_of(venue, "alice")


def gateway_of(venue: ServerProcess, user: str) -> BybitGateway:
    """Users have a rate limit each: tests that send many orders take one of their own."""
    key = DEMO_KEYS[user]
    return BybitGateway(BybitEndpoints(venue.url, venue.websocket_url), key.api_key, key.api_secret)


def control(venue: ServerProcess, what: str, **body: Any) -> None:
    request = urllib.request.Request(f"{venue.url}/simulator/control/{what}", data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.loads(answer.read())["retCode"] == 0


def request(identifier: str, **changes: Any) -> OrderRequest:
    values: dict[str, Any] = {
        "client_order_id": identifier,
        "symbol": "BTCUSDT",
        "side": "Buy",
        "order_type": "Limit",
        "time_in_force": "GTC",
        "quantity": D("0.001"),
        "price": D("50000.0"),
        "reduce_only": False,
        "take_profit": None,
        "stop_loss": None,
    }
    return OrderRequest(**(values | changes))


def test_an_accepted_order_is_found_and_cancelled(gateway: BybitGateway) -> None:
    result = gateway.submit(request("accepted-1"))
    assert result.outcome is Submission.ACCEPTED and result.venue_order_id
    found = gateway.find_order("BTCUSDT", "accepted-1")
    assert found is not None and (found.status, found.quantity) == ("New", D("0.001"))
    assert "accepted-1" in {order.client_order_id for order in gateway.open_orders()}
    assert gateway.cancel("BTCUSDT", "accepted-1", "").outcome is Submission.ACCEPTED
    assert gateway.cancel("BTCUSDT", "accepted-1", "").outcome is Submission.CLOSED


def test_an_order_is_changed_and_one_that_has_ended_is_closed(gateway: BybitGateway) -> None:
    placed = gateway.submit(request("changed"))
    change = AmendRequest("changed", placed.venue_order_id, "BTCUSDT", D("0.002"), D("49000.0"))
    assert gateway.amend(change).outcome is Submission.ACCEPTED
    found = gateway.find_order("BTCUSDT", "changed")
    assert found is not None and (found.quantity, found.price) == (D("0.002"), D(49000))
    assert gateway.amend(change).outcome is Submission.REJECTED  # nothing would change
    assert gateway.amend(replace(change, latest_ms=int(time.time() * 1000) - 1)).outcome is Submission.NOT_SENT
    gateway.cancel("BTCUSDT", "changed", "")
    closed = gateway.amend(replace(change, quantity=D("0.003")))
    assert (closed.outcome, closed.code) == (Submission.CLOSED, 110001)


def test_a_repeated_id_proves_that_the_order_exists(gateway: BybitGateway) -> None:
    gateway.submit(request("twice"))
    assert gateway.submit(request("twice")).outcome is Submission.DUPLICATE


def test_a_broken_rule_is_a_definite_no(gateway: BybitGateway) -> None:
    result = gateway.submit(request("broken", quantity=D("0.0005")))
    assert (result.outcome, result.code) == (Submission.REJECTED, 10001)
    assert gateway.find_order("BTCUSDT", "broken") is None


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"kind": "lose_answer"}, Submission.UNKNOWN),
        ({"kind": "http_status", "value": 502}, Submission.UNKNOWN),
        ({"kind": "http_status", "value": 403}, Submission.THROTTLED),
        ({"kind": "ret_code", "value": 10016}, Submission.UNKNOWN),
        ({"kind": "ret_code", "value": 10006}, Submission.THROTTLED),
        ({"kind": "ret_code", "value": 110007}, Submission.REJECTED),
        ({"kind": "garbage", "value": "truncated"}, Submission.UNKNOWN),
        ({"kind": "garbage", "value": "html"}, Submission.UNKNOWN),
        ({"kind": "garbage", "value": "binary"}, Submission.UNKNOWN),
        ({"kind": "garbage", "value": "empty"}, Submission.UNKNOWN),
    ],
)
def test_every_kind_of_answer_proves_what_it_proves_and_no_more(
    venue: ServerProcess, fault: dict[str, Any], outcome: Submission
) -> None:
    gateway = gateway_of(venue, "bob" if fault["kind"] == "garbage" else "desk")
    control(venue, "faults", endpoint="/v5/order/create", **fault)
    assert gateway.submit(request(f"fault-{fault['kind']}-{fault.get('value')}")).outcome is outcome


def answering(body: bytes) -> BybitGateway:
    """A gateway to a server that answers every request with 200 and this body."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    return BybitGateway(BybitEndpoints(url, url), "key", "secret")


@pytest.mark.parametrize("body", [b"[]", b"7", b"null", b"{}", b'{"retCode": 1}', b'{"retCode": 0, "result": []}'])
def test_json_that_is_no_answer_proves_nothing_and_is_no_crash(body: bytes) -> None:
    strange = answering(body)
    assert strange.submit(request("strange")).outcome is Submission.UNKNOWN
    assert strange.cancel("BTCUSDT", "strange", "").outcome is Submission.UNKNOWN
    for question in (strange.server_time_ms, strange.wallet, strange.positions, strange.open_orders):
        with pytest.raises(GatewayError):
            question()


@pytest.mark.parametrize("body", [b'{"retCode": 0, "result": {}}', b'{"retCode": 0, "result": {"list": [7]}}'])
def test_a_list_that_is_missing_or_holds_no_objects_is_an_error_and_not_an_empty_list(body: bytes) -> None:
    strange = answering(body)
    for question in (strange.wallet, strange.positions, strange.open_orders):
        with pytest.raises(GatewayError):
            question()
    with pytest.raises(GatewayError):
        strange.find_order("BTCUSDT", "any")


def test_a_venue_that_does_not_answer_is_an_error_and_an_unknown_outcome() -> None:
    nobody = BybitGateway(BybitEndpoints("http://127.0.0.1:9", "ws://127.0.0.1:9"), "key", "secret")
    with pytest.raises(GatewayError):
        nobody.wallet()
    assert nobody.submit(request("nobody")).outcome is Submission.UNKNOWN


@pytest.fixture
def account(db: None) -> Account:
    builders.list_instruments()
    return builders.account(builders.user("alice"), key=DEMO_KEYS["alice"])


def sent(account: Account, gateway: BybitGateway, identifier: str, **changes: Any) -> Order:
    """An order committed and sent as an engine does, with whatever answer comes."""
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": "Buy", "order_type": "Limit", "quantity": D("0.001")}
    values |= {"price": D("50000.0"), "client_order_id": identifier} | changes
    order = order_place(account=account, actor="alice", **values)
    order_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=builders.ownership(account.pk))
    fields = {name: values.get(name) for name in ("symbol", "side", "order_type", "quantity", "price")}
    result = gateway.submit(request(identifier, **fields))
    order_submission_apply(order_id=order.pk, result=result)
    return Order.objects.get(pk=order.pk)


def test_a_lost_answer_is_unknown_until_reconciliation_finds_the_order(
    venue: ServerProcess, gateway: BybitGateway, account: Account
) -> None:
    control(venue, "faults", endpoint="/v5/order/create", kind="lose_answer")
    order = sent(account, gateway, "unknown-1")
    assert order.state == OrderState.UNKNOWN
    run = reconcile_account(account.pk, gateway, "test")
    assert run.succeeded, run.error
    order.refresh_from_db()
    assert order.state == OrderState.ACKNOWLEDGED and order.venue_order_id


def test_absence_is_concluded_only_after_the_receive_window(
    venue: ServerProcess, gateway: BybitGateway, account: Account
) -> None:
    control(venue, "faults", endpoint="/v5/order/create", kind="http_status", value=502)
    order = sent(account, gateway, "never-arrived")
    reconcile_account(account.pk, gateway, "test")
    order.refresh_from_db()
    assert order.state == OrderState.UNKNOWN
    Order.objects.filter(pk=order.pk).update(receive_window_ms=0, sent_at=order.sent_at.replace(year=2025))
    # The account changed hands since: what the owner before has signed by then may be on its way for one window more.
    reconcile_account(account.pk, gateway, "test")
    order.refresh_from_db()
    assert order.state == OrderState.UNKNOWN
    Lease.objects.update(changed_at=order.sent_at.replace(year=2025))
    for _ in range(READS_TO_PROVE - 1):
        reconcile_account(account.pk, gateway, "test")
        age_reading(order, timedelta(seconds=1))
    order.refresh_from_db()
    assert order.state == OrderState.UNKNOWN
    # By now an order that had ended before the first of these readings must be in the history.
    age_reading(order, timedelta(milliseconds=gateway.history_delay_ms))
    reconcile_account(account.pk, gateway, "test")
    order.refresh_from_db()
    assert order.state == OrderState.FAILED


def amending(order: Order, **values: Any) -> OrderAmendment:
    """An amendment committed and ready to be sent."""
    order_amend_request(order=order, actor="alice", **values)
    owner = builders.ownership(order.account_id)
    amendment = order_amend_take(order_id=order.pk, refusals=(), receive_window_ms=5000, owner=owner)
    assert amendment is not None
    return amendment


def test_a_change_whose_answer_was_lost_is_found_by_reading_the_order(
    venue: ServerProcess, gateway: BybitGateway, account: Account
) -> None:
    order = sent(account, gateway, "change-lost")
    reconcile_account(account.pk, gateway, "test")
    control(venue, "faults", endpoint="/v5/order/amend", kind="lose_answer")
    amendment = amending(order, quantity=D("0.002"), price=D("49000.0"))
    assert amend_order(amendment, gateway).outcome is Submission.UNKNOWN
    amendment.refresh_from_db()
    assert amendment.outcome == "unknown"
    reconcile_account(account.pk, gateway, "test")
    order.refresh_from_db()
    amendment.refresh_from_db()
    assert (order.state, order.quantity, order.price) == (OrderState.ACKNOWLEDGED, D("0.002"), D(49000))
    assert amendment.outcome == "applied"


def test_a_change_that_never_arrived_is_concluded_only_after_the_receive_window(
    venue: ServerProcess, gateway: BybitGateway, account: Account
) -> None:
    order = sent(account, gateway, "change-never-arrived")
    reconcile_account(account.pk, gateway, "test")
    control(venue, "faults", endpoint="/v5/order/amend", kind="http_status", value=502)
    amendment = amending(order, quantity=D("0.002"))
    assert amend_order(amendment, gateway).outcome is Submission.UNKNOWN
    reconcile_account(account.pk, gateway, "test")
    order.refresh_from_db()
    assert (order.state, order.quantity) == (OrderState.PENDING_REPLACE, D("0.001"))
    long_ago = timezone.now() - timedelta(days=200)
    OrderAmendment.objects.update(sent_at=long_ago)
    Lease.objects.update(changed_at=long_ago)
    reconcile_account(account.pk, gateway, "test")
    order.refresh_from_db()
    amendment.refresh_from_db()
    assert (order.state, order.quantity, amendment.outcome) == (OrderState.ACKNOWLEDGED, D("0.001"), "failed")


def test_an_order_that_was_changed_by_hand_at_the_venue_is_a_difference(
    gateway: BybitGateway, account: Account
) -> None:
    order = sent(account, gateway, "by-hand-changed")
    gateway.amend(AmendRequest("by-hand-changed", "", "BTCUSDT", D("0.004"), D("48000.0")))
    run = reconcile_account(account.pk, gateway, "test")
    order.refresh_from_db()
    assert (order.quantity, order.price) == (D("0.004"), D(48000))
    told = [row for row in run.differences if row["kind"] == "amended"]
    assert [(row["subject"], row["theirs"]) for row in told] == [("by-hand-changed", "0.004 at 48000")]
    assert not [row for row in reconcile_account(account.pk, gateway, "test").differences if row["kind"] == "amended"]


def age_reading(order: Order, by: timedelta) -> None:
    rows = AbsenceReading.objects.filter(order=order)
    rows.update(first_read_at=F("first_read_at") - by, last_read_at=F("last_read_at") - by)


def test_fills_that_nobody_reported_are_booked_once(gateway: BybitGateway, account: Account) -> None:
    order = sent(account, gateway, "filled-unseen", order_type="Market", price=None, quantity=D("0.002"))
    first = reconcile_account(account.pk, gateway, "test")
    second = reconcile_account(account.pk, gateway, "test")
    order.refresh_from_db()
    assert order.state == OrderState.FILLED and order.fills.count() >= 1
    assert {difference["kind"] for difference in first.differences} >= {"missed_fill"}
    assert not [difference for difference in second.differences if difference["kind"] == "missed_fill"]
    held = {position.symbol: position for position in gateway.positions()}["BTCUSDT"]
    ours = Position.objects.exclude(state="closed").get(instrument__symbol="BTCUSDT")
    assert (ours.side, ours.quantity) == (held.side, held.quantity)


def test_a_foreign_order_is_adopted_so_that_its_exposure_counts(gateway: BybitGateway, account: Account) -> None:
    gateway.submit(request("by-hand"))
    run = reconcile_account(account.pk, gateway, "test")
    adopted = Order.objects.get(client_order_id="by-hand")
    assert (adopted.strategy, adopted.state) == ("external", OrderState.ACKNOWLEDGED)
    assert "foreign_order" in {difference["kind"] for difference in run.differences}


def test_orders_that_are_as_they_were_cost_no_question_each(venue: ServerProcess, account: Account) -> None:
    gateway = gateway_of(venue, "desk")

    def questions() -> int:
        reconcile_account(account.pk, gateway, "adopt")
        with CaptureQueriesContext(connection) as asked:
            run = reconcile_account(account.pk, gateway, "test")
        assert run.succeeded and not run.differences
        return len(asked)

    gateway.submit(request("resting-0", price=D("40000")))
    of_one = questions()
    for number in range(1, 6):
        assert gateway.submit(request(f"resting-{number}", price=D("40000"))).outcome == Submission.ACCEPTED
    assert questions() == of_one
    assert gateway.cancel_all().outcome == Submission.ACCEPTED


def test_the_exits_of_a_position_are_no_foreign_orders(gateway: BybitGateway, account: Account) -> None:
    bought = request("with-exits", symbol="ETHUSDT", order_type="Market", price=None, quantity=D("0.01"))
    gateway.submit(replace(bought, take_profit=D("9000.00"), stop_loss=D("900.00")))
    run = reconcile_account(account.pk, gateway, "test")
    adopted = Order.objects.filter(strategy="external", instrument__symbol="ETHUSDT")
    assert [order.client_order_id for order in adopted if order.client_order_id != "with-exits"] == []
    exits = [report for report in gateway.open_orders() if report.symbol == "ETHUSDT" and report.is_exit]
    assert len(exits) == 2 and run.succeeded


def test_a_foreign_order_without_a_client_id_is_cancelled_and_found_by_the_venues(
    gateway: BybitGateway, account: Account
) -> None:
    placed = gateway.submit(request(""))
    reconcile_account(account.pk, gateway, "test")
    adopted = Order.objects.get(venue_order_id=placed.venue_order_id)
    names = ("BTCUSDT", adopted.client_order_id, adopted.venue_order_id)
    assert gateway.find_order(*names) is not None
    assert gateway.cancel(*names).outcome is Submission.ACCEPTED
    assert placed.venue_order_id not in {order.venue_order_id for order in gateway.open_orders()}
    reconcile_account(account.pk, gateway, "test")
    adopted.refresh_from_db()
    assert adopted.state == OrderState.CANCELLED


@pytest.mark.parametrize("state", [OrderState.ACKNOWLEDGED, OrderState.PARTIALLY_FILLED, OrderState.PENDING_CANCEL])
def test_an_order_that_the_venue_has_forgotten_has_ended(
    gateway: BybitGateway, account: Account, state: OrderState
) -> None:
    """Cancelled at the venue while we were away for days: it must not hold its exposure for ever."""
    order = order_place(
        account=account,
        actor="alice",
        symbol="BTCUSDT",
        side="Buy",
        order_type="Limit",
        quantity=D("0.001"),
        price=D("50000.0"),
        client_order_id=f"forgotten-{state}",
    )
    Order.objects.filter(pk=order.pk).update(state=state, venue_order_id="forgotten", updated_at=timezone.now())
    reconcile_account(account.pk, gateway, "test")
    order.refresh_from_db()
    assert order.state == state
    Order.objects.filter(pk=order.pk).update(updated_at=timezone.now() - FORGOTTEN_AFTER)
    reconcile_account(account.pk, gateway, "test")
    order.refresh_from_db()
    assert order.state == OrderState.CANCELLED


def test_an_order_that_works_although_our_books_ended_it_is_told_at_every_run(
    gateway: BybitGateway, account: Account
) -> None:
    order = sent(account, gateway, "ended-here")
    past = timezone.now() - 2 * FORGOTTEN_AFTER
    Order.objects.filter(pk=order.pk).update(state=OrderState.CANCELLED, updated_at=past)
    for _ in range(2):
        run = reconcile_account(account.pk, gateway, "test")
        told = [row for row in run.differences if row["kind"] == "ended_here_only"]
        assert [(row["subject"], row["ours"]) for row in told] == [("ended-here", "cancelled")]


def test_an_account_that_cannot_be_reconciled_says_so(account: Account) -> None:
    nobody = BybitGateway(BybitEndpoints("http://127.0.0.1:9", "ws://127.0.0.1:9"), "key", "secret")
    run = reconcile_account(account.pk, nobody, "test")
    account.refresh_from_db()
    assert not run.succeeded and run.error and account.reconciled_at is None


def test_fills_of_an_outage_are_booked_although_the_stream_told_later_ones(
    gateway: BybitGateway, account: Account
) -> None:
    reconcile_account(account.pk, gateway, "test")
    order = sent(account, gateway, "in-the-outage", order_type="Market", price=None, quantity=D("0.003"))
    later = timezone.now() + timedelta(hours=1)
    report = builders.fill_report(
        execution_id="told-later", client_order_id="", venue_order_id="", executed_ms=int(later.timestamp() * 1000)
    )
    fill_apply(account_id=account.pk, report=report)
    reconcile_fills(account.pk, gateway)
    order.refresh_from_db()
    assert order.state == OrderState.FILLED


def test_executions_before_the_adoption_count_for_the_adopted_order(account: Account) -> None:
    part = builders.fill_report(quantity=D("0.004"))
    fill_apply(account_id=account.pk, report=part)
    order_adopt(account_id=account.pk, report=builders.order_report(filled_quantity=D("0.004")))
    assert [fill_apply(account_id=account.pk, report=part) for _ in range(2)] == [None, None]
    order = Order.objects.get()
    assert (order.state, order.leaves_quantity) == (OrderState.PARTIALLY_FILLED, D("0.006"))
    fill_apply(account_id=account.pk, report=builders.fill_report(execution_id="rest", quantity=D("0.006")))
    order.refresh_from_db()
    assert order.state == OrderState.FILLED and Position.objects.get().quantity == D("0.01")


def test_a_request_whose_right_to_be_sent_is_gone_never_leaves(venue: ServerProcess) -> None:
    right = [""]
    key = DEMO_KEYS["bob"]
    endpoints = BybitEndpoints(venue.url, venue.websocket_url)
    fenced = BybitGateway(endpoints, key.api_key, key.api_secret, fence=lambda timestamp_ms: right[0])
    right[0] = "the lease has run out"
    refused = fenced.submit(request("behind-the-fence"))
    assert (refused.outcome, refused.message) == (Submission.NOT_SENT, "the lease has run out")
    assert fenced.cancel("BTCUSDT", "any", "").outcome is Submission.NOT_SENT
    with pytest.raises(GatewayError, match="not sent"):
        fenced.set_leverage("BTCUSDT", D(7))
    # Questions may always be asked, and tell that nothing arrived.
    assert fenced.find_order("BTCUSDT", "behind-the-fence") is None
    right[0] = ""
    assert fenced.submit(request("behind-the-fence")).outcome is Submission.ACCEPTED


def test_a_request_that_was_signed_too_late_never_leaves(gateway: BybitGateway) -> None:
    late = gateway.submit(replace(request("signed-late"), latest_ms=int(time.time() * 1000) - 1))
    assert late.outcome is Submission.NOT_SENT
    assert gateway.find_order("BTCUSDT", "signed-late") is None
