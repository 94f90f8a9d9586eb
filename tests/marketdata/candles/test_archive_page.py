"""The page of past bars: what there is for everybody, the form for those who may import."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from marketdata.models import ArchiveMonth
from tests import builders

pytestmark = pytest.mark.django_db
BEGIN, HOUR = 1_769_731_200_000, 3_600_000


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def bring(client: Client, *numbers: int, **fields: Any) -> Any:
    rows = "\n".join(["ts_ms,open,high,low,close,volume", *(f"{BEGIN + n * HOUR},1,2,1,2,3" for n in numbers)])
    file = SimpleUploadedFile("<i>hours</i>.csv", rows.encode())
    return client.post("/candles/", {"file": file, "symbol": "BTCUSDT", "interval": "60", **fields})


def test_strangers_are_sent_to_the_login() -> None:
    assert Client().get("/candles/").status_code == 302
    assert bring(Client(), 0, 1).status_code == 302 and not ArchiveMonth.objects.exists()


def test_who_may_import_does_it_with_a_form_and_everybody_sees_what_there_is() -> None:
    bob = signed_in(builders.permit(builders.user("bob"), "import_candles"))
    alice = signed_in(builders.user("alice"))
    assert "Nothing is stored yet" in alice.get("/candles/").content.decode()
    refused = bring(bob, 0, 1, 1, 5)
    text = refused.content.decode()
    assert refused.status_code == 400 and "is also in row 3" in text and "<i>" not in text
    stored = bring(bob, 0, 1, 1, 5, repairs=["drop_duplicates", "accept_gaps"])
    assert stored.status_code == 200 and "3 stored" in stored.content.decode()
    for client, sees_form in ((alice, False), (bob, True)):
        page = client.get("/candles/?symbol=btcusdt").content.decode()
        assert "2026-01-30T02:00:00Z to 2026-01-30T05:00:00Z: 3 missing" in page
        assert ('name="file"' in page) is sees_form and ("hours" in page) is sees_form
    assert "Nothing of ETHUSDT" in alice.get("/candles/?symbol=ETHUSDT&page=x").content.decode()


def test_others_may_not_and_bad_fields_are_told() -> None:
    alice = signed_in(builders.user("alice"))
    assert bring(alice, 0, 1).status_code == 403 and not ArchiveMonth.objects.exists()
    staff = signed_in(builders.user("sam", is_staff=True))
    answer = bring(staff, 0, 1, symbol="btc")
    assert answer.status_code == 400 and "expected capital letters" in answer.content.decode()


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page=１", "page=99999999999999999999", "symbol=%3Cb%3E", "symbol=" + "x" * 999]
)
def test_hostile_queries_get_a_page(query: str) -> None:
    answer = signed_in(builders.user("alice")).get(f"/candles/?{query}")
    assert answer.status_code == 200 and "<b>" not in answer.content.decode()
