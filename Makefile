# The two commands are `make demo` and `make test`; `make help` lists the rest.

.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
# Debian packages the tests run as real programs.
TEST_PACKAGES := mosquitto postgresql procps prometheus sqlite3 systemd
# How many tests run side by side.
JOBS ?= 2
# How long `make soak` runs, in seconds.
DURATION ?= 3600

.PHONY: help venv demo test check bench fuzz soak image pin clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

venv: ## .venv with everything for development
	@tools/venv.sh dev

demo: ## meters, broker, service and subscriber, live; ARGS="--duration 15 --json" unattended
	@tools/venv.sh demo
	@exec .venv/bin/meterbridge demo $(ARGS)

test: ## all tests; ARGS="tests/unit -k hdlc" for some, JOBS=0 for one after the other
	@tools/venv.sh test
	@tools/debian.sh $(TEST_PACKAGES)
	@tools/gateway.sh
	@exec $(PY) -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

check: ## ruff, mypy --strict, import-linter
	@tools/venv.sh dev
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy --strict
	@.venv/bin/lint-imports --no-logo

bench: ## benchmarks, each says how long it took; ARGS="dlms" for some, FLEET_COUNTS=100 for a short fleet
	@tools/venv.sh test
	@tools/debian.sh $(TEST_PACKAGES)
	@tools/gateway.sh || echo "tb-gateway's storage will not be measured"
	@exec $(PY) -m benchmarks $(ARGS)

fuzz: ## the hypothesis tests with many more examples
	@tools/venv.sh test
	@exec $(PY) -m pytest -n $(JOBS) -m hypothesis --hypothesis-profile fuzz --timeout 0 $(ARGS)

soak: ## the long forms: chaos, delivery, tb-gateway, then the demo for DURATION seconds (3600); a verdict at the end
	@tools/venv.sh test
	@tools/debian.sh $(TEST_PACKAGES)
	@tools/gateway.sh
	@exec tools/soak.sh $(DURATION) $(ARGS)

COMPILE := ../$(PY) -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate \
	--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

# dev.txt first: it contains the others, so its versions bind theirs.
pin: ## requirements/*.txt anew from *.in; ARGS=--upgrade for newer versions
	@tools/venv.sh dev
	@cd requirements && $(COMPILE) $(ARGS) --output-file dev.txt dev.in
	@cd requirements && $(COMPILE) $(ARGS) --output-file gateway.txt gateway.in
	@cd requirements && for level in test demo base; do \
	  $(COMPILE) --constraint dev.txt --output-file $$level.txt $$level.in || exit 1; \
	done

clean: ## removes .venv, caches and builds; keeps data/
	@rm -rf .venv .venv-gateway .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
