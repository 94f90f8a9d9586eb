"""What Bybit's answers to a create, an amend or a cancel prove (exchange error tables: "error",
"order/create-order")."""

from __future__ import annotations

from trading.reports import Submission

# The order may exist: never answer these by sending again blindly.
AMBIGUOUS = frozenset(
    {10000, 10014, 10016, 10429, 170007, 170032, 170035, 170146, 170147, 170310, 110079, 40004, 10019}
)
# Of those, what is said of one order by a venue that is well otherwise.
OF_ONE_ORDER = frozenset({10014, 110079, 40004})
DUPLICATE = frozenset({110072, 170141})
THROTTLED = frozenset({10006, 10018, 170005, 170222, 20003})
# A cancel or an amend found nothing open under this id: filled, cancelled, or never there.
CLOSED = frozenset({110001, 110008, 110010, 110019, 170213, 170139, 170142, 170143})
REFUSED_STATUSES = frozenset({400, 401, 404})
NOT_MODIFIED = frozenset({110025, 110026, 110027, 110043, 34040})


def classify(code: int, *, of_open: bool = False) -> Submission:
    """What a non-zero ``retCode`` proves. An unknown code is a definite no: Bybit answers it instead of accepting.
    ``of_open``: the request was about an order that should be open."""
    if code in AMBIGUOUS:
        return Submission.UNKNOWN
    if code in DUPLICATE:
        return Submission.DUPLICATE
    if code in THROTTLED:
        return Submission.THROTTLED
    if of_open and code in CLOSED:
        return Submission.CLOSED
    return Submission.REJECTED


def classify_http_status(status: int) -> Submission:
    """What a status other than 200 proves: 400, 401, 403 and 404 that it was refused at the door, all others nothing.
    (409 is also what pybit makes of a body that is no JSON, whatever the venue did.)"""
    if status == 403:
        return Submission.THROTTLED
    return Submission.REJECTED if status in REFUSED_STATUSES else Submission.UNKNOWN
