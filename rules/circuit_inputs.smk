"""Input functions of circuits: the interventions that they are of, from config.yaml."""

from types import SimpleNamespace


def circuit_block(wildcards):
    return CONFIG[wildcards.policy].circuits[wildcards.circuit]


def intervention_of(wildcards):
    """Wildcards of the interventions whose rows and SAEs a circuit has."""
    name = circuit_block(wildcards)["intervention"]
    return SimpleNamespace(policy=wildcards.policy, checkpoint=wildcards.checkpoint, intervention=name)


def traced(wildcards):
    """The policy, the rows it runs on, and the SAEs."""
    return {name: paths for name, paths in intervened(intervention_of(wildcards)).items() if name != "labels"}


def traced_arguments(wildcards):
    """Where the script finds what `traced` names, as arguments."""
    found, block = traced(wildcards), circuit_block(wildcards)
    words = [word for name in ("source", "capture") for word in (f"--{name}", os.path.dirname(found[name]))]
    intervention = intervention_block(intervention_of(wildcards))
    words += sae_words(wildcards, intervention["saes"])
    chosen, scored = splits_of(intervention)
    return [*words, "--chosen-on", chosen, "--scored-on", scored, "--rows", block["rows"], "--seed", block["seed"]]


def circuit_origin(wildcards):
    """What circuit.json says of where it comes from."""
    block = intervention_block(intervention_of(wildcards))
    names = {name: wildcards[name] for name in ("policy", "checkpoint", "circuit")}
    return as_json(
        {
            **names,
            "intervention": circuit_block(wildcards)["intervention"],
            "saes": block["saes"],
            "capture": block["capture"],
        }
    )
