# Every target creates .venv and installs what it needs: `make demo` the package alone, `make test` the `test` extra too.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test

.PHONY: demo test quick long documented coverage lint docs clean

demo: $(STAMP)
	$(BIN)/spectral-bench run --method spectralx --protocol whu_region --out $(OUT)

test: $(TEST_STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup

quick: $(TEST_STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow and not long and not documented"

long: $(TEST_STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup -m long

documented: $(TEST_STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup -m documented

coverage: $(TEST_STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup --cov --cov-report=term --cov-report=xml

lint: $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/pip install --quiet --editable ".[docs]"
	$(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) build *.egg-info

# Installation is repeated only when pyproject.toml changes.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable .
	touch $(STAMP)

$(TEST_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $(TEST_STAMP)
