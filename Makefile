# Every command of the project. `make demo` and `make test` set up all they need, in .venv; nothing is
# installed outside it. Needs a CPython >= 3.11 with headers, a C compiler and network access to PyPI.
#
#   make test ARGS="-k hub -x"      arguments for the command behind a target
#   make test PYTHON=python3.12     another interpreter (.venv is made anew when it changes)
#   make test VENV=.venv-3.12       another environment, to keep several

PYTHON ?=
VENV ?= .venv
ARGS ?=
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

BASE_PIP := pip==26.3
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PY := $(BIN)/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check

# Asked only when a target builds: `make help` and `make clean` work without a Python.
ifneq ($(filter-out help clean,$(or $(MAKECMDGOALS),help)),)
BASE := $(shell tools/find-python $(PYTHON))
ifeq ($(BASE),)
$(error no Python to build with, see above)
endif
TAG := $(shell $(BASE) -c "import sys, sysconfig; print(sys.implementation.cache_tag + '-' + sysconfig.get_platform())")
endif

# --- stamps: what has been done, named after what it was done with --------------------------------------
# The package is used in place: .venv holds a path file to src/, .py files are live, and compiled modules are built
# beside their sources. (An editable install by pip is the same thing, but compiles every module at each change.)
# The build stamp depends on all that is compiled. Its name holds the interpreter, the switches and the list of
# sources, so that no other build passes for this one; it lives in build/, which setup.py empties when a switch, a
# pin or a flag changes.
PYX := $(sort $(wildcard src/deli_com/*.pyx src/deli_com/*/*.pyx))
COMPILED := $(PYX) $(wildcard src/deli_com/*.pxd src/deli_com/*/*.pxd src/deli_com/*.h src/deli_com/*/*.h) setup.py pyproject.toml
SWITCHES := $(DELI_COM_DEBUG)-$(DELI_COM_TRACE)-$(DELI_COM_SANITIZE)-$(DELI_COM_NO_SENDMSG)-$(DELI_COM_ANNOTATE)
SUM := $(firstword $(shell echo $(PYX) $(SWITCHES) | cksum))
MADE := $(VENV)/.made-$(TAG)
READY := $(VENV)/.ready-$(TAG)
BUILT := build/built-$(TAG)-$(SUM)

$(MADE):
	@echo "making $(VENV) with $(BASE)"
	@$(BASE) -m venv --clear $(VENV)
	@$(PIP) "$(BASE_PIP)"
	@touch $@

# One stamp a dependency group; a changed pyproject.toml asks pip again.
$(VENV)/.group-%: $(MADE) pyproject.toml
	@echo "installing what '$*' needs"
	@$(PIP) --group $*
	@touch $@

$(READY): $(MADE) $(VENV)/.group-build
	@$(PIP) $$($(PY) tools/use_in_place.py)
	@touch $@

$(BUILT): $(READY) $(COMPILED)
	@echo "building the extensions"
	@$(PY) setup.py --quiet build_ext --inplace > $(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }
	@mkdir -p build && touch $@

# --- using it ---------------------------------------------------------------------------------------------
.PHONY: help build test demo demo-cluster docs lint lint-configuration format types stubs check bench bench-smoke bench-instructions \
	bench-instructions-held bench-instructions-refresh bench-micro conformance fuzz test-schema test-gen soak soak-faults soak-backplane soak-kills cov debug asan annotate sdist wheel wheels test-wheel try-wheel canary smoke rehearse clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

build: $(BUILT) ## compile the extensions in place, into the editable install of .venv

test: $(BUILT) $(VENV)/.group-test ## the test suite (ARGS="-k name")
	$(PY) -m pytest $(ARGS)

demo: $(BUILT) $(VENV)/.group-demo ## this machine's telemetry at 100 Hz to client processes (ARGS="--seconds 30 --clients 8")
	@$(PY) -m deli_com demo $(ARGS)

