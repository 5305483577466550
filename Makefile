# make demo: Othello from its checkpoint to SAEs, plots and a report.  make test: everything that can be tested anywhere.
# make demo-franka: an arm that opens a drawer in a simulator, likewise.
# make demo-vla: a vision-language-action policy on LIBERO, likewise, on the demonstrations that come with the project.
# make test-all: what make test does, and what needs other tools' packages (8 GB of them) or a simulator.
# All set up all they need: Python 3.11 or newer, git and a package index are enough.

CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
REPORT := results/report.html
SNAKEMAKE := envs/run workflow snakemake

.PHONY: demo demo-franka demo-vla reproduce-franka reproduce-vla test test-all lint format figures figures-vla benchmark

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

FRANKA := results/franka/final
demo-franka:
	@envs/run core true & envs/run workflow true & envs/run franka true; wait
	@$(SNAKEMAKE) -j$(CORES) --quiet rules host -- results/franka/sources/demo/labels/drawer/index.json \
	    $(FRANKA)/activations/demo/index.json $(FRANKA)/sae/demo/index.json $(FRANKA)/correlations/demo/index.json \
	    $(FRANKA)/interventions/demo/index.json $(FRANKA)/circuits/demo/circuit.json $(FRANKA)/steering/demo/index.json
	@echo
	@echo "SAE sweep:        $(FRANKA)/sae/demo/actor_mlp_3/evaluation/scaling.png"
	@echo "Drawers opened:   $(FRANKA)/sae/demo/actor_mlp_3/topk_m512_k32/return.png"
	@echo "What it follows:  $(FRANKA)/correlations/demo/actor_mlp_3/heatmap.png"
	@echo "What it does:     $(FRANKA)/interventions/demo/actor_mlp_3/summary.txt, $(FRANKA)/circuits/demo/circuit.png"
	@echo "When it acts so:  $(FRANKA)/steering/demo/summary.txt"
	@echo "What it is:       docs/franka.md"

# Closed loops come last, where POLICYLENS_LIBERO_ASSETS names LIBERO's meshes: docs/libero.md.
VLA_SAMPLE := results/pi05_sample/final
demo-vla:
	@envs/run core true & envs/run workflow true & envs/run vla true; wait
	@$(SNAKEMAKE) -j$(CORES) --quiet rules host --configfile examples/vla/config.yaml -- \
	    results/pi05_sample/contrasts/catalog.json $(VLA_SAMPLE)/sae/instructions/index.json \
	    $(VLA_SAMPLE)/directions/instructions/index.json $(VLA_SAMPLE)/directions/decision/index.json $(VLA_SAMPLE)/ffn/language/clusters.json \
	    $(if $(POLICYLENS_LIBERO_ASSETS),$(VLA_SAMPLE)/steering/drawer/index.json)
	@echo
	@echo "Contrasts:        results/pi05_sample/contrasts/catalog.md, results/pi05_sample/contrasts/open_vs_close/axis.png"
	@echo "Directions:       $(VLA_SAMPLE)/directions/instructions/summary.txt, $(VLA_SAMPLE)/directions/instructions/cosines.png"
	@echo "FFN clusters:     $(VLA_SAMPLE)/ffn/language/clusters.html"
	@echo "$(if $(POLICYLENS_LIBERO_ASSETS),When it acts so:  $(VLA_SAMPLE)/steering/drawer/summary.txt,Closed loops:     left out; set POLICYLENS_LIBERO_ASSETS to LIBERO's meshes for them (docs/libero.md))"
	@echo "What it is:       docs/vla.md"

# The published Franka policy and its SAEs beside their published figures: docs/franka_published.md.
PUBLISHED := results/franka_eureka/published
reproduce-franka:
	@test -n "$(ASSETS)" || { echo "usage: make reproduce-franka ASSETS=<folder>; see docs/franka_published.md" >&2; exit 1; }
	@envs/run core true & envs/run workflow true; wait $$!
	@envs/run core python examples/franka_eureka/prepare.py --assets "$(ASSETS)" --out build/franka_eureka
	@$(SNAKEMAKE) -j$(CORES) --quiet rules host --configfile build/franka_eureka/config.yaml -- demo
	@envs/run core python examples/franka_eureka/compare.py --assets "$(ASSETS)" --results $(PUBLISHED)

