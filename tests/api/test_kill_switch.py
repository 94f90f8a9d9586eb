"""Who may stop what, and let it trade again, over the API."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission

from tests import builders
from tests.api.conftest import Cast
from trading.models import DeadManWatch, KillSwitch, Membership
from trading.services.accounts import membership_grant
from trading.services.kill_switch import kill_switch_done, kill_switch_engage

pytestmark = pytest.mark.django_db


def post(cast: Cast, user: Any, verb: str, **body: Any) -> Any:
    values = {"reason": "a test", **body}
    return cast.client(user).post(f"/api/v1/kill-switch/{verb}", values, format="json")


@pytest.fixture
def dora(db: None) -> Any:
    user = builders.user("dora", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="operate_platform_kill_switch"))
    return user


def test_a_trader_stops_their_account_and_a_manager_re_arms_it(cast: Cast) -> None:
    membership_grant(account=cast.alices, user=cast.charlie, role=Membership.Role.TRADER, actor="test")
    answer = post(cast, cast.charlie, "engage", account=cast.alices.pk)
    assert answer.status_code == 201 and answer.json()["tasks"][0]["phase"] == "engaged"
    account = cast.client(cast.alice).get(f"/api/v1/accounts/{cast.alices.pk}").json()
    assert (account["kill_switch"]["phase"], account["kill_switch"]["engaged_by"]) == ("engaged", "charlie")
    assert post(cast, cast.charlie, "rearm", account=cast.alices.pk).status_code == 403
    early = post(cast, cast.alice, "rearm", account=cast.alices.pk)
    assert early.status_code == 409 and "not everything is closed" in early.json()["error"]["message"]
    kill_switch_done(task_id=KillSwitch.objects.get().tasks.get().pk, closer="test")
    assert post(cast, cast.alice, "rearm", account=cast.alices.pk).status_code == 200
    assert cast.client(cast.alice).get(f"/api/v1/accounts/{cast.alices.pk}").json()["kill_switch"] is None


def test_another_tenants_account_does_not_exist_and_a_viewers_is_forbidden(cast: Cast) -> None:
    for verb in ("engage", "rearm"):
        assert post(cast, cast.bob, verb, account=cast.alices.pk).status_code == 404
        assert post(cast, cast.vera, verb, account=cast.alices.pk).status_code == 403
        assert post(cast, None, verb, account=cast.alices.pk).status_code == 403
        assert post(cast, cast.alice, verb, platform=True).status_code == 403
    assert not KillSwitch.objects.exists()


def test_a_user_sees_the_stops_of_their_accounts_and_of_the_platform_but_not_how_far_others_are(cast: Cast) -> None:
    kill_switch_engage(account=cast.alices, actor="alice", reason="mine")
    kill_switch_engage(account=None, actor="dora", reason="all")
    seen = {row["reason"]: row["tasks"] for row in cast.client(cast.bob).get("/api/v1/kill-switch/").json()}
    assert list(seen) == ["all"] and [task["name"] for task in seen["all"]] == ["bob account"]
    assert {row["reason"] for row in cast.client(cast.vera).get("/api/v1/kill-switch/").json()} == {"mine", "all"}


def test_the_platform_is_stopped_by_staff_with_the_permission_and_re_armed_by_another(cast: Cast, dora: Any) -> None:
    clerk = builders.user("clerk", is_staff=True)
    assert post(cast, clerk, "engage", platform=True).status_code == 403
    assert post(cast, dora, "engage", platform=True).status_code == 201
    order = {"account": cast.bobs.pk, "symbol": "BTCUSDT", "side": "Buy", "order_type": "Market", "quantity": "0.01"}
    refused = cast.client(cast.bob).post("/api/v1/trading/order", order, format="json")
    assert refused.status_code == 409 and "kill switch" in refused.json()["error"]["message"]
    for task in KillSwitch.objects.get().tasks.all():
        kill_switch_done(task_id=task.pk, closer="test")
    builders.user("root", is_staff=True, is_superuser=True)
    alone = post(cast, dora, "rearm", platform=True)
    assert alone.status_code == 409 and "second person" in alone.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "account"),
        ({"account": 1, "platform": True}, "account"),
        ({"account": "all"}, "account"),
        ({"account": 1, "reason": ""}, "reason"),
        ({"account": 1, "acount": 2}, "acount"),
    ],
)
def test_a_request_that_could_be_misread_stops_nothing(cast: Cast, body: dict[str, Any], field: str) -> None:
    answer = post(cast, cast.alice, "engage", **body)
    assert answer.status_code == 400
    assert field in {each["field"] for each in answer.json()["error"]["fields"]}
    assert not KillSwitch.objects.exists()


def test_a_manager_chooses_what_happens_without_an_engine(cast: Cast) -> None:
    address = f"/api/v1/accounts/{cast.alices.pk}/dead-man"
    assert cast.client(cast.vera).get(address).json()["policy"] == "off"
    body = {"policy": "cancel", "venue_seconds": 30}
    assert cast.client(cast.vera).put(address, body, format="json").status_code == 403
    assert cast.client(cast.bob).put(address, body, format="json").status_code == 404
    assert cast.client(cast.alice).put(address, body | {"venue_seconds": 2}, format="json").status_code == 400
    assert cast.client(cast.alice).put(address, body, format="json").status_code == 200
    watch = DeadManWatch.objects.get()
    assert (watch.account, watch.policy, watch.venue_seconds) == (cast.alices, "cancel", 30)
