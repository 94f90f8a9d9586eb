"""The life of an order: its states, and the one table of legal moves.

Reality is rude: fills and cancels overtake acknowledgements, a cancel loses the race against a fill, an answer is
lost. Those moves are legal and commented. Everything not in the table is illegal: it raises and is recorded.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class OrderState(StrEnum):
    NEW = "new"  # intent recorded, not yet taken by the account's owner
    PENDING_SUBMIT = "pending_submit"  # approved and durable; from here on it may have been sent
    UNKNOWN = "unknown"  # sent, and the answer was lost: may or may not exist; its exposure stays reserved
    SUBMITTED = "submitted"  # the venue answered that it took the request
    ACKNOWLEDGED = "acknowledged"  # on the venue's book
    PARTIALLY_FILLED = "partially_filled"
    PENDING_REPLACE = "pending_replace"  # other values were asked for; its own count until the venue says otherwise
    PENDING_CANCEL = "pending_cancel"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"  # by the venue
    DENIED = "denied"  # by our risk checks, never sent
    EXPIRED = "expired"  # an intent that grew too old to be sent
    FAILED = "failed"  # proven never to have reached the venue


class OrderEvent(StrEnum):
    APPROVE = "approve"
    DENY = "deny"
    EXPIRE = "expire"
    SUBMIT = "submit"
    LOSE = "lose"
    ACKNOWLEDGE = "acknowledge"
    FILL_PARTIALLY = "fill_partially"
    FILL_COMPLETELY = "fill_completely"
    REQUEST_REPLACE = "request_replace"
    REPLACE = "replace"
    REFUSE_REPLACE = "refuse_replace"
    REQUEST_CANCEL = "request_cancel"
    REFUSE_CANCEL = "refuse_cancel"
    CANCEL = "cancel"
    REJECT = "reject"
    FAIL = "fail"


_S = OrderState
TERMINAL: Final = frozenset({_S.FILLED, _S.CANCELLED, _S.REJECTED, _S.DENIED, _S.EXPIRED, _S.FAILED})
LIVE: Final = frozenset(set(OrderState) - TERMINAL)
# May be on the venue's book, or about to be.
WORKING: Final = frozenset(LIVE - {_S.NEW})

TRANSITIONS: Final = MappingProxyType(
    {
        OrderEvent.APPROVE: {_S.NEW: _S.PENDING_SUBMIT},
        OrderEvent.DENY: {_S.NEW: _S.DENIED},
        OrderEvent.EXPIRE: {_S.NEW: _S.EXPIRED},
        OrderEvent.SUBMIT: {
            _S.PENDING_SUBMIT: _S.SUBMITTED,
            _S.UNKNOWN: _S.SUBMITTED,  # a duplicate-id answer to a re-send proves that it exists
        },
        OrderEvent.LOSE: {_S.PENDING_SUBMIT: _S.UNKNOWN},
        OrderEvent.ACKNOWLEDGE: {
            _S.PENDING_SUBMIT: _S.ACKNOWLEDGED,  # the stream overtook the answer
            _S.UNKNOWN: _S.ACKNOWLEDGED,
            _S.SUBMITTED: _S.ACKNOWLEDGED,
        },
        OrderEvent.FILL_PARTIALLY: {
            _S.PENDING_SUBMIT: _S.PARTIALLY_FILLED,  # fill before acknowledgement
            _S.UNKNOWN: _S.PARTIALLY_FILLED,
            _S.SUBMITTED: _S.PARTIALLY_FILLED,
            _S.ACKNOWLEDGED: _S.PARTIALLY_FILLED,
            _S.PARTIALLY_FILLED: _S.PARTIALLY_FILLED,
            _S.PENDING_REPLACE: _S.PENDING_REPLACE,  # fill while replacing: the outcome is still open
            _S.PENDING_CANCEL: _S.PENDING_CANCEL,  # fill while cancelling
            _S.CANCELLED: _S.CANCELLED,  # fill after cancel: real, booked, the order stays cancelled
            _S.FAILED: _S.PARTIALLY_FILLED,  # we were wrong to believe that it never arrived
            _S.REJECTED: _S.PARTIALLY_FILLED,
        },
        OrderEvent.FILL_COMPLETELY: {
            _S.PENDING_SUBMIT: _S.FILLED,
            _S.UNKNOWN: _S.FILLED,
            _S.SUBMITTED: _S.FILLED,
            _S.ACKNOWLEDGED: _S.FILLED,
            _S.PARTIALLY_FILLED: _S.FILLED,
            _S.PENDING_REPLACE: _S.FILLED,  # of the larger of its quantities: nothing can fill any more
            _S.PENDING_CANCEL: _S.FILLED,  # the cancel lost the race
            _S.CANCELLED: _S.FILLED,
            _S.FAILED: _S.FILLED,
            _S.REJECTED: _S.FILLED,
        },
        OrderEvent.REQUEST_REPLACE: {
            _S.ACKNOWLEDGED: _S.PENDING_REPLACE,
            _S.PARTIALLY_FILLED: _S.PENDING_REPLACE,
        },
        # The venue's values are booked: those that we asked for, or what somebody else made of the order there. The
        # order goes on as what it is (the model picks by its filled quantity).
        OrderEvent.REPLACE: {
            _S.PENDING_REPLACE: _S.ACKNOWLEDGED,
            _S.PENDING_SUBMIT: _S.PENDING_SUBMIT,
            _S.UNKNOWN: _S.UNKNOWN,
            _S.SUBMITTED: _S.SUBMITTED,
            _S.ACKNOWLEDGED: _S.ACKNOWLEDGED,
            _S.PARTIALLY_FILLED: _S.PARTIALLY_FILLED,
            _S.PENDING_CANCEL: _S.PENDING_CANCEL,  # the cancel overtook the outcome
        },
        # Not replaced, and proven: the order is what it was (picked as above).
        OrderEvent.REFUSE_REPLACE: {
            _S.PENDING_REPLACE: _S.ACKNOWLEDGED,
            _S.PENDING_CANCEL: _S.PENDING_CANCEL,
        },
        OrderEvent.REQUEST_CANCEL: {
            _S.SUBMITTED: _S.PENDING_CANCEL,
            _S.ACKNOWLEDGED: _S.PENDING_CANCEL,
            _S.PARTIALLY_FILLED: _S.PENDING_CANCEL,
            _S.PENDING_REPLACE: _S.PENDING_CANCEL,
        },
        # The venue refused the cancel; the order is what it was (picked as above, or still being replaced).
        OrderEvent.REFUSE_CANCEL: {_S.PENDING_CANCEL: _S.ACKNOWLEDGED},
        OrderEvent.CANCEL: {
            _S.NEW: _S.CANCELLED,  # withdrawn by its author before it was sent
            _S.PENDING_SUBMIT: _S.CANCELLED,  # an IOC remainder, or a PostOnly that would take, before our answer
            _S.UNKNOWN: _S.CANCELLED,
            _S.SUBMITTED: _S.CANCELLED,
            _S.ACKNOWLEDGED: _S.CANCELLED,
            _S.PARTIALLY_FILLED: _S.CANCELLED,
            _S.PENDING_REPLACE: _S.CANCELLED,  # the venue ended it meanwhile
            _S.PENDING_CANCEL: _S.CANCELLED,
        },
        OrderEvent.REJECT: {
            _S.PENDING_SUBMIT: _S.REJECTED,
            _S.UNKNOWN: _S.REJECTED,
            _S.SUBMITTED: _S.REJECTED,
            _S.ACKNOWLEDGED: _S.REJECTED,
            _S.PENDING_REPLACE: _S.REJECTED,
            _S.PENDING_CANCEL: _S.REJECTED,
        },
        OrderEvent.FAIL: {
            _S.NEW: _S.FAILED,
            _S.PENDING_SUBMIT: _S.FAILED,
            _S.UNKNOWN: _S.FAILED,
            _S.SUBMITTED: _S.FAILED,
            _S.ACKNOWLEDGED: _S.FAILED,
            _S.PARTIALLY_FILLED: _S.FAILED,
            _S.PENDING_REPLACE: _S.FAILED,
            _S.PENDING_CANCEL: _S.FAILED,
        },
    }
)


# Events after which an order that is not being cancelled goes on as what its filled quantity says.
BY_FILLED_QUANTITY: Final = frozenset({OrderEvent.REPLACE, OrderEvent.REFUSE_REPLACE, OrderEvent.REFUSE_CANCEL})


def target(event: OrderEvent, state: OrderState) -> OrderState | None:
    """Where the event leads from a state, or None when the move is illegal."""
    return TRANSITIONS[event].get(state)


# Bybit's words for what we call acknowledged and cancelled; fills are driven by executions, never by these.
VENUE_EVENTS: Final = MappingProxyType(
    {
        "New": OrderEvent.ACKNOWLEDGE,
        "Untriggered": OrderEvent.ACKNOWLEDGE,
        "Triggered": OrderEvent.ACKNOWLEDGE,
        "Cancelled": OrderEvent.CANCEL,
        "PartiallyFilledCanceled": OrderEvent.CANCEL,
        "Deactivated": OrderEvent.CANCEL,
        "Rejected": OrderEvent.REJECT,
    }
)
# All statuses that Bybit documents; an order with another one is not understood.
VENUE_STATUSES: Final = frozenset({*VENUE_EVENTS, "PartiallyFilled", "Filled"})
VENUE_ENDED: Final = frozenset({"Filled", "Cancelled", "PartiallyFilledCanceled", "Deactivated", "Rejected"})
