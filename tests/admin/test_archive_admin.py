"""The archive in the admin: what there is, and who brought what; read only."""

from __future__ import annotations

import io

import pytest
from django.test import Client

from marketdata.candles import services
from marketdata.candles.findings import ImportOptions, ImportRefused, Repair
from marketdata.candles.series_key import SeriesKey
from marketdata.candles.tables import TableForm
from marketdata.models import ArchiveImport
from tests import builders

pytestmark = pytest.mark.django_db


def bring(numbers: list[int]) -> None:
    rows = [f"{1_769_731_200_000 + 3_600_000 * number},1,2,1,2,3" for number in numbers]
    services.file_import(
        io.BytesIO("\n".join(["ts_ms,open,high,low,close,volume", *rows]).encode()),
        key=SeriesKey("bybit", "BTCUSDT", "60"),
        form=TableForm(),
        options=ImportOptions(frozenset({Repair.ACCEPT_GAPS})),
        actor="rita",
        source="<b>btc</b>.csv",
    )


def test_lines_and_imports_are_listed_with_what_was_wrong() -> None:
    bring([0, 1, 4])
    with pytest.raises(ImportRefused):
        bring([5, 5])
    client = Client()
    client.force_login(builders.user("root", is_staff=True, is_superuser=True))
    lines = client.get("/admin/marketdata/archiveseries/").content.decode()
    assert "BTCUSDT" in lines and "2026-01-30T04:00:00Z" in lines
    imports = client.get("/admin/marketdata/archiveimport/").content.decode()
    assert "refused" in imports and "rita" in imports and "<b>btc" not in imports
    refused = ArchiveImport.objects.get(outcome="refused")
    page = client.get(f"/admin/marketdata/archiveimport/{refused.pk}/change/").content.decode()
    assert "is also in row 2" in page and 'name="_save"' not in page
    assert client.post(f"/admin/marketdata/archiveimport/{refused.pk}/delete/", {"post": "yes"}).status_code == 403


def test_staff_without_the_permission_see_nothing_of_it() -> None:
    bring([0, 1])
    client = Client()
    client.force_login(builders.user("bob", is_staff=True))
    assert client.get("/admin/marketdata/archiveimport/").status_code == 403
    assert client.get("/admin/marketdata/archiveseries/").status_code == 403
