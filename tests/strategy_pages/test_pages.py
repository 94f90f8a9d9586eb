"""The pages of strategies as their views answer: who sees what, who may change it, and what is wrong at which field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.test import Client

from audit.models import AuditEvent
from strategies.documentation import rendered
from strategies.library import STRATEGIES as STRATEGIES_BUILT_IN
from strategies.models import StrategyConfig
from strategies.registry import STRATEGIES
from strategies.services import strategy_enable, strategy_stop
from tests import builders
from tests.strategies.own import written
from trading.models import Account, Membership
from trading.services.accounts import membership_grant

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Iterator[Path]:
    made = tmp_path / "strategies"
    made.mkdir()
    STRATEGIES.look_in(made)
    yield made
    STRATEGIES.look_in(settings.STRATEGIES_DIR)


class Cast:
    """Alice and Bob have an account each; Vera may look at Alice's, Tara trades on it; Mia manages it with her."""

    def __init__(self) -> None:
        builders.list_instruments()
        self.users = {name: builders.user(name) for name in ("alice", "bob", "vera", "tara", "mia")}
        self.alices, self.bobs = builders.account(self.users["alice"]), builders.account(self.users["bob"])
        for name, role in (("vera", "VIEWER"), ("tara", "TRADER"), ("mia", "MANAGER")):
            role = Membership.Role[role]
            membership_grant(account=self.alices, user=self.users[name], role=role, actor="test")
        self.config = builders.strategy(self.alices)

    def client(self, name: str) -> Client:
        client = Client()
        client.force_login(self.users[name])
        return client


@pytest.fixture
def cast(db: None) -> Cast:
    return Cast()


def values(account: Account | None = None, **changes: Any) -> dict[str, Any]:
    given = {"name": "mine", "symbols": "BTCUSDT, ethusdt", "sizing_mode": "percent", "sizing_value": "1.5"}
    given |= {"leverage": "5", "allow_reversal": "on", "parameter_timeframe": "15", "parameter_period": "12"}
    given |= {"parameter_multiplier": ""} | changes
    return given if account is None else {"account": account.pk, **given}


def text(answer: Any) -> str:
    return str(answer.content.decode())


def test_a_stranger_is_asked_to_log_in(client: Client, cast: Cast) -> None:
    for path in ("/strategies/", "/strategies/supertrend/", "/strategies/images/x.svg"):
        answer = client.get(path)
        assert answer.status_code == 302 and answer["Location"].startswith("/login")
    assert client.post(f"/strategies/configurations/{cast.config.pk}/enable/").status_code == 302
    assert not StrategyConfig.objects.get().enabled


def test_everybody_sees_all_strategies_and_only_their_own_configurations(cast: Cast) -> None:
    for name in ("alice", "vera"):
        page = text(cast.client(name).get("/strategies/"))
        assert "Order-book imbalance" in page and 'href="/strategies/supertrend/"' in page
        assert "alice account" in page and ">trend<" in page
    page = text(cast.client("bob").get("/strategies/"))
    assert "Order-book imbalance" in page and "alice account" not in page and "None of the accounts" in page


def test_a_page_shows_documentation_parameters_with_units_and_a_form(cast: Cast) -> None:
    page = text(cast.client("alice").get("/strategies/supertrend/"))
    for words in (
        "<code>period</code>",
        "2 to 200",
        "distance of the bands",
    ):
        assert words in page
    assert 'name="parameter_multiplier"' in page and f'<option value="{cast.alices.pk}"' in page
    assert cast.bobs.name not in page
    assert cast.client("alice").get("/strategies/no.such/").status_code == 404


