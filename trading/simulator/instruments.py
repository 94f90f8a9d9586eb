"""The contracts that the simulator lists by itself, with the grids and limits of their models at Bybit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from marketdata.engine.grid import Grid


@dataclass(frozen=True, slots=True)
class SimulatedInstrument:
    """``volatility`` is the standard deviation of a minute's return (as a fraction); ``level_value`` the typical USD
    resting on one level near the market."""

    symbol: str
    base_coin: str
    price: Decimal
    tick_size: Decimal
    lot_size: Decimal
    max_leverage: Decimal
    volatility: float
    level_value: float
    min_notional: Decimal = Decimal(5)
    symbol_id: int = 0

    @property
    def max_quantity(self) -> Decimal:
        return self.lot_size * 1_000_000

    def listing(self) -> dict[str, Any]:
        """Its row of ``/v5/market/instruments-info``."""
        decimals = max(0, -int(self.tick_size.normalize().as_tuple().exponent))
        return {
            "symbol": self.symbol,
            "contractType": "LinearPerpetual",
            "status": "Trading",
            "baseCoin": self.base_coin,
            "quoteCoin": "USDT",
            "settleCoin": "USDT",
            "launchTime": "1585526400000",
            "deliveryTime": "0",
            "deliveryFeeRate": "",
            "priceScale": str(decimals),
            "leverageFilter": {"minLeverage": "1", "maxLeverage": f"{self.max_leverage}.00", "leverageStep": "0.01"},
            "priceFilter": {
                "minPrice": f"{self.tick_size:f}",
                "maxPrice": f"{self.tick_size * 20_000_000:f}",
                "tickSize": f"{self.tick_size:f}",
            },
            "lotSizeFilter": {
                "maxOrderQty": f"{self.max_quantity:f}",
                "minOrderQty": f"{self.lot_size:f}",
                "qtyStep": f"{self.lot_size:f}",
                "postOnlyMaxOrderQty": f"{self.max_quantity:f}",
                "maxMktOrderQty": f"{self.max_quantity / 5:f}",
                "minNotionalValue": f"{self.min_notional:f}",
            },
            "unifiedMarginTrade": True,
            "fundingInterval": 480,
            "copyTrading": "none",
            "upperFundingRate": "0.005",
            "lowerFundingRate": "-0.005",
            "isPreListing": False,
            "preListingInfo": None,
            "riskParameters": {"priceLimitRatioX": "0.05", "priceLimitRatioY": "0.1"},
            "displayName": "",
            "symbolType": "",
            "forbidUplWithdrawal": False,
            "symbolId": self.symbol_id,
        }


def _instrument(
    base: str, price: str, tick: str, lot: str, leverage: int, volatility: float, level_value: float
) -> SimulatedInstrument:
    return SimulatedInstrument(
        f"{base}USDT", base, Decimal(price), Decimal(tick), Decimal(lot), Decimal(leverage), volatility, level_value
    )


_LISTED: tuple[SimulatedInstrument, ...] = (
    _instrument("BTC", "65114.2", "0.1", "0.001", 100, 0.00045, 9_000),
    _instrument("ETH", "3421.55", "0.01", "0.01", 100, 0.00055, 7_000),
    _instrument("SOL", "152.31", "0.01", "0.1", 100, 0.0008, 9_000),
    _instrument("XRP", "0.6183", "0.0001", "0.1", 75, 0.0007, 8_000),
    _instrument("DOGE", "0.12045", "0.00001", "1", 75, 0.0009, 6_000),
    _instrument("BNB", "583.10", "0.1", "0.01", 75, 0.0005, 9_000),
    _instrument("ADA", "0.3812", "0.0001", "1", 75, 0.0008, 5_000),
    _instrument("AVAX", "26.345", "0.001", "0.1", 50, 0.0009, 3_000),
    _instrument("LINK", "13.226", "0.001", "0.1", 50, 0.0009, 3_000),
    _instrument("DOT", "5.4820", "0.0005", "0.1", 50, 0.0008, 3_500),
    _instrument("LTC", "71.42", "0.01", "0.1", 50, 0.0007, 4_000),
    _instrument("TRX", "0.16341", "0.00001", "1", 50, 0.0005, 3_000),
    _instrument("BCH", "352.45", "0.05", "0.01", 50, 0.0008, 4_500),
    _instrument("NEAR", "4.1230", "0.001", "0.1", 50, 0.0010, 3_500),
    _instrument("APT", "6.8125", "0.0005", "0.01", 50, 0.0010, 2_500),
    _instrument("ARB", "0.5527", "0.0001", "0.1", 50, 0.0010, 3_500),
    _instrument("OP", "1.5128", "0.0001", "0.1", 50, 0.0010, 2_500),
    _instrument("SUI", "0.9174", "0.0001", "10", 50, 0.0012, 3_500),
    _instrument("INJ", "20.118", "0.001", "0.1", 50, 0.0011, 2_500),
    _instrument("ATOM", "4.4015", "0.0005", "0.1", 50, 0.0009, 2_500),
)
INSTRUMENTS: tuple[SimulatedInstrument, ...] = tuple(
    replace(each, symbol_id=number) for number, each in enumerate(_LISTED, start=1)
)


@dataclass(frozen=True, slots=True)
class Grids:
    """An instrument's prices and quantities as integers."""

    prices: Grid
    quantities: Grid

    @classmethod
    def of(cls, tick_size: Decimal, lot_size: Decimal) -> Grids:
        return cls(Grid(tick_size), Grid(lot_size))
