from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from audit.admin import AuditEventAdmin, ReadOnlyAdmin, TracedAdmin, trace_links
from audit.models import AuditEvent
from trading.credentials import CredentialsError
from trading.models import (
    Account,
    AccountReconciliation,
    CoinBalance,
    DeadManWatch,
    Discrepancy,
    Fill,
    ForeignOrder,
    KillSwitch,
    KillSwitchTask,
    LedgerEntry,
    Membership,
    Mode,
    Order,
    OrderAmendment,
    OrderTransition,
    Position,
    ReconciliationRun,
)
from trading.permissions import may_manage, may_operate_platform, may_trade
from trading.selectors import books_of, visible_events
from trading.services.account_modes import ModeRefused, account_mode_set
from trading.services.accounts import (
    account_create,
    account_halt,
    account_keys_replace,
    account_live_opt_in_set,
    account_resume,
    membership_grant,
    membership_revoke,
)
from trading.services.kill_switch import KillSwitchRefused, dead_man_set, kill_switch_engage, kill_switch_rearm
from trading.services.ledger import coin_balance_accept
from trading.services.loss_alarms import peak_equity_reset
from trading.services.orders import OrderNotCancellable, order_cancel_request
from trading.services.reconciliations import discrepancy_resolve, foreign_orders_set, reconciliation_request

CONFIRM = "admin/account_mode.html"


class AccountForm(forms.ModelForm):
    """Keys go in and never come out: empty fields leave what is stored."""

    api_key = forms.CharField(required=False, help_text="empty: keep the stored one")
    api_secret = forms.CharField(
        required=False, widget=forms.PasswordInput, help_text="never shown again; empty: keep the stored one"
    )

    class Meta:
        model = Account
        fields = ("name", "owner", "venue", "environment", "live_opt_in")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        given = [bool(values.get("api_key")), bool(values.get("api_secret"))]
        if any(given) and not all(given):
            raise forms.ValidationError("Give the key and the secret together; one without the other cannot sign.")
        begins_on_paper = values.get("environment") != Account.Environment.SIMULATOR
        if self.instance.pk is None and not all(given) and not begins_on_paper:
            raise forms.ValidationError("A new account needs its key and its secret.")
        return values


def badge(account: Account) -> SafeString:
    """The label that goes with the account's name."""
    title = f"real venue: {account.venue} ({account.environment})"
    return render_to_string("account_badge.html", {"badge": account.badge, "title": title})


class BooksFilter(admin.SimpleListFilter):
    """Without a choice: the books of the mode that each account is in."""

    title, parameter_name = "books", "books"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("paper", "paper"), ("real", "real"), ("all", "both")]

    def choices(self, changelist: Any) -> Iterator[Any]:
        choices = super().choices(changelist)
        next(choices)
        chosen = self.value() is None
        yield {"selected": chosen, "query_string": changelist.get_query_string(remove=["books"]), "display": "now"}
        yield from choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset if chosen == "all" else books_of(queryset, chosen)


class BooksAdmin(admin.ModelAdmin):
    """Rows that belong to the books of one mode."""

    class Media:
        css: ClassVar = {"all": ("css/badge.css",)}

    @admin.display(description="books", ordering="mode")
    def books(self, row: Any) -> SafeString:
        word = "PAPER" if row.mode == Mode.PAPER else row.account.environment.upper()
        return render_to_string("account_badge.html", {"badge": word, "title": f"made {row.mode}"})


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)


