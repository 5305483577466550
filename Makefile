# make demo: Othello from its checkpoint to SAEs, plots and a report.  make test: everything that can be tested anywhere.
# make test-all: that, and what needs other tools' packages (2 GB of them).
# Both set up all they need: Python 3.11 or newer, git and a package index are enough.

CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
REPORT := results/report.html
SNAKEMAKE := envs/run workflow snakemake

.PHONY: demo test test-all lint format figures benchmark

demo:
	@envs/run core true & envs/run workflow true; wait $$!
	@$(SNAKEMAKE) -j$(CORES) --quiet rules host -- demo
	@if [ ! -f $(REPORT) ] || [ -n "$$(find results -name '*.png' -newer $(REPORT) | head -n 1)" ]; then \
	    $(SNAKEMAKE) --quiet all --report $(REPORT) -- demo; \
	fi
	@echo
	@echo "The report:       $(REPORT) (open it in a browser)"
	@echo "SAE sweep:        results/othello/final/sae/demo/block_2/evaluation/scaling.png"
	@echo "Activations:      results/othello/final/activations/demo/ (docs/formats.md; docs/notebooks.md)"
	@echo "What else is there: envs/run core python -m policylens paths"

test: lint
	@envs/run dev pytest -q -n $(CORES) --dist loadfile tests

test-all: test
	@envs/run interop python -m pytest -q tests/interop

lint:
	@envs/run workflow true & envs/run core true & envs/run dev true; wait
	@envs/run dev ruff check --quiet .
	@envs/run dev ruff format --check --quiet .
	@envs/run dev snakefmt --check Snakefile rules
	@envs/run workflow snakemake --lint >/dev/null

format:
	@envs/run dev ruff check --fix --quiet .
	@envs/run dev ruff format --quiet .
	@envs/run dev snakefmt Snakefile rules

# The figures of docs/, made by the workflow's rules from the sweeps named in config.yaml: a long run on few cores.
SAE := results/othello/final/sae
figures: demo
	@$(SNAKEMAKE) -j$(CORES) --quiet rules host -- $(foreach sweep,scaling architectures concepts learning_rate sites,$(SAE)/$(sweep)/index.json)
	@mkdir -p docs/images
	@cp $(SAE)/demo/block_2/evaluation/fidelity.png docs/images/fidelity.png
	@cp $(SAE)/scaling/block_2/evaluation/scaling.png docs/images/scaling.png
	@cp $(SAE)/scaling/block_2/evaluation/scaling.json docs/scaling.json
	@cp $(SAE)/architectures/block_2/evaluation/pareto.png docs/images/pareto.png
	@cp $(SAE)/learning_rate/block_2/evaluation/learning_rate.png docs/images/learning_rate.png
	@cp $(SAE)/concepts/block_2/evaluation/concepts.png docs/images/concepts.png

benchmark:
	@envs/run core python benchmarks/capture.py
	@envs/run core python benchmarks/sae_training.py
