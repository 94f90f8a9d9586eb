from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, F, Q, Sum
from django.utils import timezone

from marketdata.models import without_trailing_zeros
from marketdata.selectors import candles
from risk.exposure import IMMEDIATE, Exposure, PendingExposure, PositionExposure, Totals, minus, plus, together
from risk.selectors import totals_asked
from trading.lifecycle import WORKING
from trading.models import Account, Fill, Order, Position
from trading.services.leases import symbol_quote

ZERO = Decimal(0)
NO_PRICES: Mapping[str, Decimal] = MappingProxyType({})
LONGEST_BEFORE_SENDING = timedelta(minutes=1)
_WORKING = sorted(str(state) for state in WORKING)


def account_exposure(account_id: int, prices: Mapping[str, Decimal] = NO_PRICES, *, without: int = 0) -> Exposure:
    """What the account has at stake, from our own books: open positions, and every order that may still fill,
    those of unknown fate included. Intents that nobody approved yet are not at stake: counted here, they would be
    counted against themselves. ``prices``: marks, to value market orders and positions by.

    What others of the user and of the platform have at stake is read only where limits ask for it. ``without``: an
    order that is left out, for its own replacement is to be judged.

    Raises:
        Account.DoesNotExist: there is no such account.
    """
    try:
        return account_exposures([account_id], prices, without=without)[account_id]
    except KeyError:
        raise Account.DoesNotExist(f"there is no account {account_id}") from None


def account_exposures(
    account_ids: Collection[int], prices: Mapping[str, Decimal] = NO_PRICES, *, without: int = 0
) -> dict[int, Exposure]:
    """:func:`account_exposure` of many, with as many questions as for one."""
    accounts = list(Account.objects.select_related("wallet").filter(pk__in=account_ids))
    books = _Books.read([account.pk for account in accounts], prices, without=without)
    asked = totals_asked(accounts)
    exposures, others_of = {}, _OthersOf(prices)
    for account in accounts:
        exposure, levels = _exposure(account, books), asked[account.pk]
        if levels.strategies:
            shares = _shares(account.pk, levels.strategies, exposure, prices, without)
            exposure = replace(exposure, strategies=MappingProxyType(shares))
        if levels.user:
            exposure = replace(exposure, user=others_of.totals(account, same_user=True))
        if levels.platform:
            exposure = replace(exposure, platform=others_of.totals(account, same_user=False))
        exposures[account.pk] = exposure
    return exposures


def _exposure(account: Account, books: _Books) -> Exposure:
    wallet = getattr(account, "wallet", None)
    return Exposure(
        known=account.reconciled_at is not None and wallet is not None,
        equity=wallet.equity if wallet else ZERO,
        available_balance=wallet.available_balance if wallet else ZERO,
        day_pnl=wallet.equity - wallet.day_start_equity if wallet else ZERO,
        day=wallet.day if wallet else None,
        positions=MappingProxyType(books.positions.get(account.pk, {})),
        pending=MappingProxyType(books.pending.get(account.pk, {})),
        open_orders=books.open_orders[account.pk],
        orders_last_second=books.sent_last_second[account.pk],
        wallet_balance=wallet.wallet_balance if wallet else ZERO,
        peak_equity=wallet.peak_equity if wallet else ZERO,
        owner_id=account.owner_id,
    )


class _OthersOf:
    """What all other accounts of a user, or of the platform, have at stake. Read once for all who ask, and only if
    somebody does; summed once too: each is told the sum less its own."""

    def __init__(self, prices: Mapping[str, Decimal]) -> None:
        self._prices = prices
        self._read: dict[tuple[str, str], _Shared] = {}

    def totals(self, account: Account, *, same_user: bool) -> Totals:
        # What is at stake on paper is nothing that real limits have to do with, nor the reverse; nor is play money of
        # another environment.
        kind = account.mode, account.environment
        if kind not in self._read:
            alike = Account.objects.select_related("wallet").filter(mode=kind[0], environment=kind[1])
            rows = list(alike)
            self._read[kind] = _Shared(rows, _Books.read([row.pk for row in rows], self._prices))
        return self._read[kind].without(account, same_user=same_user)


