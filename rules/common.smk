"""What all rules share: the checked config, paths, environments, code digests, and how a run begins and ends."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from policylens.errors import UserError
from policylens.project.circuits import splits_of, traced_settings
from policylens.policies.family import DISTURBANCE, DIVERGENCE
from policylens.project.closure import digest
from policylens.project.config import CLOSED_LOOP, EXAMPLES, Config, parsed
from policylens.project.contrasts import slices_of
from policylens.project.datasets import meta_files
from policylens.ffn.patterns import matching
from policylens.project.ffn import PROBED, RECORDED, part_of
from policylens.project.directions import VECTORS, files_of_pair
from policylens.project.interventions import own_settings, phase_options, sweep_and_member
from policylens.project.paths import CONSTRAINTS, beside_members, check_targets, headline_paths, template
from policylens.project.pins import digest as digest_of_pins
from policylens.project.slices import concept_map_path, files_of
from policylens.project.steering import steering_labels
from policylens.project.sweeps import (
    IMPORT,
    import_options,
    import_path,
    label_sets_of_rows,
    learning_rates_to_compare,
    something_to_compare,
    trained_members,
)
from rules import failures, masking, records

# A config file given on the command line stands in config.yaml's place; Snakemake alone would mix the two.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


ROOT = Path(workflow.basedir)
SCRIPTS = ROOT / "workflow_scripts"


try:
    for path in workflow.configfiles:
        parsed(path)  # more strictly than Snakemake has read it
    CONFIG = Config(config, ", ".join(str(path) for path in workflow.configfiles))
    check_targets(CONFIG, sys.argv[1:])  # the Snakefile is read before Snakemake knows its targets
except UserError as error:
    sys.exit(f"error: {error}")


masking.lift()
records.recover(workflow)
failures.announce(workflow)


def run(script):
    """The start of a shell command: a script of workflow_scripts/ in the environment that the job's params name."""
    return f"exec {ROOT}/envs/run {{params.environment}} python {SCRIPTS}/{script}"


def core(wildcards):
    return "core"


def of_family(wildcards):
    """The environment that holds the policy's code."""
    return CONFIG[wildcards.policy].family.environment


def of_simulator(wildcards):
    """The environment that holds the policy's code and its simulator."""
    family = CONFIG[wildcards.policy].family
    return family.simulator or family.environment


def of_source(wildcards):
    """Recording needs the simulator where a policy plays, and none where a file is imported or a dataset read."""
    if "dataset" in source_block(wildcards):
        return "core"
    return (of_family if "import" in source_block(wildcards) else of_simulator)(wildcards)


def conda_file(environment):
    """Conda directive: the same pins as a conda environment, for --sdm conda."""
    return lambda wildcards: str(ROOT / "envs" / f"{environment(wildcards)}.yaml")


def code(script, environment=core):
    """Params function: digest of everything the script runs, and of the versions it runs with.

    Snakemake sees neither; a comment or a docstring changes nothing. Of the families only the policy's own counts.
    """

    def value(wildcards):
        own = environment in (of_family, of_simulator, of_source) and not reads_dataset(environment, wildcards)
        families = CONFIG[wildcards.policy].family.folders if own else []
        return f"{digest(SCRIPTS / script, ROOT, families)} {digest_of_pins(environment(wildcards), ROOT / 'envs')}"

    return value


def reads_dataset(environment, wildcards):
    """Whether a source is being recorded that no policy's code has a part in."""
    return environment is of_source and "dataset" in source_block(wildcards)


def threads_of(rule, default=1):
    """Threads of a rule. They change low bits of sums, so they are a parameter too, and -j does not cap them there."""
    return CONFIG.resources.get(rule, {}).get("threads", default)


def memory_of(rule, default):
    return CONFIG.resources.get(rule, {}).get("mem_mb", default)


def minutes_of(rule, default):
    return CONFIG.resources.get(rule, {}).get("runtime", default)


def as_json(value):
    return json.dumps(value, sort_keys=True)


onstart:
    records.remember(workflow)


onsuccess:
    records.forget()
    failures.tidy(CONFIG)


onerror:
    records.restore()
    failures.repeat()
    failures.tidy(CONFIG)
