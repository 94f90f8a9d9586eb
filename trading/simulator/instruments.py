"""The contracts that the simulator lists by itself, with the grids and limits of their models at Bybit."""

from __future__ import annotations

import math
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
        """A million lots, or however many are worth about two million USD."""
        lots_needed = 2_000_000 / float(self.price * self.lot_size)
        return self.lot_size * 10 ** max(6, math.ceil(math.log10(lots_needed)))

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

    def spot_listing(self) -> dict[str, Any]:
        """The row of its coin's spot market: the same ticks, finer lots."""
        lot = self.lot_size / 10
        return {
            "symbol": self.symbol,
            "baseCoin": self.base_coin,
            "quoteCoin": "USDT",
            "innovation": "0",
            "status": "Trading",
            "marginTrading": "none",
            "stTag": "0",
            "lotSizeFilter": {
                "basePrecision": f"{lot:f}",
                "quotePrecision": "0.0000001",
                "minOrderQty": f"{lot:f}",
                "maxOrderQty": f"{self.max_quantity:f}",
                "minOrderAmt": f"{self.min_notional:f}",
                "maxOrderAmt": "8000000",
                "maxLimitOrderQty": f"{self.max_quantity:f}",
                "maxMarketOrderQty": f"{self.max_quantity / 5:f}",
                "postOnlyMaxLimitOrderSize": f"{self.max_quantity:f}",
            },
            "priceFilter": {"tickSize": f"{self.tick_size:f}"},
            "riskParameters": {"priceLimitRatioX": "0.05", "priceLimitRatioY": "0.1"},
            "symbolType": "",
        }


def _instrument(
    base: str, price: str, tick: str, lot: str, leverage: int, volatility: float, level_value: float
) -> SimulatedInstrument:
    return SimulatedInstrument(
        f"{base}USDT", base, Decimal(price), Decimal(tick), Decimal(lot), Decimal(leverage), volatility, level_value
    )


