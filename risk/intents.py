"""An intent: an order that we want, before risk has spoken."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

# Bybit's orderLinkId: at most 36 of these characters.
CLIENT_ORDER_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
MAX_LENGTH = 36
TOKEN = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class OrderIntent:
    account_id: int
    symbol: str
    side: str
    order_type: str
    quantity: Decimal
    price: Decimal | None
    time_in_force: str
    reduce_only: bool
    take_profit: Decimal | None
    stop_loss: Decimal | None
    strategy: str
    client_order_id: str
    reason: str
    trace_id: str
    leverage: Decimal = Decimal(1)


def new_client_order_id(time_ms: int, symbol: str, strategy: str, token: str) -> str:
    """``{time_ms}_{symbol}_{strategy}_{token}`` in at most 36 characters of ``[A-Za-z0-9_-]``.

    The time (13) and the 8 hexadecimal digits stay whole; symbol and strategy share what is left, the strategy cut
    first. A token that is not 8 hexadecimal digits is hashed to 8.
    """
    if not TOKEN.fullmatch(token):
        token = hashlib.sha256(token.encode()).hexdigest()[:8]
    time = str(time_ms)
    return f"{time}_{_names(symbol, strategy, MAX_LENGTH - len(time) - len(token) - 3)}_{token}"


@lru_cache(maxsize=4_096)
def _names(symbol: str, strategy: str, room: int) -> str:
    symbol, strategy = (re.sub(r"[^A-Za-z0-9-]", "-", text) for text in (symbol, strategy))
    symbol = symbol[: room - 1]
    return f"{symbol}_{strategy[: room - len(symbol)]}"
