"""Answers and messages of the Binance side have the shapes of recorded ones: the same keys with the same JSON types.

The recorded ones are the test data of another client, and answers that Binance itself gave. What differs on purpose is
in ``KNOWN`` with its reason; the table fails when it is out of date.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import orjson
import pytest

from tests import recordings
from tests.simulator.shapes import Difference, compare
from trading.simulator.binance.endpoints import FUTURES_ENDPOINTS, SPOT_ENDPOINTS, Call
from trading.simulator.binance.side import BinanceSide
from trading.simulator.hub import Client
from trading.simulator.markets import Liquidation
from trading.simulator.venue import Venue

pytestmark = pytest.mark.recording

ENDPOINTS = {**SPOT_ENDPOINTS, **FUTURES_ENDPOINTS}
_UNDOCUMENTED = "production has it since 2026, no page documents it"
_NEWER = "older than what the page has now"
_SMALLER = "no order of this kind is taken here"
KNOWN: dict[str, dict[str, str]] = {
    "agg_trade": {"st": _UNDOCUMENTED},
    "book_ticker": {"st": _UNDOCUMENTED, "ps": _UNDOCUMENTED},
    "depth_update": {"st": _UNDOCUMENTED, "ps": _UNDOCUMENTED},
    "mark_price": {"st": _UNDOCUMENTED},
    "ticker": {"st": _UNDOCUMENTED},
    "trade": {"X": "production has it, the example was made before"},
    "exchange_info": {
        "sors": _SMALLER,
        "symbols[].opoAllowed": _NEWER,
        "symbols[].pegInstructionsAllowed": _NEWER,
        "symbols[].otoAllowed": _NEWER,
        "symbols[].amendAllowed": _NEWER,
    },
    "/fapi/v1/ticker/bookTicker": {"[].lastUpdateId": _NEWER, "lastUpdateId": _NEWER},
    "/fapi/v1/fundingRate": {"[].markPrice": _NEWER},
    "/fapi/v1/premiumIndex": {"[].estimatedSettlePrice": _NEWER},
    "/api/v3/avgPrice": {"closeTime": _NEWER},
    "/fapi/v1/fundingInfo": {"[].updateTime": "nothing was ever changed here"},
}

# Messages of futures by the name of their example, and REST answers of spot by theirs.
STREAMS = {
    "agg_trade": "btcusdt@aggTrade",
    "book_ticker": "btcusdt@bookTicker",
    "depth_update": "btcusdt@depth@100ms",
    "kline_stream_open": "btcusdt@kline_1m",
    "kline_stream_closed": "btcusdt@kline_1m",
    "liquidation": "btcusdt@forceOrder",
    "mark_price": "btcusdt@markPrice@1s",
    "ticker": "btcusdt@ticker",
    "trade": "btcusdt@trade",
}
ANSWERS = {
    "avg_price": "avgPrice",
    "book_ticker": "ticker/bookTicker",
    "depth": "depth",
    "exchange_info": "exchangeInfo",
    "klines": "klines",
    "ping": "ping",
    "server_time": "time",
    "ticker_24hr": "ticker/24hr",
    "ticker_price": "ticker/price",
    "trades": "trades",
}
QUERY = {"symbol": "BTCUSDT", "interval": "1d"}


class Listener:
    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.messages: list[Any] = []

    def send_frame(self, frame: bytes) -> None:
        self.messages.append(orjson.loads(frame[{126: 4, 127: 10}.get(frame[1], 2) :]))


@pytest.fixture(scope="module")
def side() -> Iterator[BinanceSide]:
    venue = Venue({}, symbols=2)
    made = BinanceSide(venue)
    yield made
    venue.journal.close()


@pytest.fixture(scope="module")
def messages(side: BinanceSide) -> dict[str, list[Any]]:
    """Everything that futures say in two minutes in which somebody is liquidated, by the name of the event."""
    listener: Any = Listener()
    client: Client = listener
    for name in set(STREAMS.values()):
        side.feed.listen(client, "futures", name, combined=True)
    venue = side.venue
    for tick in range(6_000):
        if tick == 100:
            venue.exchange.liquidations.append(Liquidation("BTCUSDT", "Buy", Decimal("0.5"), Decimal(60_000), 1))
        venue.tick(venue.started_ms + tick * 20)
    told: dict[str, list[Any]] = {}
    for message in listener.messages:
        told.setdefault(message["stream"], []).append(message["data"])
    return told


def judge(name: str, pairs: list[tuple[Any, Any]]) -> None:
    assert pairs, f"{name} showed nothing to compare"
    found = Difference()
    for example, answer in pairs:
        compare(by_column(example), by_column(answer), "", found)
    differs = {**found.missing, **found.mistyped, **found.extra}
    known = KNOWN.get(name, {})
    unknown = {key: value for key, value in differs.items() if key not in known}
    assert not unknown, f"{name} differs: {json.dumps(unknown, indent=1)}"


def by_column(rows: Any) -> Any:
    """Rows of klines with a name for each column: these are not all of one type."""
    if isinstance(rows, list) and rows and isinstance(rows[0], list):
        return [dict(zip("abcdefghijkl", row, strict=True)) for row in rows]
    return rows


def fixture(path: str) -> Any:
    file = recordings.FOLDER / "rest" / "binance-fixtures" / path
    if not file.exists():
        pytest.skip(f"needs Binance's examples under {recordings.FOLDER} (set MARKET_DATA_DIR)")
    return json.loads(file.read_text())


@pytest.mark.parametrize("name", STREAMS)
def test_a_message_of_futures_is_as_recorded(name: str, messages: dict[str, list[Any]]) -> None:
    file = name if "stream" in name else f"{name}_stream"
    example = fixture(f"futures/market_data_json/{file}.json")
    told = messages[STREAMS[name]]
    if example["e"] == "kline":
        told = [message for message in told if message["k"]["x"] is example["k"]["x"]]
    judge(name, [(example, message) for message in told])


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_spot_is_as_recorded(name: str, side: BinanceSide) -> None:
    query = {"symbol": "BTCUSDT"} if name == "exchange_info" else QUERY
    judge(name, [(fixture(f"spot/http_json/{name}_response.json"), asked(side, f"/api/v3/{ANSWERS[name]}", query))])


def recorded() -> Iterator[tuple[str, dict[str, str], Any]]:
    """Answers that Binance gave, with the endpoints that are served here."""
    file = recordings.FOLDER / "rest" / "binance-public-pairs" / "binance_public_rest_pairs.json.gz"
    if not file.exists():
        return
    with gzip.open(file, "rt") as text:
        pairs = json.load(text)
    for path, methods in pairs.items():
        for pair in methods.get("GET", []) if path in ENDPOINTS else []:
            data = pair["data"]
            if data and path not in EXCHANGE_INFO and not is_spoilt(data[0] if isinstance(data, list) else data):
                query = dict(each.split("=") for each in pair["queryString"].split("&") if "=" in each)
                yield path, query, data


def is_spoilt(row: Any) -> bool:
    """A refusal; or a row whose recorder had no difference between the keys m and M."""
    return isinstance(row, dict) and ("code" in row or "" in row)


# Its filters differ from contract to contract: compared by its example above.
EXCHANGE_INFO = ("/api/v3/exchangeInfo", "/fapi/v1/exchangeInfo")
PAIRS = list(recorded())


@pytest.mark.skipif(not PAIRS, reason="needs recorded answers of Binance (set MARKET_DATA_DIR)")
@pytest.mark.parametrize("number", range(len(PAIRS)))
def test_an_answer_is_as_binance_gave_it(number: int, side: BinanceSide) -> None:
    path, query, data = PAIRS[number]
    mine = {name: "BTCUSDT" if name == "symbol" else value for name, value in query.items() if name in TAKEN}
    answer = asked(side, path, mine)
    judge(path, [(data[:1] if isinstance(data, list) else data, answer)])


TAKEN = ("symbol", "interval", "limit")


def asked(side: BinanceSide, path: str, query: dict[str, str]) -> Any:
    product = side.products["spot" if path.startswith("/api") else "futures"]
    return ENDPOINTS[path].answer(Call(product, query, 6_000, side.venue.clock()))


def test_all_comparisons_are_counted(record_testsuite_property: Callable[[str, object], None]) -> None:
    count = len(STREAMS) + len(ANSWERS) + len(PAIRS)
    record_testsuite_property("binance_examples_compared", count)
    paths = {path for path, _, _ in PAIRS}
    kinds = f"{len(STREAMS)} messages, {len(ANSWERS)} answers, {len(PAIRS)} recorded answers of {len(paths)} paths"
    sys.stdout.write(f"{count} compared: {kinds}\n")
    assert count >= 90
