"""Circuits: the latents that carry an output, from the inputs to it."""


rule trace_circuit:
    input:
        unpack(traced),
    output:
        json=template("circuit"),
        summary=template("circuit").replace("circuit.json", "summary.txt"),
        graph=report(
            template("circuit").replace("circuit.json", "circuit.png"),
            caption="captions/circuit.rst",
            category="{policy}",
            subcategory="{checkpoint}: circuits",
            labels={"circuit": "{circuit}", "figure": "graph"},
        ),
        faithfulness=report(
            template("circuit").replace("circuit.json", "faithfulness.png"),
            caption="captions/faithfulness.rst",
            category="{policy}",
            subcategory="{checkpoint}: circuits",
            labels={"circuit": "{circuit}", "figure": "faithfulness"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/circuits/{circuit}/circuit.log",
    conda:
        conda_file(of_family)
    threads: threads_of("trace_circuit")
    resources:
        mem_mb=memory_of("trace_circuit", 4000),
        runtime=minutes_of("trace_circuit", 240),
    params:
        code=code("trace_circuit.py", of_family),
        environment=of_family,
        arguments=traced_arguments,
        settings=lambda w: as_json(traced_settings(circuit_block(w))),
        origin=circuit_origin,
        device=CONFIG.compute["device"],
        threads=threads_of("trace_circuit"),
    shell:
        run("trace_circuit.py") + " --checkpoint $(dirname {input.record:q}) {params.arguments:q}"
        " --settings {params.settings:q} --origin {params.origin:q} --device {params.device}"
        " --threads {params.threads} --out {output.json:q} > {log:q} 2>&1"
