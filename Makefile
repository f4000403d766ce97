# Both `make demo` and `make test` do all their own set-up: they create .venv when it is not there and install into it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs
STAMP := $(VENV)/.installed

.PHONY: demo test quick long lint docs clean

demo: $(STAMP)
	$(BIN)/spectral-bench run --method spectralx --protocol whu_region --out $(OUT)

test: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup

quick: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow and not long"

long: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup -m long

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/pip install --quiet --editable ".[docs]"
	$(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) build *.egg-info

# The install is repeated only when the project's requirements change.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $(STAMP)
