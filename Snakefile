"""policylens: from policy checkpoints to concepts and steering. `docs/paths.md` lists what can be built."""


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/correlation_inputs.smk"
include: "rules/checkpoints.smk"
include: "rules/sources.smk"
include: "rules/demonstration_inputs.smk"
include: "rules/demonstrations.smk"
include: "rules/contrast_inputs.smk"
include: "rules/contrasts.smk"
include: "rules/activations.smk"
include: "rules/sae.smk"
include: "rules/comparisons.smk"
include: "rules/interventions.smk"
include: "rules/direction_inputs.smk"
include: "rules/directions.smk"
include: "rules/steering_inputs.smk"
include: "rules/steering.smk"
include: "rules/circuit_inputs.smk"
include: "rules/circuits.smk"
include: "rules/correlations.smk"
include: "rules/ffn_inputs.smk"
include: "rules/ffn.smk"


report: "rules/captions/workflow.rst"


wildcard_constraints:
    **CONSTRAINTS,


rule demo:
    default_target: True
    input:
        CONFIG.demo,


for name in CONFIG.policies:

    rule:
        name:
            name
        input:
            [path for path in headline_paths(CONFIG) if path.startswith(f"results/{name}/")],