demo-cluster: $(BUILT) $(VENV)/.group-test ## two servers, a NATS server, a relay, 200 clients (ARGS="--seconds 30")
	@$(PY) examples/cluster/cluster.py $(ARGS)

docs: $(BUILT) $(VENV)/.group-docs $(VENV)/.group-test ## the documentation as a static site in build/site; warnings are errors
	$(BIN)/properdocs build --strict
	DELI_COM_SITE=build/site $(PY) -m pytest -q tests/docs/test_site.py

# --- judging it -------------------------------------------------------------------------------------------
lint: $(MADE) $(VENV)/.group-lint lint-configuration ## formatting, lint of .py and .pyx, spelling, configuration against its schemas
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint src
	$(BIN)/codespell

# By the schemas that the two packages carry: nothing is fetched.
lint-configuration: $(MADE) $(VENV)/.group-lint
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows $(wildcard .github/workflows/*.yml)
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/validate-pyproject pyproject.toml

format: $(MADE) $(VENV)/.group-lint ## rewrite .py files in the project's format
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

types: $(BUILT) $(VENV)/.group-lint ## mypy --strict and pyright strict
	$(PY) -m mypy src/deli_com setup.py tools $(wildcard tests/typing/*.py)
	$(BIN)/pyright --pythonpath $(PY)
	@for folder in $(sort $(dir $(wildcard examples/*/*.py))); do echo "mypy --strict $$folder"; (cd $$folder && \
		MYPYPATH=$(abspath src) $(abspath $(PY)) -m mypy --strict --python-version 3.11 \
		--cache-dir $(abspath .mypy_cache) *.py) || exit 1; done

stubs: $(BUILT) $(VENV)/.group-lint ## the stubs against the compiled modules
	$(PY) -m mypy.stubtest deli_com $(if $(wildcard tests/typing/stubtest.allow),--allowlist tests/typing/stubtest.allow)

conformance: $(BUILT) $(VENV)/.group-conformance ## Autobahn's cases against both ends (RFC 6455)
	$(PY) -m pytest tests/conformance $(ARGS)

fuzz: $(BUILT) $(VENV)/.group-fuzz ## mutated messages and schema texts, each for a minute (ARGS="-max_total_time=600")
	$(PY) tests/fuzz/fuzz_decode.py $(or $(ARGS),-max_total_time=60)
	$(PY) tests/fuzz/fuzz_schema.py $(or $(ARGS),-max_total_time=60)

# The suite runs a share of these; the counts are those of tests/unit/test_schema_oracle.py.
test-schema: $(BUILT) $(VENV)/.group-test ## 10^5 pairs of types against the oracle of resolution, 10^4 types loaded
	DELI_COM_PAIRS=100000 DELI_COM_TYPES=10000 $(PY) -m pytest --timeout=7200 tests/unit/test_schema_oracle.py $(ARGS)

# The suite runs a share of these. Node, npm, Chromium, rustc with rustfmt and g++ must be there: a test without its tool is
# skipped, and fails here.
test-gen: $(BUILT) $(VENV)/.group-test ## generated code, and readers of recordings, of 200 schemas against Python: 10^5 inputs each
	DELI_COM_GEN_FULL=1 $(PY) -m pytest --timeout=7200 tests/gen tests/examples/test_rover.py tests/unit/test_recording_readers.py $(ARGS)

soak: $(BUILT) $(VENV)/.group-test ## 10^5 connects and an hour's messages: nothing may grow (ARGS="--kind tcp")
	$(PY) tests/soak/soak.py $(ARGS)

soak-faults: $(BUILT) $(VENV)/.group-test ## 1,000 connections with faults at random for 60 s (ARGS="--kind tcp --tls")
	$(PY) tests/soak/faults.py $(ARGS)

soak-kills: $(BUILT) $(VENV)/.group-test ## kill -9 of 200 recorded servers: what is lost of the files (ARGS="--kills 20")
	$(PY) tests/soak/kills.py $(ARGS)

