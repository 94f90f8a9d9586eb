"""Unmodified ccxt against the Binance side: markets, books, candles, trades of spot and USD-M, REST and websocket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import ccxt
import ccxt.pro
import pytest
import pytest_asyncio

from tests import processes
from tests.processes import ServerProcess

SECONDS = 20.0
PRODUCTS: dict[str, tuple[Any, Any, str]] = {
    "spot": (ccxt.binance, ccxt.pro.binance, "BTC/USDT"),
    "futures": (ccxt.binanceusdm, ccxt.pro.binanceusdm, "BTC/USDT:USDT"),
}


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = processes.start_simulator(tmp_path_factory.mktemp("venue") / "simulator.log", ("--symbols", "3"))
    yield server
    server.stop()


def pointed(factory: Any, product: str, venue: ServerProcess) -> Any:
    """A client whose every address is the simulator's."""
    client = factory({"options": {"fetchMarkets": {"types": ["spot"] if product == "spot" else ["linear"]}}})
    client.has["fetchCurrencies"] = False
    client.has["fetchMargins"] = False

    def moved(name: str, url: Any) -> Any:
        if isinstance(url, dict):
            return {key: moved(key, each) for key, each in url.items()}
        if url.startswith("ws"):
            return f"{venue.websocket_url}/{product}/ws"
        return f"{venue.url}/{'/'.join(url.split('/')[3:])}"

    client.urls["api"] = {name: moved(name, url) for name, url in client.urls["api"].items()}
    return client


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_market_is_told_by_markets_book_ticker_candles_and_trades(product: str, venue: ServerProcess) -> None:
    factory, _, symbol = PRODUCTS[product]
    client = pointed(factory, product, venue)
    markets = client.load_markets()
    assert symbol in markets and markets[symbol]["precision"]["price"] > 0
    book = client.fetch_order_book(symbol, limit=100)
    assert book["bids"][0][0] < book["asks"][0][0] and len(book["bids"]) == 100
    candles = client.fetch_ohlcv(symbol, "1m", limit=10)
    assert len(candles) == 10 and all(low <= close <= high for _, _, high, low, close, _ in candles)
    deadline = time.monotonic() + SECONDS
    # A venue that has just begun may not have traded yet.
    while not (trades := client.fetch_trades(symbol, limit=20)):
        assert time.monotonic() < deadline
    assert {trade["symbol"] for trade in trades} == {symbol}
    assert abs(client.fetch_time() - client.milliseconds()) < 5_000


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_statistics_of_a_day_and_long_candles(product: str, venue: ServerProcess) -> None:
    factory, _, symbol = PRODUCTS[product]
    client = pointed(factory, product, venue)
    client.load_markets()
    ticker = client.fetch_ticker(symbol)
    assert ticker["low"] <= ticker["vwap"] <= ticker["high"] and ticker["baseVolume"] > 0
    assert ticker["change"] == pytest.approx(ticker["last"] - ticker["open"], abs=0.11)
    assert len(client.fetch_tickers()) == 3 and client.fetch_bids_asks([symbol])[symbol]["bid"] > 0
    assert client.fetch_last_prices([symbol])[symbol]["price"] == pytest.approx(ticker["last"], rel=0.01)
    for interval in ("3d", "1w", "1M"):
        candles = client.fetch_ohlcv(symbol, interval, limit=60)
        assert len(candles) == 60 and all(low <= close <= high for _, _, high, low, close, _ in candles)


def test_funding_and_open_interest_of_a_contract(venue: ServerProcess) -> None:
    factory, _, symbol = PRODUCTS["futures"]
    client = pointed(factory, "futures", venue)
    client.load_markets()
    rate = client.fetch_funding_rate(symbol)
    assert rate["fundingTimestamp"] > client.milliseconds() and rate["markPrice"] > 0
    history = client.fetch_funding_rate_history(symbol, limit=50)
    assert len(history) == 50 and history[-1]["timestamp"] + 8 * 3_600_000 == rate["fundingTimestamp"]
    assert client.fetch_open_interest(symbol)["openInterestAmount"] > 0


@pytest.fixture
def product(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest_asyncio.fixture
async def listener(product: str, venue: ServerProcess) -> AsyncIterator[Any]:
    client = pointed(PRODUCTS[product][1], product, venue)
    yield client
    await client.close()


@pytest.mark.parametrize("product", PRODUCTS, indirect=True)
async def test_books_and_trades_are_watched(product: str, listener: Any) -> None:
    symbol = PRODUCTS[product][2]
    async with asyncio.timeout(SECONDS):
        books = [await listener.watch_order_book(symbol) for _ in range(5)]
        trades = await listener.watch_trades(symbol)
        ticker = await listener.watch_ticker(symbol)
    assert all(book["bids"][0][0] < book["asks"][0][0] for book in books)
    assert trades and trades[-1]["price"] > 0
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
