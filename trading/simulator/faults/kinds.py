"""What can go wrong, and which ``value`` each kind takes."""

from __future__ import annotations

from dataclasses import dataclass

from trading.simulator.faults.errors import wrong

LONGEST_DELAY_MS = 600_000
DAY_MS = 86_400_000

# What Bybit says with each code (its error page); other codes need a message of their own.
RET_MESSAGES = {
    -1: "Request expired",
    10000: "Server Timeout",
    10001: "Request parameter error.",
    10002: "invalid request, please check your server timestamp or recv_window param.",
    10003: "API key is invalid.",
    10004: "Error sign, please check your signature generation algorithm.",
    10005: "Permission denied, please check your API key permissions.",
    10006: "Too many visits. Exceeded the API Rate Limit.",
    10010: "Unmatched IP, please check your API key's bound IP addresses.",
    10014: "Invalid duplicate request.",
    10016: "Server error.",
    10019: "service is restarting, do not accept new request for the time being",
    10024: "Compliance rules triggered",
    10027: "Transactions are banned.",
    10429: "System level frequency protection",
    33004: "Your api key has expired.",
    34040: "Not modified",
    40004: "the order is modified during the process of replacing, please check the order status again",
    110001: "Order does not exist",
    110003: "Order price exceeds the allowable range.",
    110004: "Wallet balance is insufficient",
    110006: "The assets are estimated to be unable to cover the position margin",
    110007: "Available balance is insufficient",
    110008: "The order has been completed or cancelled.",
    110010: "The order has been cancelled",
    110012: "Insufficient available balance.",
    110017: "Reduce-only rule not satisfied",
    110020: "Not allowed to have more than 500 active orders",
    110043: "Set leverage has not been modified.",
    110072: "OrderLinkedID is duplicate",
    110079: "The order is processing and can not be operated, please try again later",
    110094: "Order notional value below the lower limit",
    170005: "Too many new orders.",
    170007: "Timeout waiting for response from backend server.",
    170032: "Network error. Please try again later",
    170035: "Submitted to the system for processing!",
    170131: "Balance insufficient",
    170139: "Order has been filled.",
    170141: "Duplicate clientOrderId",
    170142: "Order has been canceled",
    170146: "Order creation timeout",
    170147: "Order cancellation timeout",
    170212: "Cancel order is being processed",
    170213: "Order does not exist.",
    170222: "Too many requests in this time frame.",
    170310: "Order modification timeout",
}
TOO_FREQUENT = "access too frequent"
STATUS_TEXTS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: TOO_FREQUENT,
    404: "Not Found",
    429: "System level frequency protection",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}

Value = int | str | None


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between two bounds, both allowed; required where there is no default."""

    lowest: int
    highest: int
    meaning: str
    default: int | None = None

    def check(self, value: object) -> Value:
        if value is None and self.default is not None:
            return self.default
        # 502.0 is what a client writes that keeps every number as a float.
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if not isinstance(number, int) or isinstance(number, bool) or not self.lowest <= number <= self.highest:
            raise wrong("value", value, f"{self.meaning}, {self.lowest} to {self.highest}")
        return number


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few words or numbers; the first is the default unless one must be chosen."""

    options: tuple[Value, ...]
    meaning: str
    required: bool = False

    def check(self, value: object) -> Value:
        if value is None and not self.required:
            return self.options[0]
        for option in self.options:
            if value == option and not isinstance(value, bool):
                return option
        raise wrong("value", value, f"{self.meaning}: one of {', '.join(map(str, self.options))}")


@dataclass(frozen=True, slots=True)
class Nothing:
    def check(self, value: object) -> Value:
        if value is not None:
            raise wrong("value", value, "no value for this kind")
        return None


ValueRule = Whole | OneOf | Nothing

_DELAY = Whole(1, LONGEST_DELAY_MS, "a delay in ms")

# lose_answer: done, and the connection closes without an answer. lose_request: not done, the same to see.
# delay: done, answered value ms later. http_status, ret_code: not done, answered with value.
# garbage: done, answered with a body that is no answer. duplicate_delivery: done twice, as by a proxy that repeats; the
# client is given the first or the second answer. answer_after_private: the private messages leave first, the answer
# value ms after them. clock_skew: the venue's clock is value ms ahead for this request.
REQUEST_KINDS: dict[str, ValueRule] = {
    "lose_answer": Nothing(),
    "lose_request": Nothing(),
    "delay": _DELAY,
    "http_status": OneOf(tuple(STATUS_TEXTS), "an HTTP status", required=True),
    "ret_code": Whole(-9_999, 999_999, "a retCode"),
    "garbage": OneOf(("truncated", "html", "binary", "empty"), "a kind of body"),
    "duplicate_delivery": OneOf(("second", "first"), "the answer that the client gets"),
    "answer_after_private": Whole(0, LONGEST_DELAY_MS, "a delay in ms", default=20),
    "clock_skew": Whole(-DAY_MS, DAY_MS, "ms that the venue's clock is ahead"),
}
# These go together with what else happens to a request; of all others one request has at most one.
SIDE_EFFECTS = frozenset({"delay", "clock_skew"})

# disconnect: instead of the frame. drop, repeat, reorder (with the connection's next frame), truncate (to value bytes,
# half without one). delay: this frame and those behind it. restart_u: the topic's book starts again, with a snapshot
# of u=1 for everyone. slow_consumer: nothing more leaves until value frames wait, then the client is cut.
# double_filled: a "Filled" order is told again as one whose cancel came too late.
FRAME_KINDS: dict[str, ValueRule] = {
    "disconnect": Nothing(),
    "drop": Nothing(),
    "repeat": Nothing(),
    "reorder": Nothing(),
    "truncate": Whole(0, 1_000_000, "bytes that are left, 0 for half", default=0),
    "delay": _DELAY,
    "restart_u": Nothing(),
    "slow_consumer": Whole(1, 5_000, "frames that may wait", default=5_000),
    "double_filled": Nothing(),
}
