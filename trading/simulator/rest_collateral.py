"""Endpoints about margin: which coins stand for it, with which ratios, and what is borrowed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from trading.simulator.accounts import SETTLE_COIN
from trading.simulator.collateral import HOURLY_BORROW_RATE, MOST_BORROWED, TIERS
from trading.simulator.errors import parameter_error
from trading.simulator.ledger import text
from trading.simulator.orders import ZERO
from trading.simulator.venue import Venue

Fields = Mapping[str, Any]


def collateral_info(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    """All coins that the exchange knows. Only USDT can be borrowed, and only by losses."""
    exchange, account = venue.exchange, venue.exchange.accounts[user]
    coins = dict.fromkeys([*TIERS, *(market.rules.base_coin for market in exchange.markets.values())])
    if fields.get("currency"):
        coins = {coin: None for coin in coins if coin == fields["currency"]}
    rows = []
    for coin in coins:
        is_lent = coin == SETTLE_COIN
        most, borrowed = (MOST_BORROWED, account.borrowed) if is_lent else (ZERO, ZERO)
        free = borrowed - min(borrowed, account.interest_bearing)
        rows.append(
            {
                "currency": coin,
                "hourlyBorrowRate": text(HOURLY_BORROW_RATE if is_lent else ZERO),
                "maxBorrowingAmount": text(most),
                "freeBorrowingLimit": text(most),
                "freeBorrowAmount": text(free),
                "freeBorrowingAmount": "",
                "borrowAmount": text(borrowed),
                "otherBorrowAmount": "0",
                "availableToBorrow": text(max(most - borrowed, ZERO)),
                "borrowable": is_lent,
                "borrowUsageRate": text((borrowed / most).quantize(Decimal("1e-8"))) if most else "0",
                "marginCollateral": coin in TIERS,
                "collateralSwitch": coin in TIERS and coin not in account.switched_off,
                "collateralRatio": text(TIERS[coin][0].ratio if coin in TIERS else ZERO),
            }
        )
    return {"list": rows}


def set_collateral_switch(venue: Venue, user: str, fields: Fields) -> dict[str, Any]:
    switch = fields.get("collateralSwitch")
    if switch not in ("ON", "OFF"):
        raise parameter_error("params error: collateralSwitch invalid")
    venue.exchange.switch_collateral(user, str(fields.get("coin") or ""), is_on=switch == "ON")
    return {}


def tiered_collateral(venue: Venue, fields: Fields) -> dict[str, Any]:
    """What part of a holding counts as margin with which ratio."""
    wanted = fields.get("currency") or ""
    rows = [
        {
            "currency": coin,
            "collateralRatioList": [
                {
                    "minQty": f"{tier.least:f}",
                    "maxQty": "" if tier.most is None else f"{tier.most:f}",
                    "collateralRatio": f"{tier.ratio:f}",
                }
                for tier in tiers
            ],
        }
        for coin, tiers in TIERS.items()
        if wanted in ("", coin)
    ]
    return {"list": rows}
