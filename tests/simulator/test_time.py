"""The venue's clock: however far it is moved at once, the same seed and start say the same."""

from __future__ import annotations

import hashlib
import hmac
import io
from decimal import Decimal
from itertools import cycle
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from django.core.management import CommandError, call_command

from marketdata.feeds.recorded import read_recording
from trading.simulator.binance.side import BinanceSide
from trading.simulator.candles import INTERVALS
from trading.simulator.hub import message_of
from trading.simulator.intervals import MINUTE_MS
from trading.simulator.keys import DEMO_KEYS
from trading.simulator.recording import Recording
from trading.simulator.server import SimulatorOptions, build
from trading.simulator.simulation import START_MS as SIMULATION_START_MS
from trading.simulator.simulation import simulate
from trading.simulator.stepping import TICK_MS, SteppedClock, Stepper
from trading.simulator.stretches import Stretch
from trading.simulator.venue import Venue

START_MS = 1_800_000_000_000 - 17_000
SECONDS = 40
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


class Listener:
    """A connection that keeps all it is sent."""

    channel = "public"
    is_cut = False

    def __init__(self) -> None:
        self.user, self.topics = "alice", set[str]()
        self.frames: list[bytes] = []

    def send_frame(self, message: bytes) -> None:
        self.frames.append(message)


def venue_at(start_ms: int = START_MS, *, symbols: int = 3, seed: int = 5) -> tuple[Venue, Stepper, SteppedClock]:
    clock = SteppedClock(start_ms)
    venue = Venue(DEMO_KEYS, seed=seed, symbols=symbols, clock=clock)
    return venue, Stepper(venue, clock), clock


def listen(venue: Venue, *topics: str) -> Listener:
    listener: Any = Listener()
    for topic in topics:
        venue.hub.subscribe(listener, topic)
        venue.first_message(topic)
    return listener


def state_of(venue: Venue) -> str:
    """A fingerprint of every book, price, candle and trade."""
    found = hashlib.sha256()
    for market in (*venue.exchange.markets.values(), *venue.exchange.spot.values()):
        found.update(repr((market.symbol, market.last_price, market.mark_price, market.sequence)).encode())
        for side in (market.book.bids, market.book.asks):
            found.update(repr(side.top(1_000)).encode())
    for name, series in venue.candles.items():
        found.update(name.encode() + series.history()[1][-90:].tobytes() + repr(series.day_change()).encode())
        found.update(orjson.dumps(venue.trades[name].rows(1_000)))
    return found.hexdigest()


