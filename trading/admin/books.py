from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from trading.models import Account, Mode
from trading.selectors import books_of


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
