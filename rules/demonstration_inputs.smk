"""Input and parameter functions of demonstrations and datasets."""

from policylens.project.demonstrations import ENVIRONMENT, own_tasks, subset_of


def of_demonstrations(wildcards):
    return ENVIRONMENT


def recording(wildcards):
    """What demonstrations are recorded with, as JSON: the same for each of their tasks."""
    block = CONFIG.demonstrations[wildcards.demonstration]
    return as_json({key: value for key, value in block.items() if key != "tasks"})


def demonstration_files(wildcards):
    tasks = CONFIG.demonstrations[wildcards.demonstration]["tasks"]
    return [template("demonstrations_task").format(**wildcards, task=task) for task in tasks]


def dataset_files(wildcards):
    """A user's files as they are, and of demonstrations recorded here those tasks that the dataset takes."""
    block = CONFIG.datasets[wildcards.dataset]
    own = own_tasks(block, CONFIG.demonstrations)
    found = [
        template("demonstrations_task").format(demonstration=name, task=task)
        for name, tasks in own.items()
        for task in tasks
    ]
    return [*found, *block["files"]]
