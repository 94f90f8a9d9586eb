from __future__ import annotations

import logging

from celery import shared_task
from django.conf import settings

from trading.credentials import CredentialsError
from trading.gateways.bybit import BybitGateway
from trading.models import Account, DeadManWatch, KillSwitchTask
from trading.runtime import backtest_run, search_run
from trading.runtime.configuration import ENVIRONMENTS, load_accounts, load_accounts_to_stop
from trading.runtime.emergency import export_accounts
from trading.runtime.kill_takeover import carry_out, needs_a_closer
from trading.runtime.reconciler import reconcile_account
from trading.runtime.venue_access import venue_access_tell, venue_guard, worker_name
from trading.runtime.venue_link import venue_link
from trading.services.backtests import backtests_take_up
from trading.services.idempotency import idempotency_keys_prune
from trading.services.kill_switch import dead_man_look
from trading.services.leases import account_owned
from trading.services.modes import ModeChanged
from trading.services.searches import searches_take_up

log = logging.getLogger(__name__)

# One account that the venue does not answer for must not keep a worker for long; the next run goes on.
KILL_SWITCH_SECONDS = 60.0
# Longer than any that somebody waits for; what loops for ever is ended, and then has failed.
BACKTEST_SECONDS = 24 * 3_600


@shared_task(expires=10)
def reconcile_accounts() -> int:
    """Compare every account of this deployment with its venue; returns how many differed or failed.

    Late runs expire: the next one is never more than ten seconds away.
    """
    troubled = 0
    for account in load_accounts(ENVIRONMENTS[settings.EXCHANGE]):
        if account.reconciled_at is None:
            continue  # its owner has not opened it yet, and does this itself before the first order
        try:
            run = reconcile_account(account.pk, gateway_of(account), "beat")
        except CredentialsError as error:
            log.error("account %s: %s", account.name, error)
            troubled += 1
            continue
        except ModeChanged as error:
            log.info("account %s: %s", account.name, error)  # its owner reconciles it before the first order
            continue
        except Exception:  # what one account's venue tells must not keep the others from being reconciled
            log.exception("account %s: its reconciliation broke", account.name)
            troubled += 1
            continue
        troubled += bool(run.differences or not run.succeeded)
    venue_access_tell(worker_name())
    return troubled


@shared_task(expires=5)
def carry_out_kill_switches() -> int:
    """Begin with every kill switch that no engine carries out; returns how many."""
    begun = 0
    tasks = KillSwitchTask.objects.filter(switch__rearmed_at=None).exclude(phase=KillSwitchTask.Phase.DONE)
    for task in tasks:
        if needs_a_closer(task):
            carry_out_kill_switch.delay(task.account_id)
            begun += 1
    return begun


@shared_task(expires=10)
def carry_out_kill_switch(account_id: int) -> bool:
    """Take the account over and close what is open; whoever is first does it, for the others there is nothing to do."""
    account = Account.objects.filter(pk=account_id).first()
    if account is None:
        return False
    try:
        return carry_out(account, KILL_SWITCH_SECONDS)
    except CredentialsError as error:
        log.error("account %s: its kill switch cannot be carried out: %s", account.name, error)
        return False


@shared_task(expires=60)
def leave_accounts() -> int:
    """Leave the accounts in this machine's data folder, where an emergency close finds them without a database."""
    accounts = load_accounts_to_stop(ENVIRONMENTS[settings.EXCHANGE])
    export_accounts(accounts)
    return len(accounts)


@shared_task(expires=5)
def watch_engines() -> int:
    """Our own dead-man switch: accounts whose policy took effect because no engine looked after them."""
    watches = DeadManWatch.objects.exclude(policy=DeadManWatch.Policy.OFF)
    looks = [dead_man_look(watch_id=watch.pk, owned=account_owned(watch.account_id)) for watch in watches]
    return looks.count("engaged")


@shared_task
def prune_idempotency_keys() -> int:
    """Forget answers to requests that nobody may repeat any more."""
    return idempotency_keys_prune()


@shared_task(time_limit=BACKTEST_SECONDS)
def carry_out_backtest(run_id: int) -> str:
    """Sent when somebody asks for it, and again by :func:`take_up_backtests`: whoever is second finds nothing to do."""
    return backtest_run.carry_out_backtest(run_id)


@shared_task(expires=10)
def take_up_backtests() -> int:
    """Send backtests again whose worker died, or whose message was lost; returns how many."""
    found = backtests_take_up()
    for run_id in found:
        carry_out_backtest.delay(run_id)
    return len(found)


@shared_task(time_limit=BACKTEST_SECONDS)
def carry_out_search(search_id: int) -> str:
    """As :func:`carry_out_backtest`. One that gave way to others is sent again, behind them."""
    outcome = search_run.carry_out_search(search_id)
    if outcome == search_run.GAVE_WAY:
        carry_out_search.delay(search_id)
    return outcome


@shared_task(expires=10)
def take_up_searches() -> int:
    """Send searches again whose worker died, or whose message was lost; returns how many."""
    found = searches_take_up()
    for search_id in found:
        carry_out_search.delay(search_id)
    return len(found)


def gateway_of(account: Account) -> BybitGateway:
    link = venue_link(account)
    return link.gateway(guard=venue_guard(link.endpoints.rest))