# How many a simulator lists unless it is told otherwise.
DEFAULT_SYMBOLS = 20
_LISTED: tuple[SimulatedInstrument, ...] = (
    _instrument("BTC", "65114.2", "0.1", "0.001", 100, 0.00045, 9_000),
    _instrument("ETH", "3421.55", "0.01", "0.01", 100, 0.0009, 7_000),
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
    _instrument("TON", "3.1240", "0.0001", "0.1", 50, 0.0008, 3_000),
    _instrument("HYPE", "38.415", "0.001", "0.01", 75, 0.0012, 5_000),
    _instrument("AAVE", "268.40", "0.01", "0.01", 75, 0.0010, 3_500),
    _instrument("UNI", "9.4150", "0.001", "0.1", 50, 0.0010, 3_000),
    _instrument("ETC", "20.845", "0.001", "0.1", 50, 0.0008, 3_000),
    _instrument("FIL", "2.3645", "0.0001", "0.1", 25, 0.0009, 2_500),
    _instrument("XLM", "0.38214", "0.00001", "1", 50, 0.0009, 3_500),
    _instrument("HBAR", "0.23415", "0.00001", "1", 50, 0.0010, 3_000),
    _instrument("ICP", "5.2340", "0.001", "0.1", 50, 0.0009, 2_500),
    _instrument("VET", "0.023415", "0.000001", "1", 25, 0.0010, 2_000),
    _instrument("ALGO", "0.24105", "0.00001", "0.1", 50, 0.0009, 2_500),
    _instrument("XTZ", "0.7815", "0.0001", "0.1", 50, 0.0008, 2_000),
    _instrument("EGLD", "14.252", "0.001", "0.01", 50, 0.0009, 1_500),
    _instrument("THETA", "0.81240", "0.00001", "0.1", 50, 0.0010, 2_000),
    _instrument("AXS", "2.3815", "0.0001", "0.1", 50, 0.0010, 2_000),
    _instrument("SAND", "0.28145", "0.00001", "1", 50, 0.0010, 2_500),
    _instrument("MANA", "0.30125", "0.00001", "0.1", 25, 0.0010, 2_000),
    _instrument("GALA", "0.016845", "0.000001", "1", 50, 0.0011, 2_500),
    _instrument("CHZ", "0.04120", "0.00001", "1", 25, 0.0009, 2_000),
    _instrument("CRV", "0.8145", "0.0001", "0.1", 75, 0.0012, 3_000),
    _instrument("COMP", "46.820", "0.001", "0.01", 50, 0.0010, 1_500),
    _instrument("SNX", "0.6520", "0.0001", "0.1", 25, 0.0012, 1_500),
    _instrument("LDO", "1.1240", "0.0001", "0.1", 50, 0.0013, 2_500),
    _instrument("DYDX", "0.61240", "0.00001", "0.1", 50, 0.0012, 2_000),
    _instrument("GMX", "14.815", "0.001", "0.01", 20, 0.0010, 1_500),
    _instrument("ENS", "23.415", "0.001", "0.1", 50, 0.0011, 2_000),
    _instrument("STX", "0.7240", "0.0001", "0.1", 50, 0.0011, 2_000),
    _instrument("IMX", "0.54120", "0.00001", "0.1", 50, 0.0011, 2_000),
    _instrument("RUNE", "1.3425", "0.0001", "0.1", 25, 0.0012, 2_000),
    _instrument("KAVA", "0.38140", "0.00001", "0.1", 25, 0.0009, 1_200),
    _instrument("SEI", "0.30415", "0.00001", "1", 50, 0.0012, 3_000),
    _instrument("TIA", "1.7425", "0.0001", "0.1", 50, 0.0013, 3_000),
    _instrument("JUP", "0.51240", "0.00001", "1", 50, 0.0013, 2_500),
    _instrument("JTO", "1.8145", "0.0001", "0.1", 50, 0.0013, 2_000),
    _instrument("PYTH", "0.11845", "0.00001", "1", 50, 0.0013, 2_000),
    _instrument("WIF", "0.91240", "0.00001", "1", 50, 0.0016, 3_500),
    _instrument("ORDI", "9.1240", "0.001", "0.01", 50, 0.0014, 2_500),
    _instrument("STRK", "0.12845", "0.00001", "0.1", 50, 0.0013, 2_000),
    _instrument("DYM", "0.241050", "0.000001", "0.1", 25, 0.0014, 1_500),
    _instrument("ENA", "0.62145", "0.00001", "1", 50, 0.0015, 3_500),
    _instrument("W", "0.081240", "0.000001", "0.1", 50, 0.0013, 1_500),
    _instrument("ONDO", "0.9240", "0.0001", "1", 50, 0.0012, 2_500),
    _instrument("PENDLE", "4.5120", "0.0001", "1", 50, 0.0013, 2_500),
    _instrument("ETHFI", "1.1245", "0.0001", "0.1", 25, 0.0014, 2_000),
    _instrument("EIGEN", "1.24150", "0.00001", "1", 50, 0.0014, 2_000),
    _instrument("ZRO", "1.9145", "0.0001", "0.1", 50, 0.0013, 1_500),
    _instrument("ZK", "0.056120", "0.000001", "0.1", 25, 0.0013, 1_500),
    _instrument("NOT", "0.0018240", "0.0000001", "10", 25, 0.0014, 1_500),
    _instrument("POPCAT", "0.29145", "0.00001", "1", 50, 0.0017, 2_000),
    _instrument("MEW", "0.0028140", "0.0000001", "100", 25, 0.0017, 1_500),
    _instrument("BOME", "0.0018445", "0.0000001", "100", 25, 0.0016, 1_500),
    _instrument("TRUMP", "8.9240", "0.001", "0.1", 50, 0.0013, 3_000),
    _instrument("FARTCOIN", "1.04150", "0.00001", "1", 50, 0.0020, 3_000),
    _instrument("PNUT", "0.24120", "0.00001", "1", 50, 0.0017, 2_000),
    _instrument("MOODENG", "0.16240", "0.00001", "1", 50, 0.0018, 2_000),
    _instrument("VIRTUAL", "1.2845", "0.0001", "1", 50, 0.0017, 2_500),
    _instrument("GRASS", "0.91245", "0.00001", "1", 25, 0.0015, 1_500),
    _instrument("TAO", "352.40", "0.01", "0.001", 50, 0.0012, 3_500),
    _instrument("RENDER", "3.6240", "0.0001", "0.1", 50, 0.0012, 2_500),
    _instrument("GRT", "0.09415", "0.00001", "0.1", 25, 0.0010, 2_000),
    _instrument("AR", "6.8145", "0.0001", "0.1", 25, 0.0012, 1_500),
    _instrument("WLD", "1.0425", "0.0001", "0.1", 50, 0.0014, 3_500),
    _instrument("ARKM", "0.52140", "0.00001", "1", 50, 0.0014, 1_500),
    _instrument("BLUR", "0.078450", "0.000001", "1", 25, 0.0013, 1_500),
    _instrument("MASK", "1.2415", "0.0001", "0.1", 25, 0.0013, 1_500),
    _instrument("MINA", "0.17845", "0.00001", "0.1", 25, 0.0010, 1_200),
    _instrument("NEO", "6.1240", "0.001", "0.01", 50, 0.0008, 2_000),
    _instrument("ZEC", "58.420", "0.01", "0.01", 50, 0.0012, 3_000),
    _instrument("DASH", "21.84", "0.01", "0.01", 50, 0.0009, 2_000),
    _instrument("XMR", "268.45", "0.01", "0.01", 50, 0.0007, 3_000),
    _instrument("KSM", "15.124", "0.001", "0.01", 25, 0.0009, 1_200),
    _instrument("IOTA", "0.19240", "0.00001", "0.1", 25, 0.0009, 1_500),
    _instrument("QTUM", "2.1245", "0.0001", "0.1", 25, 0.0008, 1_200),
    _instrument("ZIL", "0.011845", "0.000001", "10", 25, 0.0009, 1_500),
    _instrument("1INCH", "0.24815", "0.00001", "0.1", 25, 0.0010, 1_500),
    _instrument("SUSHI", "0.78140", "0.00001", "0.1", 25, 0.0012, 1_500),
    _instrument("YFI", "5412", "1", "0.0001", 25, 0.0009, 1_500),
    _instrument("PAXG", "3352.4", "0.1", "0.001", 75, 0.0002, 5_000),
    _instrument("KAS", "0.09245", "0.00001", "10", 50, 0.0011, 2_000),
    _instrument("PEOPLE", "0.018240", "0.000001", "1", 25, 0.0014, 1_500),
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