@pytest.mark.parametrize("chunk_ms", [60, 700, 9_999, 60_000])
def test_books_trades_and_candles_are_the_same_however_far_the_clock_is_moved_at_once(chunk_ms: int) -> None:
    (one, _, clock), (other, stepper, _) = venue_at(), venue_at()
    for _ in range(SECONDS * 1_000 // TICK_MS):
        clock.now_ms += TICK_MS
        one.tick(clock.now_ms)
    for until_ms in (*range(START_MS, START_MS + SECONDS * 1_000, chunk_ms), START_MS + SECONDS * 1_000):
        stepper.advance(until_ms)
    assert state_of(one) == state_of(other)


def test_frames_are_the_same_at_fifty_times_real_time_while_one_user_trades_one_market() -> None:
    def run(*moves_ms: int) -> list[bytes]:
        venue, stepper, clock = venue_at()
        BinanceSide(venue)
        topics = ("orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "kline.1.BTCUSDT", "spot:orderbook.200.BTCUSDT")
        best = ("orderbook.1.BTCUSDT", "orderbook.1.ETHUSDT", "spot:tickers.BTCUSDT", "priceLimit.BTCUSDT")
        private = [f"alice/{name}" for name in ("order", "execution", "position", "wallet")]
        listener = listen(venue, *topics, *best, "allLiquidation.BTCUSDT", *private)
        moves = cycle(moves_ms)
        for second in range(1, SECONDS + 1):
            while clock.now_ms < START_MS + second * 1_000:
                stepper.advance(min(START_MS + second * 1_000, clock.now_ms + next(moves)))
            request = {"symbol": "ETHUSDT", "side": "Buy" if second % 2 else "Sell", "orderType": "Market", "qty": "1"}
            venue.exchange.create("alice", request, clock.now_ms)
            venue.settle()
        return [*listener.frames, state_of(venue).encode()]

    at_real_time = run(20)
    assert len(at_real_time) > 1_000
    assert run(1_000) == at_real_time
    assert run(20, 360, 40, 1_000) == at_real_time


@pytest.mark.parametrize("topic", ["kline.1.BTCUSDT", "orderbook.1.BTCUSDT", "spot:tickers.BTCUSDT", "kline.D.BTCUSDT"])
def test_who_comes_late_hears_the_same_after_a_minute_that_was_lived_at_once(topic: str) -> None:
    def run(step_ms: int) -> list[bytes]:
        venue, stepper, clock = venue_at(symbols=2)
        while clock.now_ms < START_MS + 63_000:
            stepper.advance(min(START_MS + 63_000, clock.now_ms + step_ms))
        listener = listen(venue, topic)
        stepper.advance(START_MS + 67_000)
        return listener.frames

    at_real_time = run(TICK_MS)
    assert at_real_time
    assert run(63_000) == at_real_time


@pytest.mark.parametrize("stream", ["!miniTicker@arr", "!bookTicker", "!markPrice@arr", "btcusdt@depth@100ms"])
def test_a_binance_stream_says_the_same_however_far_the_clock_is_moved_at_once(stream: str) -> None:
    def run(step_ms: int) -> list[bytes]:
        venue, stepper, clock = venue_at(symbols=2)
        side = BinanceSide(venue)
        listener: Any = Listener()
        side.feed.listen(listener, "futures", stream, combined=False)
        while clock.now_ms < START_MS + 22_000:
            stepper.advance(min(START_MS + 22_000, clock.now_ms + step_ms))
        frames: list[bytes] = listener.frames
        return frames

    at_real_time = run(TICK_MS)
    assert len(at_real_time) >= 4
    assert run(5_500) == at_real_time


def test_what_a_user_does_to_the_best_prices_is_told_within_ten_milliseconds_of_the_fast_clock() -> None:
    venue, stepper, clock = venue_at(symbols=1)
    listener = listen(venue, "orderbook.1.BTCUSDT")
    stepper.advance(START_MS + 1_000)
    told = len(listener.frames)
    market = venue.exchange.markets["BTCUSDT"]
    best = market.grids.prices.text(market.book.bids.best or 0)
    request = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "1", "price": best}
    venue.exchange.create("alice", request, clock.now_ms)
    stepper.advance(START_MS + 1_010)
    (frame,) = listener.frames[told:]
    assert orjson.loads(message_of(frame))["ts"] == START_MS + 1_010
    # The half tick is not lived twice, whether its tick comes alone or with others.
    stepper.advance(START_MS + 1_019)
    assert clock.now_ms == START_MS + 1_010
    stepper.advance(START_MS + 1_040)
    assert clock.now_ms == START_MS + 1_040


def test_depths_and_trades_share_numbers_that_rise_while_markets_live_a_minute_at_once() -> None:
    venue, stepper, _ = venue_at(symbols=1)
    stepper.advance(START_MS + 60_000)
    market, before = venue.exchange.markets["BTCUSDT"], venue.trades["BTCUSDT"].rows(1_000)
    numbers = [int(row["seq"]) for row in before]
    assert numbers == sorted(set(numbers), reverse=True)
    # Each step changes the book once and each trade counts.
    assert market.sequence == START_MS + 60_000 // TICK_MS + venue.trades["BTCUSDT"].count
    listener = listen(venue, "orderbook.50.BTCUSDT", "publicTrade.BTCUSDT")
    stepper.advance(START_MS + 70_000)
    data = [orjson.loads(message_of(frame))["data"] for frame in listener.frames]
    told = [row["seq"] for each in data for row in (each if isinstance(each, list) else [each])]
    assert told[0] > numbers[0] and len(told) == len(set(told))


def test_who_owes_is_charged_at_the_full_hour_however_far_the_clock_is_moved_at_once() -> None:
    def run(step_ms: int) -> list[bytes]:
        venue, stepper, clock = venue_at(symbols=1)
        account = venue.exchange.accounts["alice"]
        account.pay("USDT", -account.balance - 50_000)
        account.pay("USDC", Decimal(100_000))
        listener = listen(venue, "alice/wallet")
        while clock.now_ms < START_MS + 22_000:
            stepper.advance(min(START_MS + 22_000, clock.now_ms + step_ms))
        assert account.balance == Decimal("-50000.25")
        return listener.frames

    (charged,) = at_real_time = run(TICK_MS)
    assert orjson.loads(message_of(charged))["creationTime"] == (START_MS // 3_600_000 + 1) * 3_600_000
    assert run(22_000) == at_real_time


def test_the_funding_of_a_simulated_day_comes_due_three_times_and_its_candles_add_up() -> None:
    venue, stepper, clock = venue_at(1_767_225_600_000, symbols=1)
    sums: list[tuple[int, int]] = []
    taken = venue.take_in

    def take_in(name: str, stretch: Stretch) -> None:
        if name == "BTCUSDT":
            sums.append((len(stretch), int(stretch.lots.sum())))
        taken(name, stretch)

    venue.take_in = take_in  # type: ignore[method-assign]
    end_ms = clock.now_ms + 86_400_000
    stepper.advance(end_ms - TICK_MS)
    assert venue.funding.settled == 2
    stepper.advance(end_ms + 4 * TICK_MS)
    assert venue.funding.settled == 3
    market, series = venue.exchange.markets["BTCUSDT"], venue.candles["BTCUSDT"]
    minutes = series.rows("1", 1_440, end_ms - 86_400_000, end_ms - 1)[::-1]
    assert len(minutes) == 1_440
    assert venue.trades["BTCUSDT"].count - 5 <= sum(count for count, _ in sums) <= venue.trades["BTCUSDT"].count
    assert sum(Decimal(row[5]) for row in minutes) >= sum(lots for _, lots in sums) * market.rules.lot_size
    for interval in ("5", "15", "60", "240", "D"):
        step = INTERVALS[interval].minutes
        for row in series.rows(interval, 1_000, end_ms - 86_400_000, end_ms - 1):
            first = (int(row[0]) - (end_ms - 86_400_000)) // MINUTE_MS
            parts = [[Decimal(text) for text in part] for part in minutes[first : first + step]]
            volume, turnover = (sum(part[column] for part in parts) for column in (5, 6))
            expected = [parts[0][1], max(p[2] for p in parts), min(p[3] for p in parts), parts[-1][4], volume, turnover]
            assert [Decimal(text) for text in row[1:]] == expected


def test_public_trades_make_exactly_the_candles_of_their_times() -> None:
    venue, stepper, clock = venue_at(symbols=1)
    listener = listen(venue, "publicTrade.BTCUSDT")
    stepper.advance(START_MS + 140_000)
    rows = [row for frame in listener.frames for row in orjson.loads(message_of(frame))["data"]]
    bars = {int(row[0]): row for row in venue.candles["BTCUSDT"].rows("1", 5, None, None)}
    whole = [start for start in bars if start > START_MS and start + MINUTE_MS <= clock.now_ms]
    assert len(whole) == 2
    for start in whole:
        inside = [row for row in rows if start <= row["T"] < start + MINUTE_MS]
        prices, (opened, high, low, close, volume) = [Decimal(row["p"]) for row in inside], bars[start][1:6]
        assert Decimal(volume) == sum(Decimal(row["v"]) for row in inside)
        assert (Decimal(high), Decimal(low)) == (max([*prices, Decimal(opened)]), min([*prices, Decimal(opened)]))
        assert Decimal(close) == prices[-1]


def test_a_simulation_is_written_twice_as_the_same_file_and_replays_to_the_same_books(tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl.zst", tmp_path / "second.jsonl.zst"
    summary = simulate(20, symbols=2, seed=3, recording=first)
    simulate(20, symbols=2, seed=3, recording=second)
    assert first.read_bytes() == second.read_bytes()
    assert summary.messages == sum(frame.kind == "recv" for frame in read_recording(first)) > 400
    clock = SteppedClock(SIMULATION_START_MS)
    lived, replay = Venue(DEMO_KEYS, seed=3, symbols=2, clock=clock), Venue(DEMO_KEYS, recording=first, clock=clock)
    Stepper(lived, clock).advance(SIMULATION_START_MS + 20_000)
    assert replay.player is not None
    for frame in Recording.read(first).frames:
        replay.player.play(frame, clock.now_ms)
    assert set(replay.exchange.markets) == set(lived.exchange.markets) == {"BTCUSDT", "ETHUSDT"}
    for symbol, market in lived.exchange.markets.items():
        played = replay.exchange.markets[symbol]
        assert played.book.bids.top(200) == market.book.bids.top(200)
        assert played.book.asks.top(200) == market.book.asks.top(200)
        assert played.last_price == market.last_price


async def test_clients_of_a_fast_venue_live_in_its_time() -> None:
    application = build(SimulatorOptions(symbols=1, speed=100.0))
    key = DEMO_KEYS["alice"]
    async with TestClient(TestServer(application)) as client:

        async def venue_ms() -> int:
            return int((await (await client.get("/v5/market/time")).json())["time"])

        async def balance(stamp: int) -> dict[str, Any]:
            query = "accountType=UNIFIED"
            text = f"{stamp}{key.api_key}5000{query}"
            signature = hmac.new(key.api_secret.encode(), text.encode(), hashlib.sha256).hexdigest()
            headers = {"X-BAPI-API-KEY": key.api_key, "X-BAPI-TIMESTAMP": str(stamp), "X-BAPI-RECV-WINDOW": "5000"}
            headers["X-BAPI-SIGN"] = signature
            answer = await client.get(f"/v5/account/wallet-balance?{query}", headers=headers)
            found: dict[str, Any] = await answer.json()
            return found

        began = await venue_ms()
        async with client.ws_connect("/v5/public/linear") as socket:
            await socket.send_json({"op": "subscribe", "args": ["kline.1.BTCUSDT", "tickers.BTCUSDT"]})
            starts: set[int] = set()
            while len(starts) < 3:
                message = await socket.receive_json()
                if str(message.get("topic", "")).startswith("kline"):
                    starts |= {row["start"] for row in message["data"]}
        assert sorted(starts) == list(range(min(starts), min(starts) + 3 * MINUTE_MS, MINUTE_MS))
        # Two minutes of the venue have passed, in about a second: its own time is what it accepts.
        assert (await venue_ms()) - began > MINUTE_MS
        assert (await balance(await venue_ms()))["retCode"] == 0
        assert (await balance(began))["retCode"] == 10002


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--speed", "0"], "--speed is '0'; expected a number from 0.1 to 1000"),
        (["--speed", "nan"], "--speed is 'nan'"),
        (["--simulate", "soon"], "--simulate is 'soon'; expected a time such as 90s, 30m, 24h or 7d"),
        (["--simulate", "9999d"], "at most 365d"),
        (["--simulate", "1h", "--speed", "2"], "--simulate has no use for --speed"),
        (["--simulate", "1h", "--market", "x.zst"], "--simulate has no use for --market"),
        (["--simulate", "1s", "--write", "nowhere/at/all.zst"], "--write: "),
        (["--write", "x.zst"], "--write needs --simulate"),
        (["--symbols", "101"], "--symbols is 101; expected 1 to 100"),
    ],
)
def test_a_bad_value_is_refused_in_one_sentence_with_status_2(arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("runsimulator", *arguments)
    assert sentence in str(refused.value) and refused.value.returncode == 2


def test_a_simulation_tells_what_happened() -> None:
    told = io.StringIO()
    call_command("runsimulator", "--simulate", "2m", "--symbols", "1", stdout=told)
    assert "2 markets: " in told.getvalue() and " 4 candles of a minute, 0 fundings" in told.getvalue()
    assert "120 s in " in told.getvalue()