@admin.register(Account)
class AccountAdmin(admin.ModelAdmin):
    class Media:
        css: ClassVar = {"all": ("css/badge.css",)}

    list_display = ("name", "where", "environment", "owner", "trading_state", "halt_reason", "reconciled_at")
    list_filter = ("mode", "environment", "trading_state")
    search_fields = ("name", "owner__username")
    form = AccountForm
    inlines = (MembershipInline,)
    actions = ("halt", "resume", "stop", "measure_anew", "reconcile", "trade_on_paper", "trade_for_real")
    autocomplete_fields = ("owner",)

    @admin.display(description="trades", ordering="mode")
    def where(self, account: Account) -> SafeString:
        return badge(account)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        state = ("trading_state", "halt_reason", "reconciled_at") if obj is not None else ()
        if obj is not None:
            return ("name", "where", "owner", "venue", "environment", "live_opt_in", "api_key", "api_secret", *state)
        return ("name", "owner", "venue", "environment", "live_opt_in", "api_key", "api_secret", *state)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fixed = ("name", "owner", "venue", "environment") if obj is not None else ()
        return (*fixed, "where", "trading_state", "halt_reason", "reconciled_at")

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        actor, values = request.user.get_username(), form.cleaned_data
        keys = {"api_key": values["api_key"], "api_secret": values["api_secret"]}
        try:
            if not change:
                created = account_create(
                    owner=obj.owner,
                    name=obj.name,
                    environment=obj.environment,
                    venue=obj.venue,
                    actor=actor,
                    **keys,
                )
                obj.pk, obj._state.adding = created.pk, False
            elif keys["api_key"]:
                account_keys_replace(account=obj, actor=actor, **keys)
            if "live_opt_in" in form.changed_data:
                account_live_opt_in_set(account=obj, opted_in=values["live_opt_in"], actor=actor)
        except CredentialsError as error:
            self.message_user(request, str(error), messages.ERROR)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        actor = request.user.get_username()
        formset.save(commit=False)
        for membership, fields in formset.changed_objects:
            if "user" in fields:
                # Another person in the same row: whoever it was before has no access any more.
                previous = Membership.objects.select_related("user").get(pk=membership.pk)
                membership_revoke(account=form.instance, user=previous.user, actor=actor)
        for membership in [*formset.new_objects, *(changed for changed, _ in formset.changed_objects)]:
            membership_grant(account=form.instance, user=membership.user, role=membership.role, actor=actor)
        for membership in formset.deleted_objects:
            membership_revoke(account=form.instance, user=membership.user, actor=actor)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Its orders, fills and trail stay for ever; halt it instead. Memberships are the exception.
        return False

    @admin.action(description="Halt: only orders that reduce a position pass", permissions=["change"])
    def halt(self, request: HttpRequest, rows: QuerySet[Account]) -> None:
        for account in rows:
            account_halt(account=account, actor=request.user.get_username(), reason="halted in the admin")

    @admin.action(description="Resume trading", permissions=["change"])
    def resume(self, request: HttpRequest, rows: QuerySet[Account]) -> None:
        for account in rows:
            account_resume(account=account, actor=request.user.get_username())

    @admin.action(description="Measure the drawdown from today's equity on", permissions=["change"])
    def measure_anew(self, request: HttpRequest, rows: QuerySet[Account]) -> None:
        for account in rows:
            if not may_manage(request.user, account):
                self.message_user(request, f"only a manager of {account} may do that", messages.ERROR)
                continue
            wallet = peak_equity_reset(account=account, actor=request.user.get_username())
            told = "nothing is known of its equity yet" if wallet is None else f"its peak is {wallet.peak_equity:.2f}"
            self.message_user(request, f"{account}: {told}")

    @admin.action(description="Compare with the exchange now", permissions=["view"])
    def reconcile(self, request: HttpRequest, rows: QuerySet[Account]) -> None:
        for account in rows:
            if not may_trade(request.user, account):
                self.message_user(request, f"only a trader of {account} may have it compared", messages.ERROR)
                continue
            reconciliation_request(account=account, actor=request.user.get_username())
            self.message_user(request, f"{account} is being compared; the outcome is among the reconciliation runs")

    @admin.action(description="KILL SWITCH: cancel all orders, close all positions, stop", permissions=["change"])
    def stop(self, request: HttpRequest, rows: QuerySet[Account]) -> None:
        for account in rows:
            if not may_trade(request.user, account):
                self.message_user(request, f"you may not stop {account}", messages.ERROR)
                continue
            kill_switch_engage(account=account, actor=request.user.get_username(), reason="stopped in the admin")
            self.message_user(request, f"{account} is stopped; its orders and positions are being closed")

    @admin.action(description="PAPER: simulated fills from now on", permissions=["change"])
    def trade_on_paper(self, request: HttpRequest, rows: QuerySet[Account]) -> None:
        for account in rows:
            self._switch(request, account, Mode.PAPER, "")

    @admin.action(description="REAL: trade at the venue from now on …", permissions=["change"])
    def trade_for_real(self, request: HttpRequest, rows: QuerySet[Account]) -> HttpResponse | None:
        if rows.count() != 1:
            self.message_user(request, "Choose one account: each is confirmed by its own name.", messages.ERROR)
            return None
        account, refusal = rows.get(), ""
        if "confirming" in request.POST:
            refusal = self._switch(request, account, Mode.REAL, request.POST.get("confirm_name", ""))
            if not refusal:
                return None
        context = {**admin.site.each_context(request), "title": "Trade for real", "account": account}
        return TemplateResponse(request, CONFIRM, {**context, "refusal": refusal, "opts": self.opts})

    def _switch(self, request: HttpRequest, account: Account, mode: str, name: str) -> str:
        """Why it was not switched; nothing when it was."""
        refusal = f"only a manager of {account} may switch it"
        if may_manage(request.user, account):
            try:
                actor = request.user.get_username()
                switched = account_mode_set(account=account, mode=mode, confirm_name=name, actor=actor)
                self.message_user(request, f"{switched}: from now on")
                return ""
            except (CredentialsError, ModeRefused) as error:
                refusal = str(error)
        self.message_user(request, f"{account}: {refusal}", messages.ERROR)
        return refusal


