"""Steering: the policy acts with latents or directions changed, and what comes of it."""


rule steer:
    input:
        unpack(steered),
    output:
        template("steering_runs"),
    log:
        "results/logs/{policy}/{checkpoint}/steering/{steering}/runs.log",
    conda:
        conda_file(of_simulator)
    threads: threads_of("steer")
    resources:
        mem_mb=memory_of("steer", 4000),
        runtime=minutes_of("steer", 480),
    params:
        code=code("steer.py", of_simulator),
        environment=of_simulator,
        arguments=steering_arguments,
        block=lambda w: as_json(steering_runs_block(w)),
        device=CONFIG.compute["device"],
    shell:
        run("steer.py") + " {params.arguments:q} --block {params.block:q} --code {params.code:q}"
        " --device {params.device} --threads {threads} --out $(dirname {output:q}) > {log:q} 2>&1"


rule analyse_steering:
    input:
        template("steering_runs"),
    output:
        json=template("steering"),
        summary=template("steering").replace("index.json", "summary.txt"),
        table=template("steering").replace("index.json", "candidates.csv"),
        frontier=report(
            template("steering").replace("index.json", "frontier.png"),
            caption="captions/frontier.rst",
            category="{policy}",
            subcategory="{checkpoint}: steering {steering}",
            labels={"figure": "gain against disturbance"},
        ),
        confirmed=report(
            template("steering").replace("index.json", "confirmed.png"),
            caption="captions/confirmed.rst",
            category="{policy}",
            subcategory="{checkpoint}: steering {steering}",
            labels={"figure": "what was chosen, on other episodes"},
        ),
    log:
        "results/logs/{policy}/{checkpoint}/steering/{steering}/analysis.log",
    conda:
        conda_file(core)
    resources:
        mem_mb=memory_of("analyse_steering", 2000),
        runtime=minutes_of("analyse_steering", 30),
    params:
        code=code("analyse_steering.py"),
        environment=core,
        origin=steering_origin,
    shell:
        run("analyse_steering.py") + " --runs $(dirname {input:q}) --origin {params.origin:q}"
        " --out {output.json:q} > {log:q} 2>&1"