def test_a_configuration_is_added_through_the_service_and_not_enabled(cast: Cast) -> None:
    answer = cast.client("alice").post("/strategies/supertrend/", values(cast.alices))
    assert answer.status_code == 302, text(answer)
    config = StrategyConfig.objects.get(name="mine")
    assert (config.symbols, config.account_id, config.enabled) == (["BTCUSDT", "ETHUSDT"], cast.alices.pk, False)
    assert (config.parameters["period"], config.parameters["timeframe"]) == (12, "15")
    assert config.parameters["multiplier"] in (3.0, "3.0")
    assert AuditEvent.objects.filter(action="strategy.created", actor="alice").exists()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("parameter_period", "1", "greater than or equal to 2"),
        ("parameter_timeframe", "7", "not one of the available choices"),
        ("symbols", "BTCUSDT, NOSUCH", "not an instrument that this deployment trades"),
        ("symbols", "BTCUSDT BTCUSDT", "must name each symbol once"),
        ("leverage", "90", "must be 1 to 50"),
        ("sizing_value", "0", "must be above 0"),
        ("name", "no blanks", "Enter a valid"),
        ("name", "trend", "the account has a strategy of that name already"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_saved(
    cast: Cast, field: str, value: str, words: str
) -> None:
    answer = cast.client("alice").post("/strategies/supertrend/", values(cast.alices, **{field: value}))
    assert answer.status_code == 422 and StrategyConfig.objects.count() == 1
    errors = answer.context["form"].errors
    assert list(errors) == [field] and words in errors[field][0]
    assert "Nothing is saved yet: 1 to correct." in text(answer)


def test_a_configuration_is_changed_and_keeps_its_account_and_name(cast: Cast) -> None:
    client, address = cast.client("mia"), f"/strategies/supertrend/?config={cast.config.pk}"
    page = text(client.get(address))
    assert "Save trend" in page and 'name="account"' not in page and 'name="name"' not in page
    assert client.post(address, values(name="other", parameter_period="20")).status_code == 302
    cast.config.refresh_from_db()
    assert (cast.config.name, cast.config.version, cast.config.parameters["period"]) == ("trend", 2, 20)
    assert cast.config.leverage == 5 and StrategyConfig.objects.count() == 1


@pytest.mark.parametrize("name", ["vera", "tara", "bob"])
def test_whoever_does_not_manage_the_account_changes_nothing(cast: Cast, name: str) -> None:
    client, hidden = cast.client(name), name == "bob"
    address = f"/strategies/supertrend/?config={cast.config.pk}"
    if hidden:
        assert client.get(address).status_code == 404
    else:
        page = text(client.get(address))
        assert "Only managers of an account" in page and 'class="configuration"' not in page
        assert f"/strategies/configurations/{cast.config.pk}/enable/" not in page
    refused = 404 if hidden else 403
    assert client.post(address, values()).status_code == refused
    assert client.post(f"/strategies/configurations/{cast.config.pk}/enable/").status_code == refused
    answer = client.post("/strategies/supertrend/", values(cast.alices))
    assert answer.status_code == (422 if hidden else 403)
    cast.config.refresh_from_db()
    assert (cast.config.version, cast.config.enabled, StrategyConfig.objects.count()) == (1, False, 1)


def test_it_is_enabled_and_disabled_and_leads_back_to_where_the_button_was(cast: Cast) -> None:
    client, address = cast.client("alice"), f"/strategies/configurations/{cast.config.pk}"
    answer = client.post(f"{address}/enable/", {"next": "/strategies/supertrend/"})
    assert answer.status_code == 302 and answer["Location"] == "/strategies/supertrend/"
    assert StrategyConfig.objects.get().enabled
    answer = client.post(f"{address}/disable/", {"next": "//evil.example/"})
    assert answer["Location"] == "/strategies/" and not StrategyConfig.objects.get().enabled
    assert client.get(f"{address}/enable/").status_code == 405


def test_why_one_does_not_run_is_said_beside_it(cast: Cast, folder: Path) -> None:
    strategy_enable(config=cast.config, actor="alice")
    strategy_stop(config_id=cast.config.pk, actor="engine:1", reason="ZeroDivisionError: division by zero (mine.py:3)")
    page = text(cast.client("alice").get("/strategies/"))
    assert 'data-state="stopped"' in page and "division by zero (mine.py:3)" in page


def test_own_files_and_those_that_are_left_out_are_shown(cast: Cast, folder: Path) -> None:
    written(folder, "mine")
    (folder / "mine.md").write_text("# Mine\n\nBuys **rising** bars. <script>alert(1)</script>\n")
    (folder / "broken.py").write_text("import nothing_of_that_name\n")
    client = cast.client("alice")
    page = text(client.get("/strategies/"))
    assert "own file" in page and "<code>broken.py:1</code> ModuleNotFoundError" in page
    page = text(client.get("/strategies/own.mine/"))
    assert "Buys <strong>rising</strong> bars" in page and "<script>alert" not in page
    assert "File <code>mine.py</code>, version <code" in page


def test_documentation_cannot_bring_markup_or_strange_addresses() -> None:
    html = rendered(
        '<b onclick="x()">a</b> [b](javascript:x) ![c](https://evil.example/c.png)\n\n| d |\n| - |\n| 1 |\n'
    )
    assert "<b" not in html and 'href="javascript' not in html and "evil.example" not in html
    assert 'src="/strategies/images/c.png"' in html and '<table class="rows">' in html


def test_every_built_in_strategy_shows_its_rule_a_chart_of_a_real_trade_and_its_results(cast: Cast) -> None:
    client = cast.client("bob")
    for key in STRATEGIES_BUILT_IN:
        page = text(client.get(f"/strategies/{key}/"))
        assert f'<img src="/strategies/images/{key}.svg" alt="' in page, key
        for heading in ("Rule", "When it fails", "A trade", "Results"):
            assert f"<h2>{heading}</h2>" in page, (key, heading)
        assert f"benchmarks/strategy_results.py\n{key}" in page or f"benchmarks/strategy_results.py {key}" in page


def test_a_chart_is_served_as_an_image_that_can_run_nothing(cast: Cast) -> None:
    client = cast.client("alice")
    for key in STRATEGIES_BUILT_IN:
        answer = client.get(f"/strategies/images/{key}.svg")
        assert answer["Content-Type"] == "image/svg+xml" and "sandbox" in answer["Content-Security-Policy"]
        image = ElementTree.fromstring(b"".join(answer.streaming_content))  # type: ignore[attr-defined]
        words = " ".join(image.itertext())
        assert all(each in words for each in ("entry ", "exit ", "stop ", "target ", "UTC", "signal")), key
    assert client.get("/strategies/images/nothing.svg").status_code == 404
    assert client.get("/strategies/images/../supertrend.md").status_code == 404
