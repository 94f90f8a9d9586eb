from __future__ import annotations

import logging

from celery import shared_task
from django.conf import settings

from trading.credentials import CredentialsError, decrypt
from trading.gateways.bybit import BybitEndpoints, BybitGateway
from trading.models import Account
from trading.runtime.configuration import ENVIRONMENTS, load_accounts
from trading.runtime.reconciler import reconcile_account

log = logging.getLogger(__name__)


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
        troubled += bool(run.differences or run.error)
    return troubled


def gateway_of(account: Account) -> BybitGateway:
    endpoints = BybitEndpoints.of_environment(account.environment, settings.SIMULATOR_URL)
    return BybitGateway(endpoints, decrypt(account.api_key_encrypted), decrypt(account.api_secret_encrypted))
