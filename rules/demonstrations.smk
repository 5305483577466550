"""Demonstrations of a simulator's tasks, and datasets made of files of demonstrations; both outside of policies."""


rule record_demonstrations:
    output:
        template("demonstrations_task"),
    log:
        "results/logs/demonstrations/{demonstration}/{task}.log",
    conda:
        conda_file(of_demonstrations)
    resources:
        mem_mb=memory_of("record_demonstrations", 2500),
        runtime=minutes_of("record_demonstrations", 240),
    params:
        code=code("record_demonstrations.py", of_demonstrations),
        environment=of_demonstrations,
        settings=recording,
    shell:
        run("record_demonstrations.py") + " --task {wildcards.task} --settings {params.settings:q}"
        " --out {output:q} > {log:q} 2>&1"


rule index_demonstrations:
    input:
        demonstration_files,
    output:
        template("demonstrations"),
    log:
        "results/logs/demonstrations/{demonstration}/index.log",
    conda:
        conda_file(of_demonstrations)
    resources:
        mem_mb=memory_of("index_demonstrations", 1000),
        runtime=minutes_of("index_demonstrations", 10),
    params:
        code=code("index_demonstrations.py", of_demonstrations),
        environment=of_demonstrations,
        settings=recording,
    shell:
        run("index_demonstrations.py") + " --files {input:q} --settings {params.settings:q}"
        " --out {output:q} > {log:q} 2>&1"


rule convert_dataset:
    input:
        dataset_files,
    output:
        info=template("dataset"),
        record=template("dataset_record"),
    log:
        "results/logs/datasets/{dataset}.log",
    conda:
        conda_file(of_demonstrations)
    resources:
        mem_mb=memory_of("convert_dataset", 3000),
        runtime=minutes_of("convert_dataset", 240),
    params:
        code=code("convert_dataset.py", of_demonstrations),
        environment=of_demonstrations,
        subset=lambda w: as_json(vars(subset_of(CONFIG.datasets[w.dataset]))),
    shell:
        run("convert_dataset.py") + " --files {input:q} --subset {params.subset:q}"
        " --out $(dirname {output.record:q}) > {log:q} 2>&1"
