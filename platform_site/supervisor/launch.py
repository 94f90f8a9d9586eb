"""One start of the whole platform, from an empty folder to a healthy site, and its orderly end."""

from __future__ import annotations

import time

from marketdata.engine.kernel_cache import ENGINE
from platform_site import deployment
from platform_site.supervisor import embedded
from platform_site.supervisor.banner import LOGINS, banner, read_logins
from platform_site.supervisor.child import Child
from platform_site.supervisor.configuration import Configuration
from platform_site.supervisor.console import Console
from platform_site.supervisor.data_folder import DataFolder
from platform_site.supervisor.external import require_cache, require_database
from platform_site.supervisor.health import Health, answers, ask_health
from platform_site.supervisor.keys import Keys, load_keys
from platform_site.supervisor.leftovers import mark_of, stop_leftovers
from platform_site.supervisor.plan import Plan, child_environment
from platform_site.supervisor.ports import require_free
from platform_site.supervisor.postgres import EmbeddedPostgres
from platform_site.supervisor.refusals import StartRefused, StopRequested
from platform_site.supervisor.supervision import Supervisor
from platform_site.supervisor.valkey import EmbeddedValkey
from strategies.kernel_cache import STRATEGIES, cache_of

RECORD = "supervisor.json"
BACKTEST_KERNELS = "trading/backtest/kernels"
SERVER_SECONDS = 60.0
COMMAND_SECONDS = 180.0
# The first engine on a slow machine compiles its kernels for up to a minute.
HEALTH_SECONDS = 150.0


