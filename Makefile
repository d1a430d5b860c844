# Everything one needs to work on preforkd, from a bare checkout with python3 and make. `make` alone prints this list.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv check format test demo soak bench clean

help: ## print this list
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.complete ## build .venv with pinned versions, where it is missing or outdated

$(VENV)/.complete: pyproject.toml requirements-dev.txt .ci/make-venv
	@.ci/make-venv "$(PYTHON)" $(VENV)
	@touch $@

check: venv ## format, lint, types, architecture and unit tests: under a minute, nothing is started
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/architecture tests/unit

format: venv ## rewrite the sources as ruff formats them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: venv ## every test; installs RabbitMQ and logrotate where they are missing (apt; root or sudo)
	@.ci/need-rabbitmq
	@.ci/need-logrotate
	$(BIN)/python -m pytest $(TESTS)

demo: venv ## a daemon on the embedded queue, and a fault drill on it; ends with the audit
	@$(BIN)/preforkd drill

soak: venv ## faults at random for as long as SECONDS says, and the audit
	$(BIN)/python benchmarks/soak.py --seconds $(or $(SECONDS),600)

bench: venv ## throughput, restart latency and footprint, beside peers in the same run
	@.ci/need-rabbitmq
	$(BIN)/python benchmarks/run.py

clean: ## remove what was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
