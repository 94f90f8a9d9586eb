from __future__ import annotations

import getpass
import time
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, connection

from trading.credentials import CredentialsError
from trading.models import Account, KillSwitch, KillSwitchTask
from trading.permissions import may_manage, may_operate_platform
from trading.runtime import emergency
from trading.runtime.configuration import ENVIRONMENTS, load_accounts_to_stop
from trading.runtime.kill_takeover import carry_out
from trading.services.kill_switch import KillSwitchRefused, kill_switch_engage, kill_switch_rearm

POLL_SECONDS = 0.5
VERBS = ("engage", "rearm", "status", "resume", "emergency-close", "import-journal", "prepare-emergency")


class Command(BaseCommand):
    help = (
        "Stop an account or the whole platform: no new risk, every order cancelled, every position closed. "
        "Does it itself where no engine does; emergency-close works without a database."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        for verb in VERBS:
            each = verbs.add_parser(verb)
            if verb not in ("import-journal", "prepare-emergency", "resume"):
                each.add_argument("--account", help="its name; without it: the whole platform")
            if verb in ("engage", "rearm", "emergency-close"):
                each.add_argument("--reason", required=True, help="for the trail, and for whoever re-arms")
            if verb in ("engage", "resume", "emergency-close"):
                each.add_argument("--wait", type=float, default=120.0, help="seconds until it gives up (120)")
            if verb == "engage":
                each.add_argument("--keep-positions", action="store_true", help="only cancel orders")
            if verb == "rearm":
                each.add_argument("--user", required=True, help="the user who takes the responsibility")
                each.add_argument("--force", action="store_true", help="although it is not proven that all is closed")

    def handle(self, *args: Any, **options: Any) -> None:
        verb = str(options["verb"]).replace("-", "_")
        try:
            getattr(self, f"_{verb}")(options)
        except (KillSwitchRefused, CredentialsError, emergency.EmergencyError) as error:
            raise CommandError(str(error)) from error
        except Error as error:
            advice = "" if verb == "emergency_close" else "; emergency-close works without a database"
            raise CommandError(f"the database does not answer: {str(error).strip()}{advice}") from error

    def _engage(self, options: dict[str, Any]) -> None:
        account = self._account(options["account"])
        switch = kill_switch_engage(
            account=account,
            actor=self._actor(),
            reason=options["reason"],
            closes_positions=not options["keep_positions"],
        )
        self.stdout.write(f"Engaged: {switch}. No new risk from now on.")
        self._see_through(KillSwitchTask.objects.filter(switch=switch), options["wait"])

    def _resume(self, options: dict[str, Any]) -> None:
        """Go on with every kill switch that is not done yet."""
        self._see_through(KillSwitchTask.objects.filter(switch__rearmed_at=None), options["wait"])

    def _see_through(self, tasks: Any, seconds: float) -> None:
        until = time.monotonic() + seconds
        left = list(tasks.exclude(phase=KillSwitchTask.Phase.DONE).select_related("account"))
        # One account that the venue does not answer for must not keep the others waiting.
        with ThreadPoolExecutor(max(1, min(len(left), 16))) as threads:
            list(threads.map(lambda task: self._carry_out(task.account, task.pk, until), left))
        left = list(tasks.exclude(phase=KillSwitchTask.Phase.DONE).select_related("account"))
        if left:
            rows = "; ".join(f"{task.account.name} is {task.phase} {task.trouble}".strip() for task in left)
            raise CommandError(f"not done within {seconds:g} s: {rows}. It goes on; `kill_switch status` tells.")
        self.stdout.write("Done: nothing that should be closed is open any more.")

    def _carry_out(self, account: Account, task_id: int, until: float) -> None:
        try:
            while time.monotonic() < until:
                if KillSwitchTask.objects.filter(pk=task_id, phase=KillSwitchTask.Phase.DONE).exists():
                    return
                if not carry_out(account, until - time.monotonic()):
                    time.sleep(POLL_SECONDS)  # its owner does it
        except (CredentialsError, Error) as error:
            self.stderr.write(f"{account.name}: {error}")
        finally:
            connection.close()

    def _rearm(self, options: dict[str, Any]) -> None:
        account = self._account(options["account"])
        user = get_user_model().objects.filter(username=options["user"], is_active=True).first()
        allowed = user is not None and (may_operate_platform(user) if account is None else may_manage(user, account))
        if not allowed:
            raise CommandError(f"{options['user']} is not a user who may re-arm {account or 'the platform'}")
        switch = kill_switch_rearm(
            account=account, actor=options["user"], reason=options["reason"], force=options["force"]
        )
        self.stdout.write(f"Re-armed: {switch}.")

    def _status(self, options: dict[str, Any]) -> None:
        engaged = KillSwitch.objects.filter(rearmed_at=None).select_related("account").order_by("engaged_at")
        if options["account"]:
            engaged = engaged.filter(tasks__account=self._account(options["account"]))
        if not engaged:
            self.stdout.write("Not engaged.")
        for switch in engaged:
            self.stdout.write(
                f"{switch}: {switch.engaged_by}, {switch.engaged_at:%Y-%m-%d %H:%M:%S} UTC: {switch.reason}"
            )
            for task in switch.tasks.select_related("account"):
                counts = f"{_shown(task.open_orders)} orders, {_shown(task.open_positions)} positions"
                self.stdout.write(f"  {task.account.name}: {task.phase}, {counts} {task.trouble}".rstrip())

    def _emergency_close(self, options: dict[str, Any]) -> None:
        accounts = emergency.stored_accounts()
        if options["account"]:
            accounts = [account for account in accounts if account.name == options["account"]]
            if not accounts:
                raise CommandError(
                    f"neither an engine nor a worker has left keys here of an account called {options['account']}"
                )
        with emergency.journal(self._actor(), options["reason"]) as book:
            with ThreadPoolExecutor(max(1, min(len(accounts), 16))) as threads:
                closing = [
                    threads.submit(
                        emergency.emergency_close,
                        account,
                        book,
                        self.stdout.write,
                        options["wait"],
                        emergency.settle_seconds(),
                    )
                    for account in accounts
                ]
            proven = all(each.result() for each in closing)
        self.stdout.write(
            "Trading is stopped where the journal is booked: by an engine, or `kill_switch import-journal`."
        )
        if not proven:
            raise CommandError("not everything is proven closed; see above")

    def _prepare_emergency(self, options: dict[str, Any]) -> None:
        """For a machine where no engine and no worker runs: what they would leave there, from the database."""
        accounts = load_accounts_to_stop(ENVIRONMENTS[settings.EXCHANGE])
        emergency.export_accounts(accounts)
        self.stdout.write(
            f"{len(accounts)} accounts are in {emergency.folder()}, their keys encrypted: emergency-close works here "
            "now with BALLAST_MASTER_KEY. Run this again when accounts or keys change."
        )

    def _import_journal(self, options: dict[str, Any]) -> None:
        if not emergency.import_journal():
            raise CommandError("an emergency close is running; wait for its end")
        self.stdout.write("The journal is booked.")

    def _account(self, name: str | None) -> Account | None:
        if not name:
            return None
        account = Account.objects.filter(name=name).first()
        if account is None:
            known = ", ".join(Account.objects.order_by("name").values_list("name", flat=True)[:20])
            raise CommandError(f"there is no account called {name}; known are {known}")
        return account

    def _actor(self) -> str:
        return f"command line:{getpass.getuser()}"


def _shown(count: int | None) -> str:
    return "?" if count is None else str(count)