soak-backplane: $(BUILT) $(VENV)/.group-test ## each fault of a backplane 20 times against nats-server (ARGS="--only paused")
	$(PY) tests/soak/backplane.py $(ARGS)

check: lint types stubs test ## all of the above

bench: $(BUILT) $(VENV)/.group-bench ## the benchmarks; read bench/README.md first
	$(PY) bench/run.py $(ARGS)

bench-smoke: $(BUILT) $(VENV)/.group-bench ## every benchmark, briefly: for crashes, not for figures
	$(PY) bench/run.py --smoke $(ARGS)

bench-instructions: $(BUILT) $(VENV)/.group-bench ## instructions a call, by valgrind (ARGS="--json a.json", ARGS="--against a.json")
	$(PY) bench/instructions.py $(ARGS)

bench-instructions-held: $(BUILT) $(VENV)/.group-bench ## the same against bench/instructions.json: more than is held is an error
	$(PY) bench/instructions.py --held $(ARGS)

bench-instructions-refresh: $(BUILT) $(VENV)/.group-bench ## hold what is measured now (ARGS="'send and recv'" for one workload)
	$(PY) bench/instructions.py --refresh $(ARGS)

bench-micro: $(BUILT) $(VENV)/.group-bench ## what one call costs (ARGS="--benchmark-json=micro.json")
	$(PY) -m pytest bench/test_micro.py $(ARGS)

# --- other builds of the same tree -----------------------------------------------------------------------
# A switch is a variable: make test DELI_COM_DEBUG=1. Each build replaces the last one in place, and the next
# target without the switch builds anew. DELI_COM_NO_SENDMSG=1 writes as systems without sendmsg() do (Windows).
debug: ## the suite with bounds checks and _check() on
	$(MAKE) --no-print-directory test DELI_COM_DEBUG=1

annotate: ## Cython's html beside each source: yellow lines call Python
	$(MAKE) --no-print-directory build DELI_COM_ANNOTATE=1

cov: $(VENV)/.group-cov ## line and branch coverage of .py and .pyx
	$(MAKE) --no-print-directory build DELI_COM_TRACE=1
	$(PY) -m coverage run -m pytest $(ARGS)
	$(PY) -m coverage report

# The frame path and the handshake meet bytes from outside over real sockets, by a generator and by fault tests.
FAULTS := tests/fuzz tests/net/test_hostile.py tests/net/test_inbound.py tests/net/test_full_buffers.py \
	tests/net/test_failing_calls.py tests/net/test_memory_runs_out.py tests/net/test_large_frames.py \
	tests/net/test_recycler.py

# PYTHONMALLOC=malloc: in pymalloc's arenas an overflow is no error. No leak check: CPython leaks by design at exit.
# --capture=sys: the report of a sanitizer, which ends the process, would be lost in pytest's captured stderr.
asan: $(VENV)/.group-test ## units, fuzzed frames and faults under address and UB sanitizers (Linux, gcc)
	$(MAKE) --no-print-directory build DELI_COM_SANITIZE=1 DELI_COM_DEBUG=1
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc \
	DELI_COM_TEST_SLOW=$${DELI_COM_TEST_SLOW:-4} \
	$(PY) -m pytest --capture=sys --timeout=300 tests/unit $(FAULTS) $(ARGS)

# --- shipping it ------------------------------------------------------------------------------------------
DIST ?= dist

