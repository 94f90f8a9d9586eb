"""A deployment as a user starts it, measured: seconds to start and stop, memory, and how long an order takes.

``make bench-deployment [ARGS="--seconds 60 --market RECORDING"]``. Starts ``manage.py up`` in a folder of its own on
free ports, lets the order-book imbalance strategy trade often, and reads what the engine measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from platform_site.supervisor.ports import free_port  # noqa: E402

OFTEN = {"threshold": 0.6, "hold_ms": 0, "cooldown_s": 2.0}
INHERITED = ("DATABASE_URL", "REDIS_URL", "BALLAST_SECRET_KEY", "BALLAST_MASTER_KEY")


class Deployment:
    def __init__(self, market: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ballast-bench-"))
        self.folder.chmod(0o711)
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in INHERITED},
            "BALLAST_DATA_DIR": str(self.folder),
            "BALLAST_PORT": str(free_port()),
            "BALLAST_POSTGRES_PORT": str(free_port()),
            "BALLAST_VALKEY_PORT": str(free_port()),
            "SIMULATOR_URL": f"http://127.0.0.1:{free_port()}",
            "PAPER_URL": f"http://127.0.0.1:{free_port()}",
            **({"MARKET": market} if market else {}),
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Seconds until the banner says that everything is well."""
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if "Ctrl-C stops everything" in line:
                return time.monotonic() - began
        raise SystemExit("".join(said))

    def stop(self) -> float:
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        return time.monotonic() - began

    def pids(self) -> dict[str, int]:
        content = json.loads((self.folder / "supervisor.json").read_text())
        found = {entry["name"]: entry["pid"] for entry in content["processes"]}
        return {"up": content["supervisor_pid"], **found}


def memory(pid: int) -> tuple[float, float]:
    """Resident and proportional MB of a process and its children (shared pages are counted once in the second)."""
    resident = proportional = 0.0
    for each in [pid, *children(pid)]:
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue
        values = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
        resident += values["Rss"] / 1024
        proportional += values["Pss"] / 1024
    return resident, proportional


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


def processor_seconds(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def trade_often() -> None:
    from strategies.models import StrategyConfig
    from strategies.services import strategy_config_update

    config = StrategyConfig.objects.get(strategy="scalping.imbalance")
    strategy_config_update(config=config, actor="benchmark", parameters={**config.parameters, **OFTEN})


def report(deployment: Deployment, seconds: float, before: dict[str, float]) -> None:
    from audit.models import ComponentHeartbeat
    from strategies.models import Signal
    from trading.models import Fill, Order

    pids = deployment.pids()
    print(f"\n{'process':<10} {'resident MB':>12} {'proportional MB':>16} {'core %':>8}")
    for name, pid in pids.items():
        if name != "up":
            used = (processor_seconds(pid) - before[name]) / seconds * 100
            resident, proportional = memory(pid)
            print(f"{name:<10} {resident:>12.0f} {proportional:>16.0f} {used:>8.1f}")
    detail = ComponentHeartbeat.objects.get(component="engine").detail
    print()
    for name, feed in detail["feeds"].items():
        print(f"{name}: books {feed['books']}, {feed['book']} messages, gaps {feed['gaps']}, refused {feed['refused']}")
    for account in detail["accounts"].values():
        if account["answer"]["count"]:
            for stage in ("frame_to_commit", "frame_to_send", "answer"):
                print(f"{account['name']}: {stage:<16} {json.dumps(account[stage])}")
    print(f"signals {dict(Counter(Signal.objects.values_list('outcome', flat=True)))}")
    print(f"orders {dict(Counter(Order.objects.values_list('state', flat=True)))}, fills {Fill.objects.count()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--market", default="")
    options = parser.parse_args()
    deployment = Deployment(options.market)
    try:
        print(f"first start  {deployment.start():6.1f} s")
        print(f"stop         {deployment.stop():6.1f} s")
        print(f"second start {deployment.start():6.1f} s")
        os.environ["BALLAST_DATA_DIR"] = str(deployment.folder)
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "platform_site.settings")
        import django

        from platform_site.deployment import adopt_environment

        adopt_environment(REPOSITORY)
        django.setup()
        trade_often()
        before = {name: processor_seconds(pid) for name, pid in deployment.pids().items()}
        time.sleep(options.seconds)
        report(deployment, options.seconds, before)
        print(f"\nstop         {deployment.stop():6.1f} s")
    finally:
        if deployment.process is not None and deployment.process.poll() is None:
            deployment.stop()
        shutil.rmtree(deployment.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
