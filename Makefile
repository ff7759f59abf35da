# Every target makes what it needs, from nothing. Only Python 3.11 or newer and make are needed.
PYTHON ?= python3
PY := .venv/bin/python
INSTALLED := .venv/installed
EXPERIMENTS = $(sort $(wildcard experiments/[a-z]*.py))

.PHONY: help install book test nightly colab lab serve pdf lint tidy vendor bench experiments \
	screenshots linkcheck assignments check-assignments grade repository clean distclean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

install: $(INSTALLED)  ## make .venv with all that the book needs
	@echo "Installed in .venv."

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(None if sys.version_info >= (3, 11) \
		else "Python 3.11 or newer is needed, and $(PYTHON) is " + v + ". Try: make PYTHON=python3.12 ...")'
	@test -x $(PY) && $(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || \
		{ echo "Making .venv failed. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(PY) -m pip install --disable-pip-version-check -r requirements.txt -e .
	@touch $@

book: $(INSTALLED)  ## execute the notebooks that changed and build the site
	@$(PY) tools/book.py

test: $(INSTALLED)  ## build the book (every notebook is a test), then run all other tests
	@$(PY) tools/book.py
	@$(PY) tools/browser.py
	$(PY) -m pytest tests

nightly: $(INSTALLED)  ## run the tests that take too long for every change
	$(PY) -m pytest tests -m nightly --ignore=tests/colab

colab: $(INSTALLED)  ## run every chapter and assignment as in Colab: its file alone, in a new environment
	$(PY) -m pytest tests/colab -m "nightly or not nightly" --durations=0 --durations-min=1

lab: $(INSTALLED)  ## open the chapters in JupyterLab
	$(PY) -m jupyter lab notebooks

serve: book  ## build the book and show it at http://localhost:8000
	$(PY) -m http.server --bind 127.0.0.1 --directory _build/html 8000

pdf: $(INSTALLED)  ## make the book as a PDF, where TeX is installed
	@$(PY) tools/pdf.py

lint: $(INSTALLED)  ## check the style of code and notebooks
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) tools/notebooks.py --check
	$(PY) tools/setup_cell.py --check
	$(PY) tools/vendor.py --check

tidy: $(INSTALLED)  ## put right what lint can: format, outputs, setup cells
	$(PY) tools/notebooks.py
	$(PY) tools/setup_cell.py
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

vendor: $(INSTALLED)  ## fetch again what is kept of npm's packages: MathJax, fonts
	$(PY) tools/vendor.py

bench: $(INSTALLED)  ## run every benchmark
	@ls benchmarks/*.py >/dev/null 2>&1 || echo "There is no benchmark yet."
	@set -e; for script in $(sort $(wildcard benchmarks/*.py)); do \
		echo "== $$script"; $(PY) $$script; done

experiments: $(INSTALLED)  ## list the experiments and run what is missing of them [ONLY=name]
	@for script in $(EXPERIMENTS); do \
		printf '  %-8s %s\n' "$$(basename $$script .py)" "$$(sed -n '1s/"""//gp' $$script)"; done
	@set -e; for script in $(if $(ONLY),$(ONLY:%=experiments/%.py),$(EXPERIMENTS)); do \
		echo "== $$script"; $(PY) $$script; done

assignments: $(INSTALLED)  ## make the coursework in dist: notebooks, solutions, graders [ONLY=name]
	@$(PY) tools/assignments.py make $(ONLY)

check-assignments: $(INSTALLED)  ## prove that the coursework grades as it should [ONLY=name]
	@$(PY) tools/assignments.py check $(ONLY)

grade: $(INSTALLED)  ## grade a class: make grade FROM=folder WITH=dist/NAME/autograder/NAME.zip TO=folder
	@$(PY) -m leaklib.course.grading $(FROM) --autograder $(WITH) --to $(TO)

screenshots: book  ## take pictures of the site, light, dark and narrow
	@$(PY) tools/screenshots.py

linkcheck: $(INSTALLED)  ## ask every link to another site whether it is alive
	@$(PY) tools/linkcheck.py

repository: $(INSTALLED)  ## set the address: make repository URL=https://... [BRANCH=main]
	@$(PY) tools/repository.py $(URL) $(BRANCH)

clean:  ## remove what was built
	rm -rf _build .book .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove .venv too
	rm -rf .venv
