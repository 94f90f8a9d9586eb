"""What a process loads: the compiler belongs to the engine and the simulator, and costs all others a second each."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import sys
import django
django.setup()
from platform_site.celery import application
application.loader.import_default_modules()
import platform_site.urls
print(*sorted({"numba", "llvmlite", "scipy", "daphne", "xgboost", "pandas"} & set(sys.modules)))
"""


def test_pages_and_tasks_load_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == ""


def test_whoever_starts_the_platform_loads_no_application() -> None:
    code = "import sys, platform_site.supervisor.command; print('django.apps' in sys.modules, 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == ["False", "False"]
