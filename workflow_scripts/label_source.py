"""Label the rows of one part of a source with the ground truth that the policy's family knows."""

import argparse
from pathlib import Path

from policylens.concepts.labels import write_labels
from policylens.console import main
from policylens.errors import UserError
from policylens.policies.registry import family, require, room
from policylens.stores.provenance import provenance
from policylens.stores.tables import open_table


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", required=True, help="policy family that knows the labels")
    parser.add_argument("--source", required=True, type=Path, help="the source's folder")
    parser.add_argument("--part", required=True, help="part-NNNN")
    parser.add_argument("--names", required=True, nargs="+", help="labels to compute")
    parser.add_argument("--out", required=True, type=Path, help="store to write, <part>.zarr")
    arguments = parser.parse_args()
    require(arguments.family, "labels", "labelling")
    descriptions = family(arguments.family).labels
    for name in arguments.names:
        if name not in descriptions:
            raise UserError(f"the family {arguments.family!r} has no label {name!r}; it has: {', '.join(descriptions)}")
    source = open_table(arguments.source)
    source.rows_of_part(arguments.part)  # refuses a part that there is not
    digests = {entry["name"]: entry["sha256"] for entry in source.index["parts"]}
    origin = provenance(settings={"names": arguments.names}, inputs={arguments.part: digests[arguments.part]})
    labeller = room(arguments.family, "labels").label
    write_labels(arguments.out, source, arguments.part, labeller, arguments.names, descriptions, {"provenance": origin})


if __name__ == "__main__":
    main(program)
