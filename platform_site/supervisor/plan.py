"""The application's processes: commands, environment, and what ends with what."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from platform_site.supervisor.child import ChildSpec, Stage
from platform_site.supervisor.configuration import Configuration
from platform_site.supervisor.keys import Keys
from platform_site.supervisor.leftovers import MARK

SIMULATOR_STATE, PAPER_STATE = "simulator.sqlite", "paper.sqlite"


@dataclass(frozen=True, slots=True)
class Plan:
    """Describes each process of one start. ``mark`` tells them from those of other data folders."""

    configuration: Configuration
    environment: Mapping[str, str]
    logs: Path

    def web(self) -> ChildSpec:
        port = str(self.configuration.web_port)
        return self._python("web", "-m", "daphne", "-b", "127.0.0.1", "-p", port, "platform_site.asgi:application")

    def engines(self) -> list[ChildSpec]:
        """They share the symbols between them."""
        numbers = range(1, self.configuration.engines + 1)
        return [
            self._manage("engine" if number == 1 else f"engine-{number}", "runengine", "--name", str(number))
            for number in numbers
        ]

    def worker(self) -> ChildSpec:
        arguments = ("worker", "--loglevel", "info", "--concurrency", "1", "--without-mingle", "--without-gossip")
        # Its pool notices the leader's death by itself. (SIGQUIT, Celery's cold shutdown, hangs without the broker.)
        return self._celery("worker", *arguments)

    def research(self) -> ChildSpec:
        """The worker of what may take hours, like backtests; politely behind everything else."""
        arguments = ("worker", "--queues", "research", "--hostname", "research@%h", "--loglevel", "info")
        worker = self._celery("research", *arguments, "--concurrency", "1", "--without-mingle", "--without-gossip")
        return replace(worker, command=("nice", "-n", "10", *worker.command))

    def beat(self) -> ChildSpec:
        # No pid file: after a power cut it would keep the next beat from starting. The supervisor runs only one.
        return self._celery("beat", "beat", "--loglevel", "info", "--pidfile", "")

    def depth_collector(self) -> ChildSpec:
        return self._manage("depth", "collect_depth")

    def simulator(self) -> ChildSpec:
        configuration = self.configuration
        arguments = ["--host", "127.0.0.1", "--port", str(configuration.simulator_port)]
        arguments += ["--state", str(configuration.data_folder / SIMULATOR_STATE)]
        if configuration.market is not None:
            arguments += ["--market", str(configuration.market)]
        simulator = self._manage("simulator", "runsimulator", *arguments)
        # Ended politely even without a supervisor: it writes its state down.
        return replace(simulator, stage=Stage.VENUE, orphan_signal=signal.SIGTERM)

    def paper(self) -> ChildSpec:
        """The paper venue, which follows the public market of the deployment's exchange."""
        configuration = self.configuration
        arguments = ["--host", "127.0.0.1", "--port", str(configuration.paper_port), "--follow", configuration.exchange]
        arguments += ["--state", str(configuration.data_folder / PAPER_STATE)]
        paper = self._manage("paper", "runsimulator", *arguments)
        return replace(paper, stage=Stage.VENUE, orphan_signal=signal.SIGTERM)

    def kernels(self) -> ChildSpec:
        """Compiles the engine's kernels; ends by itself."""
        return self._python("kernels", "-m", "marketdata.engine")

    def strategy_kernels(self) -> ChildSpec:
        """Compiles indicators and strategies; ends by itself."""
        return self._python("strategy-kernels", "-m", "strategies.kernels")

    def backtest_kernels(self) -> ChildSpec:
        """Compiles the kernels of backtests, giving way to everything else; ends by itself."""
        spec = self._python("backtest-kernels", "-m", "strategies.kernels", "trading.backtest.kernels")
        return replace(spec, command=("nice", *spec.command))

    def command(self, name: str) -> ChildSpec:
        """A management command that ends by itself."""
        return self._manage(name, name)

    def _manage(self, name: str, *arguments: str) -> ChildSpec:
        return self._python(name, "manage.py", *arguments)

    def _celery(self, name: str, *arguments: str) -> ChildSpec:
        return self._python(name, "-m", "celery", "-A", "platform_site", *arguments)

    def _python(self, name: str, *arguments: str) -> ChildSpec:
        return ChildSpec(
            name=name,
            command=(sys.executable, *arguments),
            environment=self.environment,
            directory=self.configuration.repository,
            log=self.logs / f"{name}.log",
        )


def child_environment(
    configuration: Configuration, keys: Keys, database_url: str, redis_url: str, mark: str
) -> dict[str, str]:
    """What every process of the application reads; secrets that the operator set himself go first."""
    return {
        **os.environ,
        "BALLAST_DATA_DIR": str(configuration.data_folder),
        "BALLAST_SECRET_KEY": os.environ.get("BALLAST_SECRET_KEY") or keys.secret_key,
        "BALLAST_MASTER_KEY": os.environ.get("BALLAST_MASTER_KEY") or keys.master_key,
        "BALLAST_PORT": str(configuration.web_port),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "EXCHANGE": configuration.exchange,
        "SIMULATOR_URL": configuration.simulator_url,
        "PAPER_URL": configuration.paper_url,
        "PYTHONUNBUFFERED": "1",
        MARK: mark,
    }
