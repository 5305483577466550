"""`policylens`: look at a project, check what it built, exchange SAEs, check contrasts, and what families add."""

from __future__ import annotations

import argparse
from pathlib import Path

from policylens import console
from policylens.errors import UserError


def main() -> None:
    """The command line's entry point."""
    parser = argparse.ArgumentParser(prog="policylens", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_paths, _plan, _verify, _check_ffn, _sae, _contrast, _promote, _play):
        add(commands)
    arguments = parser.parse_args()
    console.main(lambda: arguments.run(arguments))


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), help="default: config.yaml")


def _paths(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("paths", help="list every path that this config can build")
    _config(parser)
    parser.add_argument("--kinds", action="store_true", help="list the kinds of paths instead, and what they hold")
    parser.add_argument("containing", nargs="?", default="", help="only paths that contain this text")
    parser.set_defaults(run=_run_paths)


def _run_paths(arguments: argparse.Namespace) -> None:
    from policylens.project.config import load_config
    from policylens.project.paths import PATHS, all_paths

    if arguments.kinds:
        for entry in PATHS.values():
            print(f"{entry.template}\n    {entry.holds}")
        return
    for _, path in all_paths(load_config(arguments.config)):
        if arguments.containing in path:
            print(path)


def _plan(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("plan", help="what building a target takes: jobs, bytes, time and memory")
    _config(parser)
    parser.add_argument("target", nargs="+", help="a path, or a headline target such as demo")
    parser.set_defaults(run=_run_plan)


def _run_plan(arguments: argparse.Namespace) -> None:
    from policylens.project.config import load_config
    from policylens.project.plan import plan

    print(plan(load_config(arguments.config), arguments.config, arguments.target))


def _verify(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("verify", help="re-hash a store or a results tree, and name what is damaged")
    parser.add_argument("path", type=Path, nargs="?", default=Path("results"))
    parser.set_defaults(run=_run_verify)


def _run_verify(arguments: argparse.Namespace) -> None:
    from policylens.progress import progress
    from policylens.stores.verify import verify

    findings = list(progress(verify(arguments.path), None, "verifying", "files"))
    if not findings:
        raise UserError(f"{arguments.path}: there are no stores, indexes or checkpoints here")
    faults = [finding for finding in findings if finding.fault]
    for finding in faults:
        print(f"{finding.path}: {finding.fault}")
    if faults:
        raise UserError(
            f"{arguments.path}: {len(faults)} of {len(findings)} stores and files are damaged or unfinished (named "
            "above); delete them and build them again"
        )
    print(f"{arguments.path}: {len(findings)} stores and files are sound")


def _check_ffn(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("check-ffn", help="whether a file of FFN records or clusters is well-formed")
    parser.add_argument("file", type=Path, nargs="+", help="records.json or clusters.json, anybody's")
    parser.set_defaults(run=_run_check_ffn)


def _run_check_ffn(arguments: argparse.Namespace) -> None:
    from policylens.ffn.files import describe_file

    for path in arguments.file:
        print(describe_file(path))


def _sae(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("sae", help="import SAEs of SAELens, dictionary_learning or a state dict; export ours")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _sae_import(actions)
    _sae_export(actions)


def _sae_import(actions: argparse._SubParsersAction) -> None:
    from policylens.sae.interchange.options import add_arguments

    parser = actions.add_parser("import", help="fold an SAE of another tool into one that takes raw activations")
    parser.add_argument("path", help="a folder, a file, or hf://org/repo@revision/path")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    add_arguments(parser)
    parser.set_defaults(run=_run_sae_import)


def _run_sae_import(arguments: argparse.Namespace) -> None:
    from policylens.sae.interchange.commands import import_as_told

    print(import_as_told(arguments.path, arguments.out, arguments))


def _sae_export(actions: argparse._SubParsersAction) -> None:
    from policylens.sae.interchange.options import FORMATS

    parser = actions.add_parser("export", help="write an SAE as another tool's files")
    parser.add_argument("folder", type=Path, help="with sae_weights.safetensors and cfg.json")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; for a state_dict the file")
    parser.set_defaults(run=_run_sae_export)


def _run_sae_export(arguments: argparse.Namespace) -> None:
    from policylens.sae.interchange.exporting import export_sae

    export_sae(arguments.folder, arguments.format, arguments.out)
    print(arguments.out)


def _contrast(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("contrast", help="check a published contrast manifest and concept map")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="list what is wrong with them, and what a reader should know")
    check.add_argument("manifest", type=Path)
    check.add_argument("--map", type=Path, help="the concept map that belongs to it")
    check.add_argument("--source", type=Path, help="a source's folder: also against its demonstrations")
    check.add_argument("--array", default="state", help="the source's array of states; default: state")
    check.set_defaults(run=_run_contrast_check)


def _run_contrast_check(arguments: argparse.Namespace) -> None:
    from policylens.concepts.commands import check

    for line in check(arguments.manifest, arguments.map, arguments.source, arguments.array):
        print(line)


def _promote(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("promote", help="copy trained checkpoints into data/checkpoints/, with their log")
    parser.add_argument("training", type=Path, help="a training folder, results/training/{policy}/{training}")
    parser.add_argument("--policy", required=True, help="name under data/checkpoints/")
    parser.add_argument("--snapshots", nargs="+", help="which snapshots, by name; default: all")
    parser.add_argument("--name", help="what the one chosen snapshot is to be called, e.g. final")
    parser.add_argument("--out", type=Path, default=Path("data/checkpoints"), help="default: data/checkpoints")
    parser.add_argument("--replace", action="store_true", help="overwrite checkpoints of the same name")
    parser.set_defaults(run=_run_promote)


def _run_promote(arguments: argparse.Namespace) -> None:
    from policylens.policies.promotion import promote
    from policylens.stores.names import check_name

    out = arguments.out / check_name(arguments.policy, "--policy")
    name = arguments.name and check_name(arguments.name, "--name")
    for folder in promote(arguments.training, out, arguments.snapshots, name=name, replace=arguments.replace):
        print(folder)


def _play(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("play", help="play against a policy in the terminal, or let two agents play")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder with model.safetensors and policy.json")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of the family's game; -- --help lists them")
    parser.set_defaults(run=_run_play)


def _run_play(arguments: argparse.Namespace) -> None:
    from policylens.policies.checkpoint import read_record
    from policylens.policies.registry import require, room

    family = read_record(arguments.checkpoint)["family"]
    require(family, "play", f"playing {arguments.checkpoint}")
    options = arguments.options[1:] if arguments.options[:1] == ["--"] else arguments.options
    room(family, "play").main(arguments.checkpoint, options)
