"""Binance's refusals: an HTTP status and ``{"code", "msg"}``."""

from __future__ import annotations

INVALID_SYMBOL = -1121


class BinanceError(Exception):
    """A request that is refused; ``code`` and ``message`` as Binance words them."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


def missing(parameter: str) -> BinanceError:
    return BinanceError(-1102, f"Mandatory parameter '{parameter}' was not sent, was empty/null, or malformed.")


def illegal_characters(parameter: str, pattern: str) -> BinanceError:
    return BinanceError(-1100, f"Illegal characters found in parameter '{parameter}'; legal range is '{pattern}'.")


def not_valid(parameter: str) -> BinanceError:
    return BinanceError(-1130, f"Data sent for parameter '{parameter}' is not valid.")


def bad_combination() -> BinanceError:
    return BinanceError(-1128, "Combination of optional parameters invalid.")


def invalid_symbol() -> BinanceError:
    return BinanceError(INVALID_SYMBOL, "Invalid symbol.")