sdist: $(READY) $(VENV)/.group-dist ## the source distribution, in dist
	@rm -rf $(DIST)
	$(PY) -m build --sdist --no-isolation --outdir $(DIST) . > $(VENV)/sdist.log 2>&1 || { cat $(VENV)/sdist.log; exit 1; }
	$(PY) tools/contents.py $(DIST)/*

wheel: sdist ## the wheel of this interpreter, built from the sdist and checked
	$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(DIST) $(DIST)/*.tar.gz
	$(PY) -m twine check --strict $(DIST)/*
	$(PY) -m check_wheel_contents $(DIST)/*.whl
	$(PY) tools/contents.py $(DIST)/*
	@case "$(TAG)" in *linux*) $(PY) -m auditwheel show $(DIST)/*.whl ;; esac

wheels: sdist $(VENV)/.group-wheels ## the wheels of every supported CPython, by cibuildwheel (Linux: needs docker)
	$(PY) -m cibuildwheel --output-dir $(DIST) $(DIST)/*.tar.gz

# Run from elsewhere: in this directory the tree's own package would be found first.
# In the sdist's own directory: no git, no compiled module beside the sources, and the tests are those that were shipped.
# DELI_COM_TEST_INSTALLED makes conftest.py refuse any other package than the one in the environment.
WHEEL_ENV := build/wheel-$(TAG)
WHEEL_TREE := build/sdist-$(TAG)
test-wheel: wheel ## the wheel in an environment of its own, judged by the sdist's tests (ARGS="tests/net")
	@$(MAKE) --no-print-directory try-wheel

try-wheel: ## the same, of the wheel that is in dist
	@rm -rf $(WHEEL_ENV) $(WHEEL_TREE) && mkdir -p $(WHEEL_TREE)
	@$(BASE) -m venv $(WHEEL_ENV)
	@$(WHEEL_ENV)/$(notdir $(BIN))/python -m pip install --quiet --disable-pip-version-check "$(BASE_PIP)"
	@$(WHEEL_ENV)/$(notdir $(BIN))/python -m pip install --quiet --disable-pip-version-check $(DIST)/*.whl --group build --group test
	tar -xzf $(DIST)/*.tar.gz -C $(WHEEL_TREE) --strip-components=1
	cd $(WHEEL_TREE) && DELI_COM_TEST_INSTALLED=1 $(abspath $(WHEEL_ENV))/$(notdir $(BIN))/python -m pytest \
		$(or $(ARGS),tests/unit tests/typing)

# Pins move in a copy of the tree, to the newest that the index has.
CANARY := build/canary
canary: sdist ## whether the newest picows and aiofastnet will do: the tests of what is compiled against them
	@rm -rf $(CANARY) && mkdir -p $(CANARY) && tar -xzf $(DIST)/*.tar.gz -C $(CANARY) --strip-components=1
	@for name in picows aiofastnet; do \
		newest=$$($(PY) -m pip index versions $$name 2> /dev/null | sed -nE '1s/.*\((.*)\)/\1/p'); \
		test -n "$$newest" || { echo "the index has no $$name"; exit 1; }; \
		echo "newest $$name: $$newest"; \
		sed -i.before "s/$$name==[0-9.]*\*\{0,1\}/$$name==$$newest/g" $(CANARY)/pyproject.toml; \
	done
	$(MAKE) --no-print-directory -C $(CANARY) test PYTHON=$(BASE) VENV=.venv ARGS="tests/unit tests/net/test_picows_contract.py"

smoke: wheel ## install the wheel in an empty environment and make a round trip
	@rm -rf build/smoke && $(BASE) -m venv build/smoke
	build/smoke/$(notdir $(BIN))/python -m pip install --quiet --disable-pip-version-check $(DIST)/*.whl
	cd build/smoke && $(notdir $(BIN))/python -W error -c "import deli_com"
	cd build/smoke && $(notdir $(BIN))/python -W error ../../tools/smoke.py

rehearse: wheel ## the wheel in an empty environment, with what the index gives for it: the README's programs
	$(PY) tools/rehearse.py $(DIST)/*.whl

clean: ## remove what was built, the environments included
	rm -rf build dist .venv .venv-* .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage
	rm -rf src/*.egg-info
	find src \( -name '*.so' -o -name '*.pyd' -o -name '*.html' -o -name '*.c' \) -delete
	find . -name __pycache__ -prune -exec rm -rf {} +