class _Shared:
    """Accounts that count together: what each has at stake, and what all of them, or all of one owner, have."""

    def __init__(self, accounts: list[Account], books: _Books) -> None:
        self._own = {account.pk: _totals([account], books) for account in accounts}
        self._all = plus(self._own.values())
        owners: dict[int, list[Totals]] = defaultdict(list)
        for account in accounts:
            owners[account.owner_id].append(self._own[account.pk])
        self._of_owners = {owner: plus(each) for owner, each in owners.items()}

    def without(self, account: Account, *, same_user: bool) -> Totals:
        whole = self._of_owners.get(account.owner_id, Totals()) if same_user else self._all
        own = self._own.get(account.pk)
        return whole if own is None else minus(whole, own)


def _totals(accounts: list[Account], books: _Books) -> Totals:
    """What several accounts have at stake together. Their equity is their wallets' last."""
    each = [_exposure(account, books) for account in accounts]
    wallets = [account.wallet for account in accounts if hasattr(account, "wallet")]
    return replace(
        together(each),
        equity=sum((wallet.equity for wallet in wallets), ZERO),
        day_start_equity=sum((wallet.day_start_equity for wallet in wallets), ZERO),
        peak_equity=sum((wallet.peak_equity for wallet in wallets), ZERO),
        open_orders=sum(exposure.open_orders for exposure in each),
        orders_last_second=sum(exposure.orders_last_second for exposure in each),
    )


def _shares(
    account_id: int, names: Iterable[str], exposure: Exposure, prices: Mapping[str, Decimal], without: int
) -> dict[str, Totals]:
    """What each named strategy has at stake: positions that it opened, orders that it placed, and what it has made
    today: realised, less fees, and unrealised, what the venue's stops closed included."""
    now = timezone.now()
    working = Order.objects.filter(account_id=account_id).exclude(pk=without)
    counts = {
        row["strategy"]: row
        for row in working.filter(Q(state__in=_WORKING) | Q(sent_at__gt=now - timedelta(seconds=1)))
        .values("strategy")
        .annotate(
            open=Count("pk", filter=Q(state__in=_WORKING)),
            recent=Count("pk", filter=Q(sent_at__gt=now - timedelta(seconds=1))),
        )
    }
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    fills = Fill.objects.filter(account_id=account_id, mode=F("account__mode"), executed_at__gte=midnight)
    made = dict(
        fills.values("strategy").annotate(made=Sum(F("realised_pnl") - F("fee"))).values_list("strategy", "made")
    )
    shares = {}
    for name in names:
        held = {symbol: each for symbol, each in exposure.positions.items() if each.strategy == name}
        pending = _pending([account_id], prices, {account_id: exposure.positions}, without=without, strategy=name)[0]
        share = together([Exposure(positions=held, pending=pending.get(account_id, {}))])
        unrealised = sum((each.unrealised_pnl(each.mark_price) for each in held.values()), ZERO)
        count = counts.get(name, {"open": 0, "recent": 0})
        shares[name] = replace(
            share,
            equity=exposure.equity,
            day_start_equity=exposure.equity - (made.get(name) or ZERO) - unrealised,
            open_orders=count["open"],
            orders_last_second=count["recent"],
        )
    return shares


@dataclass(frozen=True, slots=True)
class _Books:
    """Of several accounts, by account: positions and orders that may still fill, by symbol; how many such orders there
    are; how many were sent in the last second."""

    positions: Mapping[int, Mapping[str, PositionExposure]]
    pending: Mapping[int, Mapping[str, PendingExposure]]
    open_orders: Counter[int]
    sent_last_second: Counter[int]

    @classmethod
    def read(cls, accounts: list[int], prices: Mapping[str, Decimal], without: int = 0) -> _Books:
        positions: dict[int, dict[str, PositionExposure]] = defaultdict(dict)
        for account_id, symbol, side, quantity, entry, mark, leverage, stop, strategy, pk in _rows(
            "SELECT position.account_id, instrument.symbol, side, quantity, entry_price, mark_price, leverage,"
            " stop_loss, strategy, position.id FROM trading_position AS position"
            " JOIN marketdata_instrument AS instrument ON instrument.id = instrument_id"
            " WHERE account_id = ANY(%s) AND state <> %s",
            [accounts, str(Position.State.CLOSED)],
        ):
            price = prices.get(symbol) or mark or entry
            positions[account_id][symbol] = PositionExposure(side, quantity, entry, price, leverage, stop, strategy, pk)
        pending, open_orders = _pending(accounts, prices, positions, without=without)
        # By the time of creation too, which has an index: an account has orders of years.
        now = timezone.now()
        sent = _rows(
            "SELECT account_id, count(*) FROM trading_order"
            " WHERE account_id = ANY(%s) AND created_at > %s AND sent_at > %s GROUP BY account_id",
            [accounts, now - LONGEST_BEFORE_SENDING, now - timedelta(seconds=1)],
        )
        return cls(positions, pending, open_orders, Counter(dict(sent)))


