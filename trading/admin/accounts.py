from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString

from trading.admin.books import badge
from trading.admin.tenancy import OfAccounts
from trading.credentials import CredentialsError
from trading.models import Account, Membership, Mode
from trading.permissions import accounts_visible_to, may_manage, may_trade
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
from trading.services.kill_switch import kill_switch_engage
from trading.services.loss_alarms import peak_equity_reset
from trading.services.reconciliations import reconciliation_request

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


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)


@admin.register(Account)
class AccountAdmin(OfAccounts):
    class Media:
        css: ClassVar = {"all": ("css/badge.css",)}

    list_display = ("name", "where", "environment", "owner", "trading_state", "halt_reason", "reconciled_at")
    list_filter = ("mode", "environment", "trading_state")
    search_fields = ("name", "owner__username")
    form = AccountForm
    inlines = (MembershipInline,)
    actions = ("halt", "resume", "stop", "measure_anew", "reconcile", "trade_on_paper", "trade_for_real")
    autocomplete_fields = ("owner",)

    def visible(self, rows: QuerySet[Account], user: Any) -> QuerySet[Account]:
        return rows.filter(pk__in=accounts_visible_to(user))

    def account_of(self, row: Account) -> Account:
        return row

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
            if not may_trade(request.user, account):
                self.message_user(request, f"you may not halt {account}", messages.ERROR)
                continue
            account_halt(account=account, actor=request.user.get_username(), reason="halted in the admin")

    @admin.action(description="Resume trading", permissions=["change"])
    def resume(self, request: HttpRequest, rows: QuerySet[Account]) -> None:
        for account in rows:
            if not may_manage(request.user, account):
                self.message_user(request, f"only a manager of {account} may let it trade again", messages.ERROR)
                continue
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
