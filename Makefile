# Everything one needs to work on preforkd, from a bare checkout with python3 and make. `make` alone prints this list.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Hundreds of daemons and commands start in a run: where the environment keeps them from caching what they compile
# (PYTHONDONTWRITEBYTECODE), each would compile preforkd again.
COMPILE := $(BIN)/python -m compileall -q supervisor workers tests/support

.DEFAULT_GOAL := help
.PHONY: help venv check format test package demo docs soak soak-fleet peers bench clean

help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.complete ## build .venv with pinned versions, where it is missing or outdated

$(VENV)/.complete: pyproject.toml requirements-dev.txt .ci/make-venv
	@.ci/make-venv "$(PYTHON)" $(VENV)
	@touch $@

check: venv ## format, lint, types, architecture and unit tests: under a minute, nothing is started
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(COMPILE)
	$(BIN)/python -m pytest -q -n 2 -o timeout_method=signal tests/architecture tests/unit  # no thread for each of 5,000

format: venv ## rewrite the sources as ruff formats them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: venv ## every test; installs RabbitMQ, databases, logrotate, systemd-nspawn, Chromium and so on where missing (apt; root or sudo)
	@.ci/need-rabbitmq
	@.ci/need-databases $(VENV)
	@.ci/need-logrotate
	@.ci/need-systemd
	@.ci/need-chromium
	@.ci/need-axe $(VENV)
	@.ci/need-promtool
	@.ci/need-tmux
	@.ci/need-debootstrap
	@$(COMPILE)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(or $(TESTS),--ignore=tests/package)

package: venv ## wheel and source distribution; the unit tests at both ends of the ranges of the dependencies
	$(BIN)/python -m pytest -n 2 tests/package

demo: venv ## a daemon on the embedded queue, and a fault drill on it; ends with the audit
	@$(BIN)/preforkd drill

docs: venv ## the site of documentation, in build/site; a link that leads nowhere fails it
	@.ci/docs $(VENV) build/site
	@echo "build/site/index.html"

# Test files that have a long form: they name the variable, or the crash points, which read it.
LONG_FORMS = $(shell grep -rlE 'PREFORKD_SOAK|support.crash_sites' tests --include='test_*.py')

soak: venv ## long forms of tests, then chaos on RabbitMQ 3.10 and 4.0 (root, an hour; SEED, MESSAGES, FAULTS), and the table
	@.ci/need-rabbitmq
	@.ci/need-databases $(VENV)
	@.ci/need-debootstrap
	PREFORKD_SOAK=$(or $(SEED),1) $(BIN)/python -m pytest -n 2 --dist loadfile --timeout 1800 $(LONG_FORMS)
	$(BIN)/python -m benchmarks.soak --seed $(or $(SEED),1) \
	    --messages $(or $(MESSAGES),100000) --faults $(or $(FAULTS),500)

soak-fleet: venv ## two and three hosts on one queue and one store under faults (root, an hour or two; SEED, MESSAGES, FAULTS), and the table
	@.ci/need-rabbitmq
	@.ci/need-databases $(VENV)
	@.ci/need-debootstrap
	$(BIN)/python -m benchmarks.soak_fleet --seed $(or $(SEED),1) \
	    --messages $(or $(MESSAGES),100000) --faults $(or $(FAULTS),500)

peers: venv ## preforkd, Celery and dramatiq under the same faults, and the table
	@.ci/need-rabbitmq
	$(BIN)/python -m benchmarks.chaos

bench: venv ## preforkd beside its peers, everything in one run of some 15 minutes (ONLY=SECTION,…), and the tables
	@.ci/need-rabbitmq
	$(BIN)/python -m benchmarks.bench $(if $(ONLY),--only $(ONLY))

clean: ## remove what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
