"""``manage.py runsimulator`` whose limits on rates are out of reach, so that what is measured is not the venue's."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")

import django

MANY = 100_000


def main(arguments: list[str]) -> None:
    django.setup()
    from django.core.management import call_command

    from trading.simulator import limits

    limits.LIMITS = dict.fromkeys(limits.LIMITS, MANY)
    limits.DEFAULT_LIMIT = MANY
    call_command("runsimulator", *arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
