# The two commands a user needs are `make demo` and `make test`. Everything installs
# itself into .venv from constraints.txt; only Python >= 3.11 and make are assumed.

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
SOURCES := src tests bench scripts examples

.PHONY: demo test check lint types imports wheel bench lock format clean

demo: .venv/.demo
	@exec $(BIN)/onetape demo

test: .venv/.dev
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -q -n 2 --dist worksteal
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

check: lint types imports test wheel

lint: .venv/.dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

types: .venv/.dev
	$(BIN)/basedpyright

imports: .venv/.dev
	$(BIN)/lint-imports

# The wheel, installed alone in clean environments, is what users get.
wheel: .venv/.dev
	sh scripts/wheel_test.sh $(BIN)

bench: .venv/.dev
	$(BIN)/python -m bench

format: .venv/.dev
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# No registry's address may get into the lock.
lock: .venv/.uv
	$(UV) pip compile -q --universal --all-extras --generate-hashes --no-header --no-annotate \
		--upgrade pyproject.toml -o constraints.txt

clean:
	rm -rf .venv dist .coverage .coverage.* .pytest_cache .ruff_cache .hypothesis

# pip cannot take hashes from a constraints file for part of a lock; uv can.
.venv/.uv:
	@$(PYTHON) -c 'import sys; sys.exit("onetape needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==0.13.8
	@touch $@

.venv/.demo: .venv/.uv pyproject.toml constraints.txt
	@$(UV) pip install -q --python $(BIN)/python -c constraints.txt -e '.[gateway,simulator]'
	@touch $@

.venv/.dev: .venv/.uv pyproject.toml constraints.txt
	@$(UV) pip install -q --python $(BIN)/python -c constraints.txt -e '.[gateway,simulator,dev]'
	@touch $@ .venv/.demo
