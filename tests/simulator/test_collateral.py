"""Coins beside USDT that stand for margin, what losses borrow against them, and how that is paid back."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.simulator.test_margin_and_exits import exchange, held, place, settle
from trading.simulator.borrowing import HOUR_MS, InterestSchedule
from trading.simulator.collateral import HOURLY_BORROW_RATE, counted
from trading.simulator.errors import ApiError
from trading.simulator.exchange import Exchange
from trading.simulator.journal import Journal
from trading.simulator.keys import KeysError, read_keys

D = Decimal


def owner(coins: dict[str, str], *, balance: int = 10_000) -> Exchange:
    """An exchange where alice has these coins and the others USDT; 1 BTC is 100 USD."""
    venue = exchange(balance=balance, depth=50_000)
    alice = venue.accounts["alice"]
    alice.wallets = {"USDT": D(0)} | {coin: D(amount) for coin, amount in coins.items()}
    return venue


def coin_row(row: dict[str, Any], coin: str) -> dict[str, Any]:
    return next(each for each in row["coin"] if each["coin"] == coin)


def total(venue: Exchange, coin: str) -> Decimal:
    return venue.ledger.total(coin)


@pytest.mark.parametrize(
    ("coin", "amount", "counts"),
    [
        ("USDT", "5", "5"),
        ("USDC", "5", "5"),
        ("BTC", "100", "95"),
        ("BTC", "150", "140"),
        ("BTC", "1000", "905"),
        ("BTC", "5000", "905"),
    ],
)
def test_each_part_of_a_holding_counts_with_the_ratio_of_its_tier(coin: str, amount: str, counts: str) -> None:
    assert counted(coin, D(amount)) == D(counts)


def test_other_coins_stand_for_margin_and_are_shown_in_the_wallet() -> None:
    venue = owner({"BTC": "10", "USDC": "50", "DOGE": "1000"})
    row = venue.accounts["alice"].wallet_row()
    assert (row["totalEquity"], row["totalMarginBalance"], row["totalAvailableBalance"]) == ("1050", "1000", "1000")
    place(venue, "alice", "Buy", "20")
    row = venue.accounts["alice"].wallet_row()
    account = venue.accounts["alice"]
    assert held(venue, "alice") == 20 and account.balance < 0
    assert D(row["accountIMRate"]) == round(account.initial_margin / account.margin_balance, 4)
    assert coin_row(row, "USDT")["borrowAmount"] == f"{-account.equity:f}".rstrip("0") != "0"
    btc, doge = coin_row(row, "BTC"), coin_row(row, "DOGE")
    assert (btc["marginCollateral"], btc["collateralSwitch"], btc["usdValue"]) == (True, True, "1000")
    assert (doge["marginCollateral"], doge["collateralSwitch"], doge["usdValue"]) == (False, False, "0")
    with pytest.raises(ApiError) as refused:
        place(venue, "alice", "Buy", "90")
    assert refused.value.code == 110007


def test_a_coin_that_is_switched_off_stands_for_nothing_until_it_is_on_again() -> None:
    venue = owner({"BTC": "10"})
    venue.switch_collateral("alice", "BTC", is_on=False)
    assert venue.accounts["alice"].margin_balance == 0
    assert coin_row(venue.accounts["alice"].wallet_row(), "BTC")["collateralSwitch"] is False
    with pytest.raises(ApiError):
        place(venue, "alice", "Buy", "1")
    venue.switch_collateral("alice", "BTC", is_on=True)
    place(venue, "alice", "Buy", "1")
    with pytest.raises(ApiError) as needed:
        venue.switch_collateral("alice", "BTC", is_on=False)
    assert needed.value.code == 110044 and venue.accounts["alice"].margin_balance > 900
    for coin in ("USDT", "USDC", "DOGE", ""):
        with pytest.raises(ApiError) as refused:
            venue.switch_collateral("alice", coin, is_on=False)
        assert refused.value.code == 10001


def test_margin_that_is_only_collateral_buys_no_coins() -> None:
    venue = owner({"BTC": "10"})
    with pytest.raises(ApiError) as refused:
        place(venue, "alice", "Buy", "50", category="spot")
    assert refused.value.code == 170131


def test_a_loss_is_borrowed_against_collateral_and_a_profit_pays_it_back() -> None:
    venue = owner({"BTC": "10"})
    place(venue, "alice", "Buy", "10")
    settle(venue, venue.markets["BTCUSDT"], 950, 50_000)
    account = venue.accounts["alice"]
    assert account.borrowed > 50 and account.interest_bearing < 2  # only the fee is more than a loss on paper
    assert account.margin_balance == account.equity + 950 * D("0.95")
    settle(venue, venue.markets["BTCUSDT"], 1_100, 50_000)
    assert account.borrowed == 0 and held(venue, "alice") == 10


def test_interest_is_charged_every_hour_on_what_realised_losses_borrow() -> None:
    venue = owner({"BTC": "10"})
    place(venue, "alice", "Buy", "10")
    settle(venue, venue.markets["BTCUSDT"], 950, 50_000)
    place(venue, "alice", "Sell", "10")
    schedule = InterestSchedule(venue, 10)
    account, before = venue.accounts["alice"], venue.accounts["alice"].balance
    schedule.settle(HOUR_MS - 1)
    assert account.balance == before
    schedule.settle(HOUR_MS)
    schedule.settle(HOUR_MS + 5)
    assert account.balance == before * (1 + HOURLY_BORROW_RATE) < before < 0
    row = account.transactions[-1]
    assert (row["type"], D(row["change"])) == ("INTEREST", before * HOURLY_BORROW_RATE)
    assert abs(total(venue, "USDT") - 20_000) < D("1e-9")


def test_a_liquidation_sells_collateral_first_and_may_end_there() -> None:
    venue = owner({"BTC": "10"})
    venue.set_leverage("alice", "BTCUSDT", "50")
    place(venue, "alice", "Sell", "150")
    account = venue.accounts["alice"]
    waiting = place(venue, "alice", "Sell", "5", "140.0", category="spot")
    for price in range(1_010, 1_100, 2):
        settle(venue, venue.markets["BTCUSDT"], price, 50_000)
        if account.wallets["BTC"] < 10:
            break
    # Selling coins brings more than their ratio counts for: that can be enough.
    assert held(venue, "alice") == 150 and not venue.liquidations
    assert waiting.cancel_type == "CancelAllBeforeLiq"
    assert abs(account.equity) < 1 and 0 < account.wallets["BTC"] < 10
    kinds = [row["type"] for row in account.transactions[-2:]]
    assert kinds == ["CURRENCY_SELL", "CURRENCY_BUY"]
    sold, bought = account.transactions[-2:]
    assert (sold["currency"], bought["currency"]) == ("BTC", "USDT") and D(bought["fee"]) > 0
    for coin, there_is in (("USDT", 20_000), ("BTC", 10)):
        assert abs(total(venue, coin) - there_is) < D("1e-9")


def test_a_liquidation_that_collateral_cannot_stop_takes_the_position_and_leaves_no_debt() -> None:
    venue = owner({"BTC": "10", "USDC": "100"})
    venue.set_leverage("alice", "BTCUSDT", "50")
    place(venue, "alice", "Sell", "200")
    settle(venue, venue.markets["BTCUSDT"], 1_070, 50_000)
    account = venue.accounts["alice"]
    assert held(venue, "alice") == 0 and len(venue.liquidations) == 1
    assert account.balance >= 0 and account.borrowed == 0 and venue.ledger.insurance["USDT"] >= 0
    assert venue.accounts["alice"].wallets["USDC"] == 0  # the coin that counts for most is sold first
    for coin, there_is in (("USDT", 20_000), ("BTC", 10), ("USDC", 100)):
        assert abs(total(venue, coin) - there_is) < D("1e-9")


def test_a_fall_of_the_collateral_alone_can_ruin_its_owner() -> None:
    venue = owner({"BTC": "10"})
    account = venue.accounts["alice"]
    account.pay("USDT", D(-900))
    venue.accounts["bob"].pay("USDT", D(900))
    settle(venue, venue.markets["BTCUSDT"], 970, 50_000)
    # 10 BTC are worth 970 and count for 921.5: less than is owed and the margin of that.
    assert account.balance >= 0 and 0 < account.wallets["BTC"] < 1


def test_the_fund_pays_a_debt_that_nothing_stands_for_as_far_as_it_can() -> None:
    venue = owner({"BTC": "1"})
    account = venue.accounts["alice"]
    account.pay("USDT", D(-500))
    venue.accounts["bob"].pay("USDT", D(500))
    venue.ledger.insurance["USDT"] = D(100)
    settle(venue, venue.markets["BTCUSDT"], 1_001, 50_000)
    assert venue.ledger.insurance["USDT"] == 0 and account.wallets["BTC"] == 0
    assert account.balance == D(-500) + D("100.1") * D("0.999") + 100
    assert coin_row(account.wallet_row(), "USDT")["borrowAmount"] == f"{-account.balance:f}".rstrip("0")
    assert abs(total(venue, "USDT") - 20_100) < D("1e-9")


def test_the_switch_is_remembered(tmp_path: Path) -> None:
    venue, path = owner({"BTC": "10"}), tmp_path / "state.sqlite3"
    venue.switch_collateral("alice", "BTC", is_on=False)
    journal = Journal(path)
    journal.write(venue.accounts.values(), [])
    journal.close()
    again = owner({})
    restored = Journal(path)
    restored.load(again.accounts["alice"])
    restored.close()
    assert again.accounts["alice"].switched_off == {"BTC"} and again.accounts["alice"].margin_balance == 0


def test_a_keys_file_can_give_other_coins_too(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    row = {"user": "erin", "api_key": "k", "api_secret": "s", "balance": "5", "coins": {"BTC": "0.5"}}
    path.write_text(json.dumps([row]))
    made = Exchange({}, read_keys(path))
    assert made.accounts["erin"].wallets == {"USDT": D(5), "BTC": D("0.5")}
    for coins in ({"BTC": "-1"}, ["BTC"], {"BTC": "much"}):
        path.write_text(json.dumps([row | {"coins": coins}]))
        with pytest.raises(KeysError):
            read_keys(path)
