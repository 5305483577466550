"""Bring an SAE of SAELens, dictionary_learning or a state dict into the form that training here gives."""

import argparse
from pathlib import Path

from policylens.console import main
from policylens.sae.interchange.commands import import_as_told
from policylens.sae.interchange.options import add_arguments


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="path", required=True, help="folder, file, or hf://org/repo@revision/path")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    add_arguments(parser)
    arguments = parser.parse_args()
    import_as_told(arguments.path, arguments.out, arguments)


if __name__ == "__main__":
    main(program)
