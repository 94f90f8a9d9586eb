"""The names of all features, in the order of their rows: formula, unit, range and source of each.

Plain Python: who only wants to name a feature does not load the compiler. The values come from
``marketdata.engine.features``, one definition live and offline.

All come from one proven book and the trades of its symbol. NaN means "not known": a side is empty, a window has not
been seen whole, nothing was traded. Windows are of the venue's time, in whole seconds: one of ten seconds is the
running second and the nine before it. A sum of a younger book covers what was seen.
"""

from __future__ import annotations

from dataclasses import dataclass

DEPTHS = (1, 5, 10, 25, 50)
BAND_NAMES = ("1_5", "3", "5", "8", "15", "30")
BAND_PERCENT = (1.5, 3.0, 5.0, 8.0, 15.0, 30.0)
IMPACT_NOTIONAL = 50_000.0

BOOK = "order book"
TRADES = "trades"
BOOK_AND_TRADES = "order book, trades"
OTHER_BOOKS = "order books of other symbols"


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    name: str
    formula: str
    unit: str
    range: str
    source: str


def _table() -> tuple[FeatureSpec, ...]:
    rows = [
        ("best_bid", "highest bid", "quote", "> 0", BOOK),
        ("best_ask", "lowest ask", "quote", "> best_bid", BOOK),
        ("mid", "(best_bid + best_ask) / 2", "quote", "> 0", BOOK),
        ("spread", "best_ask - best_bid", "quote", "> 0", BOOK),
        ("spread_ticks", "spread / tick size", "ticks", ">= 1", BOOK),
        ("spread_relative", "spread / mid", "1", "> 0", BOOK),
        ("microprice", "(bid * ask_qty + ask * bid_qty) / (bid_qty + ask_qty)", "quote", "best_bid to best_ask", BOOK),
        ("microprice_lean", "2 * (microprice - mid) / spread", "1", "-1 to 1", BOOK),
        ("levels_bid", "number of known bid levels", "levels", ">= 0", BOOK),
        ("levels_ask", "number of known ask levels", "levels", ">= 0", BOOK),
    ]
    for depth in DEPTHS:
        rows += [
            (f"depth_bid_{depth}", f"quantity of the best {depth} bids", "base", ">= 0", BOOK),
            (f"depth_ask_{depth}", f"quantity of the best {depth} asks", "base", ">= 0", BOOK),
            (
                f"imbalance_{depth}",
                f"(depth_bid_{depth} - depth_ask_{depth}) / (depth_bid_{depth} + depth_ask_{depth})",
                "1",
                "-1 to 1",
                BOOK,
            ),
            (f"vwap_bid_{depth}", f"quantity-weighted price of the best {depth} bids", "quote", "> 0", BOOK),
            (f"vwap_ask_{depth}", f"quantity-weighted price of the best {depth} asks", "quote", "> 0", BOOK),
        ]
    for name, percent in zip(BAND_NAMES, BAND_PERCENT, strict=True):
        rows += [
            (f"band_bid_{name}", f"known bids at or above best_bid * (1 - {percent:g} %)", "base", ">= 0", BOOK),
            (f"band_ask_{name}", f"known asks at or below best_ask * (1 + {percent:g} %)", "base", ">= 0", BOOK),
            (
                f"band_imbalance_{name}",
                f"(band_bid_{name} - band_ask_{name}) / (band_bid_{name} + band_ask_{name})",
                "1",
                "-1 to 1",
                BOOK,
            ),
        ]
    rows += [
        ("reach_bid", "how far below best_bid every level is known", "fraction of best_bid", "0 to 1", BOOK),
        ("reach_ask", "how far above best_ask every level is known; inf: all", "fraction of best_ask", ">= 0", BOOK),
        ("slope_bid", "depth_bid_50 / distance of its last level from best_bid", "base per bp", "> 0", BOOK),
        ("slope_ask", "depth_ask_50 / distance of its last level from best_ask", "base per bp", "> 0", BOOK),
        (
            "impact_buy",
            f"mean price of buying {IMPACT_NOTIONAL:,.0f} from the best 50 asks, above mid",
            "bp",
            "> 0",
            BOOK,
        ),
        (
            "impact_sell",
            f"mean price of selling {IMPACT_NOTIONAL:,.0f} to the best 50 bids, below mid",
            "bp",
            "> 0",
            BOOK,
        ),
        ("wall_distance_bid", "distance from best_bid of the largest of the best 50 bids", "bp", ">= 0", BOOK),
        ("wall_distance_ask", "distance from best_ask of the largest of the best 50 asks", "bp", ">= 0", BOOK),
        ("wall_share_bid", "the largest of the best 50 bids / depth_bid_50", "1", "0 to 1", BOOK),
        ("wall_share_ask", "the largest of the best 50 asks / depth_ask_50", "1", "0 to 1", BOOK),
        (
            "order_flow_imbalance",
            "change of best-level quantities since the message before, 0 for a snapshot (Cont, Kukanov, Stoikov 2014)",
            "base",
            "any",
            BOOK,
        ),
        ("order_flow_imbalance_5", "the same, summed over the best 5 levels, rank by rank", "base", "any", BOOK),
        ("order_flow_imbalance_10", "the same, summed over the best 10 levels, rank by rank", "base", "any", BOOK),
        ("order_flow_1s", "sum of order_flow_imbalance over the running second", "base", "any", BOOK),
        ("order_flow_10s", "the same over 10 s", "base", "any", BOOK),
        ("order_flow_60s", "the same over 60 s", "base", "any", BOOK),
        ("price_pressure", "order_flow_10s / (depth_bid_5 + depth_ask_5)", "1", "any", BOOK),
        ("imbalance_fast", "exponential mean of imbalance_5, time constant 1 s", "1", "-1 to 1", BOOK),
        ("imbalance_slow", "exponential mean of imbalance_5, time constant 10 s", "1", "-1 to 1", BOOK),
        ("imbalance_turn", "imbalance_fast - imbalance_slow", "1", "-2 to 2", BOOK),
        ("spread_mean", "exponential mean of spread_relative, time constant 60 s", "1", "> 0", BOOK),
        ("spread_ratio", "spread_relative / spread_mean", "1", "> 0", BOOK),
        ("return_1s", "mid / the last mid of the second before - 1", "1", "> -1", BOOK),
        ("return_10s", "mid / the last mid 10 seconds before - 1", "1", "> -1", BOOK),
        ("return_60s", "mid / the last mid 60 seconds before - 1", "1", "> -1", BOOK),
        ("acceleration", "return_1s - the return of the second before", "1", "any", BOOK),
        ("volatility_10s", "sample standard deviation of the last 10 whole-second log returns", "1", ">= 0", BOOK),
        ("volatility_60s", "sample standard deviation of the last 60 whole-second log returns", "1", ">= 0", BOOK),
        ("volatility_300s", "sample standard deviation of the last 300 whole-second log returns", "1", ">= 0", BOOK),
        ("return_mean_60s", "mean of the last 60 whole-second log returns", "1", "any", BOOK),
        ("return_skew_300s", "skewness of the last 300 whole-second log returns", "1", "any", BOOK),
        (
            "noise_60s",
            "- covariance of successive whole-second log returns over 60 s, about their mean (Roll 1984: half spread"
            " squared)",
            "1",
            "any",
            BOOK,
        ),
        ("bought_10s", "traded by buyers over 10 s", "base", ">= 0", TRADES),
        ("sold_10s", "traded by sellers over 10 s", "base", ">= 0", TRADES),
        ("volume_delta_1s", "bought - sold in the running second", "base", "any", TRADES),
        ("volume_delta_10s", "bought - sold over 10 s", "base", "any", TRADES),
        ("volume_delta_60s", "bought - sold over 60 s", "base", "any", TRADES),
        ("trade_imbalance_10s", "(bought - sold) / (bought + sold) over 10 s", "1", "-1 to 1", TRADES),
        ("trade_imbalance_60s", "(bought - sold) / (bought + sold) over 60 s", "1", "-1 to 1", TRADES),
        ("trades_10s", "number of trades over 10 s", "trades", ">= 0", TRADES),
        ("trade_vwap_60s", "quantity-weighted price of the trades of 60 s", "quote", "> 0", TRADES),
        ("trade_vwap_distance", "mid / trade_vwap_60s - 1", "1", "> -1", BOOK_AND_TRADES),
        (
            "toxicity",
            "mean of |bought - sold| / (bought + sold) over the last 50 buckets of equal volume, at least 10; each is a"
            " fiftieth of what 300 s trade, at the rate seen in the 300 s up to its first trade"
            " (VPIN: Easley, Lopez de Prado, O'Hara 2012)",
            "1",
            "0 to 1",
            TRADES,
        ),
        ("added_10s", "levels that appeared over 10 s, snapshots apart", "levels", ">= 0", BOOK),
        ("removed_10s", "levels that vanished over 10 s, snapshots apart", "levels", ">= 0", BOOK),
        ("updates_10s", "messages of the book over 10 s", "messages", ">= 1", BOOK),
        (
            "lifetime_bid_60s",
            "mean life of bids that vanished in 60 s and were seen to appear, near the price (within the window)",
            "s",
            ">= 0",
            BOOK,
        ),
        (
            "lifetime_ask_60s",
            "mean life of asks that vanished in 60 s and were seen to appear, near the price (within the window)",
            "s",
            ">= 0",
            BOOK,
        ),
        ("venue_spread", "mid / mid of the same instrument at the other venue - 1", "1", "> -1", OTHER_BOOKS),
        (
            "reference_correlation_60s",
            "correlation of the last 60 whole-second log returns with the reference symbol's",
            "1",
            "-1 to 1",
            OTHER_BOOKS,
        ),
        (
            "reference_correlation_300s",
            "correlation of the last 300 whole-second log returns with the reference symbol's",
            "1",
            "-1 to 1",
            OTHER_BOOKS,
        ),
    ]
    return tuple(FeatureSpec(*row) for row in rows)


FEATURES = _table()
_INDEX = {spec.name: index for index, spec in enumerate(FEATURES)}


def feature_index(name: str) -> int:
    """Where a feature stands in the rows. KeyError names those that exist."""
    try:
        return _INDEX[name]
    except KeyError:
        raise KeyError(f"no feature {name!r}; there are {', '.join(_INDEX)}") from None