# The statistics of the published VLA steering directions beside their published figures: docs/directions.md.
reproduce-vla:
	@test -n "$(ASSETS)" || { echo "usage: make reproduce-vla ASSETS=<folder>; see docs/directions.md" >&2; exit 1; }
	@envs/run core true & envs/run workflow true; wait $$!
	@envs/run core python examples/vla_published/prepare.py --assets "$(ASSETS)" --out build/vla_published
	@$(SNAKEMAKE) -j$(CORES) --quiet rules host --configfile build/vla_published/config.yaml -- demo
	@envs/run core python examples/vla_published/compare.py --results results/vla_published/published/directions/layer12

# A test that hangs ends after a quarter of an hour and says where it was.
test: lint
	@envs/run dev pytest -q -n $(CORES) --dist loadfile --timeout 900 tests

test-all: test
	@envs/run interop python -m pytest -q tests/interop
	@envs/run franka python -m pytest -q tests/test_franka_*.py
	@envs/run vla python -m pytest -q tests/test_vla_*.py

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
	@$(SNAKEMAKE) -j$(CORES) --quiet rules host -- $(foreach sweep,scaling architectures concepts learning_rate sites,$(SAE)/$(sweep)/index.json) \
	    results/othello/final/interventions/causal/index.json results/othello/final/correlations/causal/index.json \
	    $(FRANKA)/steering/pulling/index.json
	@mkdir -p docs/images
	@cp results/othello/final/correlations/causal/block_2/heatmap.png docs/images/correlations.png
	@cp results/othello/final/interventions/causal/block_2/matrices.png docs/images/interventions.png
	@cp $(FRANKA)/steering/pulling/frontier.png docs/images/steering.png
	@cp $(SAE)/demo/block_2/evaluation/fidelity.png docs/images/fidelity.png
	@cp $(SAE)/scaling/block_2/evaluation/scaling.png docs/images/scaling.png
	@cp $(SAE)/scaling/block_2/evaluation/scaling.json docs/scaling.json
	@cp $(SAE)/architectures/block_2/evaluation/pareto.png docs/images/pareto.png
	@cp $(SAE)/learning_rate/block_2/evaluation/learning_rate.png docs/images/learning_rate.png
	@cp $(SAE)/concepts/block_2/evaluation/concepts.png docs/images/concepts.png

# Those of docs/vla.md and the catalogue of contrasts. Needs LIBERO's meshes (docs/libero.md) and some hours on few cores.
VLA := results/pi05/final
figures-vla:
	@envs/run core true & envs/run workflow true & envs/run vla true; wait
	@$(SNAKEMAKE) -j$(CORES) --quiet rules host -- results/pi05/contrasts/catalog.json \
	    $(foreach block,instructions pictures decision,$(VLA)/directions/$(block)/index.json) \
	    $(foreach block,drawer drawer_latent drawer_words clusters,$(VLA)/steering/$(block)/index.json) $(VLA)/strength/standard/strength.json
	@envs/run core python examples/vla/task_pictures.py --source results/pi05/sources/demos --figure docs/images/vla_tasks.png
	@envs/run vla python examples/vla/where_is_the_instruction.py --checkpoint data/checkpoints/pi05/final \
	    --source results/pi05/sources/demos --frames 384 --figure docs/images/vla_where.png
	@cp $(VLA)/directions/pictures/cosines.png docs/images/vla_cosines.png
	@cp $(VLA)/steering/drawer/frontier.png docs/images/vla_steering.png
	@cp results/pi05/contrasts/catalog.md docs/contrast_catalog.md

benchmark:
	@envs/run core python benchmarks/capture.py
	@envs/run core python benchmarks/sae_training.py
	@envs/run core python benchmarks/interventions.py
