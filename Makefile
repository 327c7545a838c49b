# Everything needs only Python 3.11 or newer with venv and pip, and make. The environment is made once, from the lock.
PYTHON ?= python3
JOBS   ?= 2
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Where it is set, every one of the thousands of programs that the tests start would compile its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-all sweep fuzz matrix check bench format docs screenshot lock sbom clean
.DELETE_ON_ERROR:

demo: $(READY)  ## the main job, on a sample database of an embedded PostgreSQL
	@$(BIN)/migrator demo

test: $(READY)  ## the test suite
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow" $(T)

test-slow: $(READY)  ## the slow sweeps, which the test suite leaves out
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m slow $(T)

test-all: test test-slow  ## the test suite, then the slow sweeps

sweep: $(READY)  ## kills at every fail point of every kind of run, and at N random moments; S=seed draws them again
	@$(BIN)/python -m tests.sweep --jobs $(JOBS) $(if $(N),--random $(N)) $(if $(S),--seed $(S))

fuzz: $(READY)  ## hostile input, many times more of it than in the suite
	@MIGRATOR_FUZZ=$(or $(N),50) $(BIN)/python -m pytest -n $(JOBS) --timeout 7200 \
	  tests/unit/test_hostile_input.py tests/integration/test_hostile_names.py

matrix: $(READY)  ## every fault, what is expected and what is seen: build/matrix.md
	@MIGRATOR_CUT_S=30 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -p tests.matrix.plugin $$($(BIN)/python -m tests.matrix)

check: $(READY)  ## lint, types, layers, workflows, the image's recipe, licences, pages that are stale
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/zizmor --offline --no-progress --quiet .
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-actions action.yml
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/python supply/licences.py
	@$(BIN)/python -m pytest tests/unit/test_docs.py tests/unit/test_reports_json.py

bench: $(READY)  ## a guarded run beside the plain script that it replaces, a backfill beside the single statement
	@$(BIN)/python benchmarks/guarded_run.py
	@$(BIN)/python benchmarks/backfill.py

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(READY)  ## the tables in docs/ and the report's schema, from the code
	@$(BIN)/python docs/tables.py
	@$(BIN)/python -c "from migrator.reports import json_report as j; j.SCHEMA_FILE.write_text(j.render_schema())"

screenshot: $(READY)  ## the README's picture of a report, by Debian's Chromium
	@$(BIN)/python docs/screenshot.py

lock: $(READY)  ## resolve both locks anew from pyproject.toml: requirements-run.lock is without what only tests need
	@$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet \
	  --group dev --extra embedded pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet \
	  --group build --extra embedded --constraint requirements.lock pyproject.toml -o requirements-run.lock

sbom: $(READY)  ## dist/sbom.json: what a user runs, as CycloneDX
	@$(BIN)/python supply/sbom.py

clean:
	rm -rf $(VENV) .migrator build dist

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
