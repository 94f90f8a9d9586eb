"""``exchangeInfo`` of both products: limits of the venue, and each symbol with its filters."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from trading.simulator.binance.instrument import Instrument

Row = dict[str, Any]
PERPETUAL_DELIVERY_MS = 4_133_404_800_000


def spot(instruments: Iterable[Instrument], weight_limit: int, now_ms: int) -> Row:
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": [
            _limit("REQUEST_WEIGHT", "MINUTE", 1, weight_limit),
            _limit("ORDERS", "SECOND", 10, 100),
            _limit("ORDERS", "DAY", 1, 200_000),
            _limit("RAW_REQUESTS", "MINUTE", 5, 61_000),
        ],
        "exchangeFilters": [],
        "symbols": [_spot_symbol(instrument) for instrument in instruments],
    }


def futures(instruments: Iterable[Instrument], weight_limit: int, now_ms: int) -> Row:
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            _limit("REQUEST_WEIGHT", "MINUTE", 1, weight_limit),
            _limit("ORDERS", "MINUTE", 1, 1_200),
            _limit("ORDERS", "SECOND", 10, 300),
        ],
        "exchangeFilters": [],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [_futures_symbol(instrument) for instrument in instruments],
    }


def _spot_symbol(instrument: Instrument) -> Row:
    rules = instrument.market.rules
    return {
        "symbol": rules.symbol,
        "status": "TRADING",
        "baseAsset": rules.base_coin,
        "baseAssetPrecision": 8,
        "quoteAsset": rules.quote_coin,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": False,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": _padded(rules.min_price),
                "maxPrice": _padded(rules.max_price),
                "tickSize": _padded(rules.tick_size),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": _padded(rules.min_quantity),
                "maxQty": _padded(rules.max_quantity),
                "stepSize": _padded(rules.lot_size),
            },
            {
                "filterType": "MARKET_LOT_SIZE",
                "minQty": _padded(Decimal(0)),
                "maxQty": _padded(rules.max_market_quantity),
                "stepSize": _padded(Decimal(0)),
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": _padded(rules.min_notional),
                "applyMinToMarket": True,
                "maxNotional": "9000000.00000000",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }


def _futures_symbol(instrument: Instrument) -> Row:
    rules, grids = instrument.market.rules, instrument.market.grids
    return {
        "symbol": rules.symbol,
        "pair": rules.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": PERPETUAL_DELIVERY_MS,
        "onboardDate": int(instrument.market.listing.get("launchTime") or 0),
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": rules.base_coin,
        "quoteAsset": rules.quote_coin,
        "marginAsset": rules.settle_coin,
        "pricePrecision": grids.prices.decimals,
        "quantityPrecision": grids.quantities.decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10_000,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": f"{rules.min_price:f}",
                "maxPrice": f"{rules.max_price:f}",
                "tickSize": f"{rules.tick_size:f}",
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": f"{rules.min_quantity:f}",
                "maxQty": f"{rules.max_quantity:f}",
                "stepSize": f"{rules.lot_size:f}",
            },
            {
                "filterType": "MARKET_LOT_SIZE",
                "minQty": f"{rules.min_quantity:f}",
                "maxQty": f"{rules.max_market_quantity:f}",
                "stepSize": f"{rules.lot_size:f}",
            },
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MIN_NOTIONAL", "notional": f"{rules.min_notional:f}"},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": "1.0500",
                "multiplierDown": "0.9500",
                "multiplierDecimal": "4",
            },
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }


def _limit(kind: str, interval: str, number: int, limit: int) -> Row:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _padded(value: Decimal) -> str:
    return f"{value:.8f}"
