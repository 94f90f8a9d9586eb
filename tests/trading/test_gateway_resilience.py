"""The gateway's protections against the real simulator: what is asked again, what opens a breaker, what passes it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest

from audit.models import Alert
from tests.processes import ServerProcess, start_simulator
from tests.trading.test_gateway import control, request
from trading.gateways.base import GatewayError
from trading.gateways.bybit import BybitEndpoints, BybitGateway
from trading.gateways.bybit_limits import CALLS, allowance_of, endpoint_of
from trading.reports import Submission
from trading.resilience.breaker import BreakerState
from trading.resilience.guard import CallGuard, breakers_of
from trading.resilience.rate_budget import Allowance, LocalBudget, key_name
from trading.runtime import venue_access
from trading.runtime.venue_access import venue_access_status, venue_guard
from trading.simulator.keys import DEMO_KEYS

CREATE, CANCEL, WALLET = "/v5/order/create", "/v5/order/cancel", "/v5/account/wallet-balance"


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = start_simulator(tmp_path_factory.mktemp("venue") / "simulator.log", ("--symbols", "1"))
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def no_faults_left(venue: ServerProcess) -> Iterator[None]:
    yield
    clear = urllib.request.Request(f"{venue.url}/simulator/control/faults", method="DELETE")
    urllib.request.urlopen(clear, timeout=30).close()


# All tests of this file use the same key, whose limits the simulator enforces.
BUDGET = LocalBudget()


@pytest.fixture
def guard() -> CallGuard:
    return CallGuard(breakers_of("venue"), BUDGET)


def gateway(venue: ServerProcess, guard: CallGuard | None = None, **options: Any) -> BybitGateway:
    key = DEMO_KEYS["alice"]
    guard = guard or CallGuard(breakers_of("venue"), BUDGET)
    return BybitGateway(
        BybitEndpoints(venue.url, venue.websocket_url), key.api_key, key.api_secret, guard=guard, **options
    )


def now_ms() -> int:
    return int(time.time() * 1000)


def hits(venue: ServerProcess) -> int:
    """How often faults were met, which is how often the endpoint was asked while they held."""
    with urllib.request.urlopen(f"{venue.url}/simulator/control/faults", timeout=30) as answer:
        return sum(rule["hits"] for rule in json.loads(answer.read())["result"]["rules"])


def test_questions_survive_two_lost_answers_and_give_up_after_three(venue: ServerProcess) -> None:
    subject = gateway(venue)
    control(venue, "faults", endpoint=WALLET, kind="lose_answer", count=2)
    assert subject.wallet().equity > 0
    control(venue, "faults", endpoint=WALLET, kind="http_status", value=502, count=9)
    with pytest.raises(GatewayError, match="502"):
        subject.wallet()
    assert hits(venue) == 5


def test_a_cancel_whose_answer_was_lost_is_asked_again_and_finds_that_it_was_done(venue: ServerProcess) -> None:
    subject = gateway(venue)
    subject.submit(request("cancel-again"))
    control(venue, "faults", endpoint=CANCEL, kind="lose_answer")
    assert subject.cancel("BTCUSDT", "cancel-again", "").outcome is Submission.CLOSED


def test_an_order_whose_answer_was_lost_is_never_sent_again_by_itself(venue: ServerProcess) -> None:
    control(venue, "faults", endpoint=CREATE, kind="lose_request", count=5)
    assert gateway(venue).submit(request("once")).outcome is Submission.UNKNOWN
    assert hits(venue) == 1


def test_what_the_venue_refuses_is_neither_asked_again_nor_a_failure(venue: ServerProcess, guard: CallGuard) -> None:
    subject = gateway(venue, guard)
    control(venue, "faults", endpoint=CREATE, kind="ret_code", value=110007, count=5)
    assert {subject.submit(request(f"poor-{number}")).outcome for number in range(5)} == {Submission.REJECTED}
    control(venue, "faults", endpoint=CREATE, kind="ret_code", value=10006, count=1)
    assert subject.submit(request("throttled")).outcome is Submission.THROTTLED
    assert guard.breakers["orders"].status()["failures"] == 0


def test_three_orders_without_an_answer_open_the_breaker_and_only_the_kill_switch_passes(
    venue: ServerProcess, guard: CallGuard
) -> None:
    subject = gateway(venue, guard)
    subject.submit(request("before"))
    control(venue, "faults", endpoint=CREATE, kind="http_status", value=502, count=3)
    assert [subject.submit(request(f"lost-{number}")).outcome for number in range(3)] == [Submission.UNKNOWN] * 3
    assert guard.breakers["orders"].state is BreakerState.OPEN
    refused = subject.submit(request("refused"))
    assert refused.outcome is Submission.NOT_SENT and "breaker" in refused.message
    assert subject.cancel("BTCUSDT", "before", "").outcome is Submission.NOT_SENT
    assert subject.find_order("BTCUSDT", "refused") is None
    kill = gateway(venue, guard, priority="kill")
    assert kill.cancel("BTCUSDT", "before", "").outcome is Submission.ACCEPTED
    close = request("close", order_type="Market", price=None, quantity=Decimal("0.001"))
    assert kill.submit(close).outcome is Submission.ACCEPTED


def test_throttled_by_the_venue_the_next_call_waits_for_the_reset(venue: ServerProcess, guard: CallGuard) -> None:
    subject = gateway(venue, guard)
    control(venue, "faults", endpoint=CREATE, kind="ret_code", value=10006, count=1)
    assert subject.submit(request("too-many")).outcome is Submission.THROTTLED
    # The reset is about a second away, which is as long as an order may wait.
    later = subject.submit(request("later"))
    assert later.outcome in (Submission.ACCEPTED, Submission.NOT_SENT)
    assert subject.submit(request("at-last")).outcome is Submission.ACCEPTED


def test_an_order_that_must_leave_by_a_time_does_not_wait_longer_for_the_budget(venue: ServerProcess) -> None:
    guard = CallGuard.alone()
    endpoint = endpoint_of("place_order", urlsplit(venue.url).netloc, key_name(DEMO_KEYS["alice"].api_key))
    for _ in range(8):
        guard.budget.take(endpoint.buckets, "normal", 0.0)
    result = gateway(venue, guard).submit(request("too-late", latest_ms=1))
    assert result.outcome is Submission.NOT_SENT and "rate budget" in result.message


def test_the_room_of_an_order_that_was_prepared_is_its_own_however_full_the_budget_is(venue: ServerProcess) -> None:
    guard = CallGuard(breakers_of("venue"), LocalBudget())
    endpoint = endpoint_of("place_order", urlsplit(venue.url).netloc, key_name(DEMO_KEYS["alice"].api_key))
    subject = gateway(venue, guard)
    subject.prepare_order()
    for _ in range(7):
        guard.budget.take(endpoint.buckets, "normal", 0.0)
    subject.prepare_order()
    assert subject.submit(request("prepared", latest_ms=now_ms() + 5_000)).outcome is Submission.ACCEPTED
    assert subject.submit(request("unprepared", latest_ms=now_ms() + 200)).outcome is Submission.NOT_SENT
    # The token of the order that was sent has come back by then, and somebody else has it.
    guard.budget.take(endpoint.buckets, "normal", 5.0)
    began = time.monotonic()
    with pytest.raises(GatewayError, match="no order can be sent now"):
        subject.prepare_order()
    assert 4.9 < time.monotonic() - began < 20.0


@pytest.mark.django_db(transaction=True)
def test_an_opening_breaker_raises_one_alert_and_shows_in_the_status(venue: ServerProcess) -> None:
    subject = gateway(venue, venue_guard(venue.url))
    control(venue, "faults", endpoint=CREATE, kind="http_status", value=502, count=3)
    for number in range(4):
        subject.submit(request(f"alert-{number}"))
    venue_access._notices.submit(lambda: None).result(20)
    alert = Alert.objects.get(kind="circuit_breaker_open")
    assert alert.level == "critical" and "orders" in alert.message and "HTTP 502" in alert.message
    told = venue_access_status()["breakers"][venue.url.removeprefix("http://")]
    assert (told["orders"]["state"], told["account"]["state"]) == ("open", "closed")
    # Every gateway of this process to this venue knows.
    assert gateway(venue, venue_guard(venue.url)).submit(request("other")).outcome is Submission.NOT_SENT


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, Allowance()),
        ({"X-Bapi-Limit": "10", "X-Bapi-Limit-Status": "7"}, Allowance(10, 7)),
        ({"X-Bapi-Limit": "ten", "X-Bapi-Limit-Status": "7"}, Allowance()),
        ({"X-Bapi-Limit": "10", "X-Bapi-Limit-Status": "11"}, Allowance()),
        ({"X-Bapi-Limit": "0", "X-Bapi-Limit-Status": "0"}, Allowance()),
        ({"X-Bapi-Limit": "10"}, Allowance()),
    ],
)
def test_limit_headers_are_believed_only_when_they_make_sense(headers: dict[str, str], said: Allowance) -> None:
    assert allowance_of(headers) == said
    assert allowance_of(None) == Allowance()


def test_a_far_reset_is_not_believed_and_a_past_one_does_not_block() -> None:
    def blocked(reset: str) -> int:
        headers = {"X-Bapi-Limit-Reset-Timestamp": reset, "Timenow": "1000"}
        return allowance_of(headers, throttled=True).blocked_ms

    assert [blocked(reset) for reset in ("1500", "900", "99999999")] == [500, 0, 5_000]
    assert allowance_of({}, throttled=True).blocked_ms == 1_000


def test_every_call_of_the_gateway_has_a_breaker_and_a_limit() -> None:
    groups = set(CallGuard.alone().breakers)
    assert {group for group, _ in CALLS.values()} <= groups
