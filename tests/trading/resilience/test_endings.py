"""What the ends of calls to Bybit say of the venue: of its health, and of how long to leave it alone."""

from __future__ import annotations

import pytest
from pybit.exceptions import FailedRequestError, InvalidRequestError

from trading.gateways.bybit_codes import classify
from trading.gateways.bybit_limits import ending_of
from trading.reports import Submission


def test_a_refused_address_is_no_failure_and_pauses_all_that_goes_through_it() -> None:
    ending = ending_of(FailedRequestError("a request", "too many visits", 403, "12:00:00", {}))
    assert ending.failure == "" and ending.said.everywhere and ending.said.blocked_ms > 0


@pytest.mark.parametrize("code", [10014, 110079, 40004])
def test_an_answer_about_one_order_opens_no_breaker_for_everybody(code: int) -> None:
    """It proves nothing of the order, but the venue is well: it answered."""
    ending = ending_of(InvalidRequestError("a request", "one moment", code, "12:00:00", {}))
    assert ending.failure == "" and classify(code) is Submission.UNKNOWN
    ill = ending_of(InvalidRequestError("a request", "server error", 10016, "12:00:00", {}))
    assert "10016" in ill.failure