class _MayFill(NamedTuple):
    """An order that may still fill. ``left`` and ``limit`` are the larger of what it is and what an open amendment asks
    for; ``signal_price`` and ``exit_price`` stand in where a market order's symbol has no price anywhere."""

    account_id: int
    symbol: str
    side: str
    order_type: str
    time_in_force: str
    left: Decimal
    limit: Decimal | None
    reduce_only: bool
    stop_loss: Decimal | None
    signal_price: Decimal | None
    exit_price: Decimal | None


def _pending(
    accounts: list[int],
    prices: Mapping[str, Decimal],
    positions: Mapping[int, Mapping[str, PositionExposure]],
    *,
    without: int,
    strategy: str | None = None,
) -> tuple[Mapping[int, Mapping[str, PendingExposure]], Counter[int]]:
    """Orders that may still fill, by account and symbol, and how many there are; of one strategy or of all."""
    pending: dict[int, dict[str, PendingExposure]] = defaultdict(dict)
    counted: Counter[int] = Counter()
    rows = _rows(
        "SELECT placed.account_id, instrument.symbol, placed.side, placed.order_type, placed.time_in_force,"
        " greatest(placed.quantity, placed.replacing_quantity) - placed.filled_quantity,"
        " greatest(placed.price, placed.replacing_price), placed.reduce_only, placed.stop_loss,"
        " coalesce(nullif(signal.reference_price, 0), signal.entry_price),"
        " coalesce(placed.take_profit, placed.stop_loss)"
        " FROM trading_order AS placed JOIN marketdata_instrument AS instrument ON instrument.id = placed.instrument_id"
        " LEFT JOIN strategies_signal AS signal ON signal.id = placed.signal_id"
        " WHERE placed.account_id = ANY(%s) AND placed.state = ANY(%s) AND placed.id <> %s"
        " AND (%s::text IS NULL OR placed.strategy = %s)",
        [accounts, _WORKING, without, strategy, strategy],
    )
    if strategy is None:
        # Flagged at the venue, not ours, belonging to no strategy: it fills like any other.
        rows += _rows(
            "SELECT account_id, instrument.symbol, side, order_type, time_in_force, quantity - filled_quantity, price,"
            " reduce_only, NULL, NULL, NULL FROM trading_foreignorder AS seen"
            " JOIN trading_account AS account ON account.id = account_id AND account.mode = seen.mode"
            " JOIN marketdata_instrument AS instrument ON instrument.id = instrument_id"
            " WHERE account_id = ANY(%s) AND gone_at IS NULL",
            [accounts],
        )
    for order in map(_MayFill._make, rows):
        counted[order.account_id] += 1
        before = pending[order.account_id].get(order.symbol, PendingExposure())
        if order.reduce_only:
            immediate = order.order_type == Order.OrderType.MARKET or order.time_in_force in IMMEDIATE
            after = before.plus_reducing(order.side, order.left, immediate=immediate)
        else:
            held = positions.get(order.account_id, {}).get(order.symbol)
            known = order.limit or prices.get(order.symbol)
            price = known or (held.mark_price if held else _price_elsewhere(order))
            after = before.plus(order.side, order.left, price, order.stop_loss)
        pending[order.account_id][order.symbol] = after
    return pending, counted


def _rows(question: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Asked as it is written here: making it from models costs several times what the answer does, and this is asked
    after every report."""
    with connection.cursor() as cursor:
        cursor.execute(question, parameters)
        return [
            tuple(without_trailing_zeros(each) if isinstance(each, Decimal) else each for each in row)
            for row in cursor.fetchall()
        ]


def _price_elsewhere(order: _MayFill) -> Decimal:
    """What values a market order in a symbol that has no price here: another engine follows it, or nobody does. At
    nothing, an order of unknown fate would not count."""
    quote = symbol_quote(order.symbol)
    if quote is not None and quote.price is not None:
        return quote.price
    if order.signal_price is not None:
        return order.signal_price
    newest = candles(order.symbol, "1", 1)
    if newest:
        return newest[0].close
    return order.exit_price or ZERO