class KillSwitchTaskInline(admin.TabularInline):
    model = KillSwitchTask
    extra = 0
    can_delete = False
    fields = readonly_fields = ("account", "phase", "open_orders", "open_positions", "rounds", "trouble", "done_at")

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(KillSwitch)
class KillSwitchAdmin(admin.ModelAdmin):
    """To add one is to engage it; nothing of it can be edited, re-arming is an action."""

    list_display = ("engaged_at", "where", "engaged_by", "reason", "how_far", "rearmed_at", "rearmed_by")
    list_filter = ("account", ("rearmed_at", admin.EmptyFieldListFilter))
    list_select_related = ("account",)
    fields = ("account", "closes_positions", "reason")
    actions = ("rearm",)

    @admin.display(description="what")
    def where(self, switch: KillSwitch) -> str:
        return "the whole PLATFORM" if switch.account is None else switch.account.label

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return [] if obj is None else [KillSwitchTaskInline]

    @admin.display(description="how far")
    def how_far(self, switch: KillSwitch) -> str:
        return ", ".join(f"{task.account.label}: {task.phase}" for task in switch.tasks.select_related("account"))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: KillSwitch, form: Any, change: bool) -> None:
        allowed = may_operate_platform(request.user) if obj.account is None else may_trade(request.user, obj.account)
        if not allowed:
            raise PermissionDenied("you may not stop this")
        engaged = kill_switch_engage(
            account=obj.account,
            actor=request.user.get_username(),
            reason=obj.reason,
            closes_positions=obj.closes_positions,
        )
        obj.pk, obj._state.adding = engaged.pk, False

    @admin.action(description="Re-arm: let trade again", permissions=["view"])
    def rearm(self, request: HttpRequest, rows: QuerySet[KillSwitch]) -> None:
        for switch in rows.select_related("account"):
            account = switch.account
            if not (may_operate_platform(request.user) if account is None else may_manage(request.user, account)):
                self.message_user(request, f"you may not re-arm {switch}", messages.ERROR)
                continue
            try:
                kill_switch_rearm(account=account, actor=request.user.get_username(), reason="re-armed in the admin")
                self.message_user(request, f"{account or 'The platform'} trades again")
            except KillSwitchRefused as error:
                self.message_user(request, str(error), messages.ERROR)


