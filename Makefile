# Ballast: `make run` starts it, `make test` tests it. Linux, Python 3.11+, Node 18+; no root, no docker.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# Where it is set every process compiles every module again: five seconds of processor each time one starts.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help run test test-long lint bench bench-simulator bench-engine-process bench-orders bench-deployment bench-depth bench-backtest bench-environment clean environment test-environment python

# 3.11 first: it is the version that every pinned package is tested with.
PYTHON ?= $(shell for name in python3.11 python3 python3.12 python3.13; do \
	path=$$(command -v $$name) && "$$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$path" && break; done)
BOOTSTRAP = "$(PYTHON)" -I platform_site/supervisor/bootstrap.py
# Three workers on two cores: a third of the tests' time is waiting for the processes that they start. More of them only
# wait for each other. A worker that has nothing left takes tests from the others.
PYTEST = .venv/bin/python -m pytest -p tests.services_plugin -n 3 --dist worksteal --durations 15

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: environment ## start everything and print the URL and the logins [PORT=8000] [MARKET=recording file]; Ctrl-C stops it
	@$(if $(PORT),export BALLAST_PORT="$(PORT)";) $(if $(MARKET),export MARKET="$(MARKET)";) exec .venv/bin/python -m platform_site.supervisor

test: test-environment ## run the whole test suite against real PostgreSQL, Valkey and simulator processes [ARGS=...]
	@# Kernels are compiled once, not by every process that the tests start: a minute each on a busy machine.
	@.venv/bin/python -m marketdata.engine & engine=$$!; .venv/bin/python -m strategies.kernels trading.backtest.kernels & strategies=$$!; \
		.venv/bin/python manage.py runsimulator --help >/dev/null && wait $$engine && wait $$strategies
	@$(PYTEST) $(ARGS)

test-long: test-environment ## run the long tests of processes that are killed, beside those of `make test`
	@.venv/bin/python -m marketdata.engine && .venv/bin/python -m strategies.kernels trading.backtest.kernels
	@$(PYTEST) -m long $(ARGS)

lint: test-environment ## check style (ruff), types (mypy) and the direction of imports (import-linter)
	@.venv/bin/ruff check .
	@.venv/bin/mypy .
	@.venv/bin/lint-imports

# One requirement after the other where they cannot all be had: the benchmark names the peers that are absent.
bench-environment: python
	@test -x .venv-bench/bin/python || "$(PYTHON)" -m venv .venv-bench
	@cmp -s requirements/bench.txt .venv-bench/installed.txt || { echo "==> Installing the peers of requirements/bench.txt"; \
		.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/bench.txt \
		|| while read -r each; do .venv-bench/bin/python -m pip install --quiet --disable-pip-version-check "$$each" \
		|| echo "==> Absent: $$each"; done < <(grep -v '^#' requirements/bench.txt); \
		cp requirements/bench.txt .venv-bench/installed.txt; }

bench: bench-environment ## measure the order-book engine beside its peers, on one core; the table goes to benchmarks/results [ARGS=...]
	@.venv-bench/bin/python benchmarks/bench_engine.py $(ARGS)

bench-backtest: bench-environment ## measure the backtester beside backtesting.py, vectorbt, nautilus and hftbacktest; the table goes to benchmarks/results [ARGS=...]
	@.venv-bench/bin/python benchmarks/bench_backtest.py $(ARGS)

bench-simulator: environment ## measure the exchange simulator: matching, REST, websockets, likeness to recorded markets
	@.venv/bin/python benchmarks/bench_simulator.py

bench-engine-process: test-environment ## measure a whole engine process: 100 symbols on loopback sockets, up to the highest rate it keeps up with [ARGS=...]
	@.venv/bin/python benchmarks/bench_engine_process.py $(ARGS)

bench-orders: test-environment ## measure the order path: signal to answer, 1 and 50 accounts, recovery after SIGKILL; the table goes to benchmarks/results [ARGS=...]
	@.venv/bin/python benchmarks/bench_orders.py $(ARGS)

bench-deployment: environment ## measure a whole deployment: seconds to start and stop, memory, how long orders take [ARGS=...]
	@.venv/bin/python benchmarks/bench_deployment.py $(ARGS)

bench-depth: test-environment ## measure depth analytics: bands, snapshots, packed days, rows stored, the API [ARGS=...]
	@.venv/bin/python benchmarks/bench_depth.py --api $(ARGS)

clean: ## remove what can be made again: .venv, node_modules, static/vendor, caches (never the data in var/)
	rm -rf .venv .venv-bench node_modules static/vendor .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

environment: python
	@$(BOOTSTRAP) run

test-environment: python
	@$(BOOTSTRAP) test

python:
	@test -n "$(PYTHON)" || { echo "Ballast cannot be set up: it needs Python 3.11 or newer, found $$(python3 --version 2>/dev/null || echo none): install it (Debian 12: apt-get install python3 python3-venv), or name one with PYTHON=." >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Ballast cannot be set up: $(PYTHON) is not Python 3.11 or newer." >&2; exit 2; }
