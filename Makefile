# `make demo` and `make test` are all that a fresh machine needs: Python 3.10–3.12, g++, make and PyPI.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUN = $(BIN)/python runner.py

.PHONY: help demo test test-oldest test-newest coverage lint format sample doctor clean

help:
	@echo "make demo     train on the built-in sample, evaluate, predict, check the submission"
	@echo "make test     make the environment and run the tests"
	@echo "make test-oldest, make test-newest   the tests with the oldest, the newest packages that pyproject.toml allows"
	@echo "make coverage run the tests and report the lines and branches that none of them reaches"
	@echo "make lint     ruff, mypy, docstring coverage, file sizes"
	@echo "make format   let ruff format the code"
	@echo "make sample   measure the sample over five seeds, and renew results/ and the READMEs' figures"
	@echo "make doctor   what was found on this machine, and what to do about it"
	@echo "make clean    remove the environment, the drawn sample and all runs (not Jittor's compile cache)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' || \
	  { echo "error: $(PYTHON) is not Python 3.10, 3.11 or 3.12. Name one: make PYTHON=python3.11 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Installed packages are marked by a stamp that is newer than the list they came from.
$(VENV)/run.stamp: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: $(wildcard requirements*.txt) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@ $(VENV)/run.stamp

# Rules of accessibility, which the page is tested by; without npm that test is skipped.
$(VENV)/axe.stamp: | $(BIN)/python
	-npm install --silent --no-save --prefix $(VENV)/axe axe-core@4.14.1
	@touch $@

demo: $(VENV)/run.stamp
	$(RUN) --train --evaluate --predict result.txt --data sample
	$(RUN) --check result.txt --data sample
	@echo "pictures and tables: results/runs/"

# Jittor compiles its core before the tests share the cores: of two that start it at once, one would wait for nothing.
test: $(VENV)/dev.stamp $(VENV)/axe.stamp
	$(BIN)/python -c "from jclip_adapter import runtime; runtime.start('cpu')"
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup $(TESTS)

# In an environment of its own each; Jittor's compile cache is the usual one, which depends on neither.
test-oldest test-newest: test-%: $(VENV)/dev.stamp
	$(PYTHON) -m venv $(VENV)-$*
	$(BIN)/python -m tools.dependency_bounds $* > $(VENV)-$*/requirements.txt
	$(VENV)-$*/bin/python -m pip install --quiet --upgrade -r $(VENV)-$*/requirements.txt
	$(VENV)-$*/bin/python -c "from jclip_adapter import runtime; runtime.start('cpu')"
	$(VENV)-$*/bin/python -m pytest -n auto --maxprocesses 4 --dist loadgroup $(TESTS)

coverage: $(VENV)/dev.stamp $(VENV)/axe.stamp
	$(BIN)/python -c "from jclip_adapter import runtime; runtime.start('cpu')"
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --maxprocesses 4 --dist loadgroup $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under 95

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/interrogate --quiet jclip_adapter runner.py baseline.py
	$(BIN)/python -m tests.file_sizes

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

sample: $(VENV)/run.stamp
	$(BIN)/python -m benchmarks.sample_accuracy
	$(BIN)/python -m tools.sample.contact_sheet --out results/sample.png
	$(BIN)/python -m benchmarks.readme

doctor: $(VENV)/run.stamp
	$(RUN) --doctor

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest data/sample/photos results/runs results/features result.txt result.zip result.rejects.txt
