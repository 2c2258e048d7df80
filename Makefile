# The contributor's interface. `make demo` and `make test` are all that a newcomer needs: each installs what is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CONSTRAINED := pip install --disable-pip-version-check --constraint constraints.txt
BUILD_TOOLS := torch numpy cython 'setuptools>=77,<81' wheel
WHEEL := build/wheel

.DEFAULT_GOAL := help
.PHONY: help install demo multi30k test test-fast wheel bench docs lint format clean

help: ## what there is to make
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1|/' | \
		while IFS='|' read -r target text; do printf '  make %-10s %s\n' "$$target" "$$text"; done

install: $(INSTALLED) ## .venv with everything (torch and the build tools first, then fairseq; minutes, once)

# fairseq-fixed is built against the torch that is there: with build isolation pip would fetch a second one with CUDA.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V); give another: make PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/$(CONSTRAINED) $(BUILD_TOOLS)
	$(BIN)/$(CONSTRAINED) --no-build-isolation fairseq-fixed
	$(BIN)/$(CONSTRAINED) --no-build-isolation --editable '.[dev]'
	touch $@

demo: $(INSTALLED) ## generate a corpus; train, average, translate and score four norms; print the table (minutes)
	scripts/run_recipe.sh --recipe demo_de_en

multi30k: $(INSTALLED) ## four norms on Multi30k, real text (over an hour on two cores); FROM=DIR for a copy at hand
	scripts/run_recipe.sh --recipe multi30k_de_en --norm layer,batch,pn-v,power \
		$(if $(FROM),--from $(FROM))

# One worker more than cores: tests of whole recipes wait now and then.
PYTEST = $(BIN)/python -m pytest --numprocesses $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## the whole suite
	$(PYTEST)

test-fast: $(INSTALLED) ## without what is marked slow
	$(PYTEST) -m "not slow"

wheel: $(INSTALLED) ## the wheel, in build/wheel; installed in an environment of its own, it runs a recipe in an empty folder
	rm -rf build
	$(BIN)/pip wheel --disable-pip-version-check --quiet --no-build-isolation --no-deps --wheel-dir $(WHEEL) .
	$(PYTHON) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/$(CONSTRAINED) --quiet $(BUILD_TOOLS)
	$(WHEEL)/venv/bin/$(CONSTRAINED) --quiet --no-build-isolation fairseq-fixed
	$(WHEEL)/venv/bin/$(CONSTRAINED) --quiet $(WHEEL)/*.whl
	mkdir $(WHEEL)/empty
	cd $(WHEEL)/empty && ../venv/bin/powernorm-run --version && ../venv/bin/powernorm-run --recipe smoke_de_en

bench: $(INSTALLED) ## norms, training steps and decoding against LayerNorm, into results/benchmarks (a quarter of an hour; idle cores)
	$(BIN)/python benchmarks/bench_norms.py --output results/benchmarks/norms_cpu --force
	$(BIN)/python benchmarks/plot.py --input results/benchmarks/norms_cpu
	$(BIN)/python benchmarks/bench_norms.py --tokens 4096 --channels 512 --padding yes \
	    --backends kernels plain compiled --output results/benchmarks/routes_cpu --force
	for run in 1 2; do $(BIN)/python benchmarks/bench_norms.py --tokens 5 80 512 4096 --channels 512 --padding yes \
	    --norms power "power (groups)" --backends kernels --rounds 100 --warmup 10 \
	    --output results/benchmarks/usual_sizes_cpu_$$run --force || exit 1; done
	$(BIN)/python benchmarks/bench_train_step.py --output results/benchmarks/train_step_cpu --force
	$(BIN)/python benchmarks/bench_decode.py --output results/benchmarks/decode_cpu --force

docs: $(INSTALLED) ## the documentation as a site, in site/; a warning is an error
	$(BIN)/$(CONSTRAINED) --quiet --no-build-isolation --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --quiet

lint: $(INSTALLED) ## ruff, mypy and shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck -x scripts/*.sh tests/integration/*.sh .ci/run

format: $(INSTALLED) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove data, runs and caches; .venv stays
	rm -rf data data-bin runs .pytest_cache .ruff_cache .hypothesis