@admin.register(DeadManWatch)
class DeadManWatchAdmin(admin.ModelAdmin):
    list_display = ("account", "policy", "venue_seconds", "missing_since")
    list_select_related = ("account",)
    fields = ("account", "policy", "venue_seconds")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if obj is None else ("account",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # set it to "nothing" instead: that is on the trail

    def save_model(self, request: HttpRequest, obj: DeadManWatch, form: Any, change: bool) -> None:
        if not may_manage(request.user, obj.account):
            raise PermissionDenied(f"only a manager of {obj.account} may change its dead-man switch")
        saved = dead_man_set(
            account=obj.account,
            policy=obj.policy,
            venue_seconds=obj.venue_seconds,
            actor=request.user.get_username(),
        )
        obj.pk, obj._state.adding = saved.pk, False


class ReadOnlyInline(admin.TabularInline):
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TransitionInline(ReadOnlyInline):
    model = OrderTransition
    fields = readonly_fields = ("created_at", "event", "source", "target", "cause", "payload")


class AmendmentInline(ReadOnlyInline):
    model = OrderAmendment
    fields = readonly_fields = (
        "created_at",
        "quantity_before",
        "price_before",
        "quantity",
        "price",
        "outcome",
        "actor",
        "cause",
        "sent_at",
        "decided_at",
    )


@admin.register(Order)
class OrderAdmin(BooksAdmin, TracedAdmin):
    list_display = (
        "created_at",
        "account",
        "books",
        "instrument",
        "side",
        "order_type",
        "quantity",
        "price",
        "filled_quantity",
        "state",
        "strategy",
        "refusal",
    )
    list_filter = (BooksFilter, "state", "side", "order_type", "strategy", "account")
    search_fields = ("client_order_id", "venue_order_id", "trace_id", "instrument__symbol")
    date_hierarchy = "created_at"
    list_select_related = ("account", "instrument")
    inlines = (AmendmentInline, TransitionInline)
    actions = ("cancel_orders",)

    @admin.action(description="Cancel the chosen orders", permissions=["view"])
    def cancel_orders(self, request: HttpRequest, rows: QuerySet[Order]) -> None:
        asked = 0
        for order in rows.select_related("account"):
            # Orders cannot be changed here, so Django's permission to change them says nothing.
            if not may_trade(request.user, order.account):
                self.message_user(request, f"{order}: you may not trade on {order.account}", messages.ERROR)
                continue
            try:
                order_cancel_request(order=order, actor=request.user.get_username(), reason="cancelled in the admin")
                asked += 1
            except OrderNotCancellable as error:
                self.message_user(request, str(error), messages.WARNING)
        self.message_user(request, f"Cancels asked for: {asked}.")


@admin.register(Fill)
class FillAdmin(BooksAdmin, TracedAdmin):
    list_display = (
        "executed_at",
        "account",
        "books",
        "instrument",
        "side",
        "price",
        "quantity",
        "fee",
        "realised_pnl",
        "is_maker",
    )
    list_filter = (BooksFilter, "account", "side", "is_maker", "execution_type")
    search_fields = ("execution_id", "order__client_order_id", "instrument__symbol")
    date_hierarchy = "executed_at"
    list_select_related = ("account", "instrument")

    @admin.display(description="trace")
    def trace(self, fill: Fill) -> str:
        return trace_links(fill.order.trace_id if fill.order else "")


@admin.register(Position)
class PositionAdmin(BooksAdmin, TracedAdmin):
    list_display = (
        "opened_at",
        "account",
        "books",
        "instrument",
        "side",
        "quantity",
        "entry_price",
        "realised_pnl",
        "state",
    )
    list_filter = (BooksFilter, "state", "account", "side")
    search_fields = ("instrument__symbol",)
    list_select_related = ("account", "instrument")


@admin.register(AuditEvent)
class TrailAdmin(AuditEventAdmin):
    """Staff see the trail of the accounts that they may see; the platform's with the permission for it."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        return visible_events(request.user)


@admin.register(ReconciliationRun)
class ReconciliationRunAdmin(BooksAdmin, ReadOnlyAdmin):
    list_display = ("started_at", "account", "books", "trigger", "succeeded", "found", "error", "refusal")
    list_filter = (BooksFilter, "succeeded", "trigger", "account")
    date_hierarchy = "started_at"
    list_select_related = ("account",)

    @admin.display(description="differences")
    def found(self, run: ReconciliationRun) -> int:
        return len(run.differences)


@admin.register(Discrepancy)
class DiscrepancyAdmin(ReadOnlyAdmin):
    list_display = (
        *("first_seen_at", "account", "kind", "subject", "ours", "theirs", "amount", "sightings"),
        *("resolved_at", "resolution"),
    )
    list_filter = ("kind", "account", ("resolved_at", admin.EmptyFieldListFilter))
    search_fields = ("subject",)
    date_hierarchy = "first_seen_at"
    list_select_related = ("account",)
    actions = ("resolve",)

    @admin.action(description="Settled: I know what it was", permissions=["view"])
    def resolve(self, request: HttpRequest, rows: QuerySet[Discrepancy]) -> None:
        for row in rows.select_related("account"):
            if not may_manage(request.user, row.account):
                self.message_user(request, f"only a manager of {row.account} may settle {row}", messages.ERROR)
                continue
            discrepancy_resolve(discrepancy=row, actor=request.user.get_username(), reason="settled in the admin")


@admin.register(AccountReconciliation)
class AccountReconciliationAdmin(admin.ModelAdmin):
    """What becomes of orders at the venue that are not ours; the rest tells how comparing goes."""

    list_display = ("account", "foreign_orders", "failures", "trouble", "hedge_mode", "ledger_compared_at")
    list_select_related = ("account",)
    fields = (
        *("account", "foreign_orders", "failures", "trouble", "hedge_mode", "asked_at"),
        *("ledger_read_through", "ledger_compared_at"),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        told = ("failures", "trouble", "hedge_mode", "asked_at", "ledger_read_through", "ledger_compared_at")
        return told if obj is None else ("account", *told)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: AccountReconciliation, form: Any, change: bool) -> None:
        if not may_manage(request.user, obj.account):
            raise PermissionDenied(f"only a manager of {obj.account} may choose what becomes of foreign orders")
        saved = foreign_orders_set(account=obj.account, policy=obj.foreign_orders, actor=request.user.get_username())
        obj.pk, obj._state.adding = saved.pk, False


@admin.register(ForeignOrder)
class ForeignOrderAdmin(ReadOnlyAdmin):
    list_display = ("first_seen_at", "account", "instrument", "side", "amount", "filled_quantity", "price", "gone_at")
    list_filter = ("account", ("gone_at", admin.EmptyFieldListFilter))
    search_fields = ("venue_order_id", "client_order_id", "instrument__symbol")
    list_select_related = ("account", "instrument")


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    list_display = ("booked_at", "account", "kind", "symbol", "currency", "change", "fee", "funding", "balance")
    list_filter = ("kind", "account", "currency")
    search_fields = ("venue_id", "execution_id", "client_order_id", "symbol")
    date_hierarchy = "booked_at"
    list_select_related = ("account",)


@admin.register(CoinBalance)
class CoinBalanceAdmin(ReadOnlyAdmin):
    list_display = (
        *("account", "currency", "opening_balance", "explained_balance", "venue_balance"),
        *("unexplained_since", "compared_at"),
    )
    list_filter = ("account", ("unexplained_since", admin.EmptyFieldListFilter))
    list_select_related = ("account",)
    actions = ("accept",)

    @admin.action(description="Accept the venue's balance: I know where the rest comes from", permissions=["view"])
    def accept(self, request: HttpRequest, rows: QuerySet[CoinBalance]) -> None:
        for row in rows.select_related("account"):
            if not may_manage(request.user, row.account):
                self.message_user(request, f"only a manager of {row.account} may accept it", messages.ERROR)
                continue
            actor, reason = request.user.get_username(), "accepted in the admin"
            coin_balance_accept(account_id=row.account_id, currency=row.currency, actor=actor, reason=reason)