class Launch:
    """Owns the data folder while it lives. StartRefused says in a sentence why a start cannot go on."""

    def __init__(self, configuration: Configuration, console: Console) -> None:
        self._began = time.monotonic()
        self._configuration = configuration
        self._console = console
        self._folder = DataFolder(configuration.data_folder)
        self._mark = mark_of(configuration.data_folder)
        self._supervisor = Supervisor(console, configuration.data_folder / RECORD)

    def run(self) -> None:
        """Returns after somebody asked for the end and everything has ended."""
        self._folder.lock()
        self._supervisor.listen_to_signals()
        try:
            if ended := stop_leftovers(self._mark):
                self._console.event("ballast", f"ended {ended} processes left by an earlier start")
            self._require_ports()
            self._require_servers()
            self._start()
            self._supervisor.watch()
        except StopRequested:
            self._console.event("ballast", "stopping")
        finally:
            self._supervisor.stop()
            self._folder.unlock()
        self._console.event("ballast", "everything has stopped")

    def _require_ports(self) -> None:
        configuration = self._configuration
        require_free(configuration.web_port, "web site", "BALLAST_PORT (make run PORT=...)")
        if not configuration.database_url:
            require_free(configuration.postgres_port, "embedded PostgreSQL", "BALLAST_POSTGRES_PORT")
        if not configuration.redis_url:
            require_free(configuration.valkey_port, "embedded Valkey", "BALLAST_VALKEY_PORT")
        if configuration.runs_simulator:
            require_free(configuration.simulator_port, "exchange simulator", "SIMULATOR_URL (http://127.0.0.1:PORT)")
        require_free(configuration.paper_port, "paper venue", "PAPER_URL (http://127.0.0.1:PORT)")

    def _require_servers(self) -> None:
        if self._configuration.database_url:
            require_database(self._configuration.database_url)
        if self._configuration.redis_url:
            require_cache(self._configuration.redis_url)

    def _start(self) -> None:
        configuration, folder, supervisor = self._configuration, self._folder, self._supervisor
        keys = load_keys(folder, has_data=embedded.has_database(folder))
        database = None if configuration.database_url else self._start_postgres(keys)
        cache = None if configuration.redis_url else self._start_valkey(keys)
        plan = self._plan(keys, database, cache)
        # Imports take seconds on a small machine: the simulator needs no database and starts beside the migrations.
        simulator = supervisor.start(plan.simulator()) if configuration.runs_simulator else None
        # Without it the accounts on paper would not be well. It follows the simulator in the demo, where that answers.
        supervisor.start(plan.paper())
        # The first time it takes as long as everything else together.
        wanted = ((ENGINE, plan.kernels()), (STRATEGIES, plan.strategy_kernels()))
        kernels = [supervisor.begin(spec) for cache, spec in wanted if not cache.is_filled()]
        self._prepare_database(plan, database)
        for spec in (plan.web(), plan.worker(), plan.research(), plan.beat()):
            supervisor.start(spec)
        for compiling in kernels:
            supervisor.await_end(compiling, HEALTH_SECONDS)
        for spec in plan.engines():
            supervisor.start(spec)
        health = self._wait_for_health(simulator)
        # Nobody has to wait for this one before he may log in.
        supervisor.start(plan.depth_collector())
        self._announce(health)
        self._compile_backtests(plan)

    def _start_postgres(self, keys: Keys) -> tuple[EmbeddedPostgres, Child]:
        server = embedded.make_postgres(self._folder, self._configuration.postgres_port, keys.postgres_password)
        if server.home.parent != self._folder.path:
            self._console.event(
                "postgres", f"runs as nobody, who cannot enter the data folder; data is in {server.home}"
            )
        child = self._supervisor.start(embedded.marked(server.child(self._folder.logs / "postgres.log"), self._mark))
        return server, child

    def _start_valkey(self, keys: Keys) -> tuple[EmbeddedValkey, Child]:
        server = embedded.make_valkey(self._folder, self._configuration.valkey_port, keys.valkey_password)
        child = self._supervisor.start(embedded.marked(server.child(self._folder.logs / "valkey.log"), self._mark))
        return server, child

    def _plan(
        self, keys: Keys, database: tuple[EmbeddedPostgres, Child] | None, cache: tuple[EmbeddedValkey, Child] | None
    ) -> Plan:
        configuration = self._configuration
        if database is not None:
            self._supervisor.require_ready(database[1], database[0].is_ready, SERVER_SECONDS)
        if cache is not None:
            self._supervisor.require_ready(cache[1], cache[0].is_ready, SERVER_SECONDS)
        database_url = database[0].url(embedded.DATABASE) if database else configuration.database_url
        redis_url = cache[0].url() if cache else configuration.redis_url
        environment = child_environment(configuration, keys, database_url, redis_url, self._mark)
        self._folder.write_json(deployment.FILE, {name: environment[name] for name in deployment.SHARED})
        return Plan(configuration, environment, self._folder.logs)

    def _prepare_database(self, plan: Plan, database: tuple[EmbeddedPostgres, Child] | None) -> None:
        if database is not None and database[0].create_database(embedded.DATABASE):
            self._console.event("postgres", f"created the database {embedded.DATABASE}")
        self._console.event("ballast", "bringing the database up to date")
        self._supervisor.run_to_end(plan.command("prepare_database"), COMMAND_SECONDS)

    def _wait_for_health(self, simulator: Child | None) -> Health:
        configuration, supervisor = self._configuration, self._supervisor
        if simulator is not None:
            port = configuration.simulator_port
            supervisor.require_ready(simulator, lambda: answers(port, "/v5/market/time"), SERVER_SECONDS)
        self._console.event("ballast", "waiting until every component is well")
        supervisor.wait_until(lambda: ask_health(configuration.web_port).is_ok, HEALTH_SECONDS, pause=0.5)
        return ask_health(configuration.web_port)

    def _compile_backtests(self, plan: Plan) -> None:
        """While people log in: otherwise the first backtest would wait for it."""
        if cache_of(self._configuration.repository / BACKTEST_KERNELS).is_filled():
            return
        try:
            self._supervisor.run_to_end(plan.backtest_kernels(), COMMAND_SECONDS)
        except StartRefused as refusal:
            # The first backtest compiles what is missing, or says why it cannot.
            self._console.event("backtest-kernels", str(refusal))

    def _announce(self, health: Health) -> None:
        configuration = self._configuration
        logins = read_logins(self._folder.path / LOGINS)
        seconds = time.monotonic() - self._began
        self._console.lines(
            banner(configuration.web_port, configuration.exchange, health, logins, self._folder.logs, seconds)
        )
