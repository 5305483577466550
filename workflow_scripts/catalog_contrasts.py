"""The catalogue of a policy's contrasts: catalog.json, and catalog.md for people."""

import argparse
import json
from pathlib import Path

from policylens.concepts.catalog import as_table, catalog
from policylens.console import main
from policylens.stores.files import write_json, write_text
from policylens.stores.schemas import check_against


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifests", required=True, nargs="+", type=Path, help="of the contrasts")
    parser.add_argument("--policy", required=True, help="name of the policy")
    parser.add_argument("--slices", default={}, type=json.loads, help="JSON: contrast -> index files of its slices")
    parser.add_argument("--out", required=True, type=Path, help="catalog.json to write; catalog.md stands beside it")
    arguments = parser.parse_args()
    record = catalog([path.parent for path in arguments.manifests], arguments.policy, arguments.slices)
    check_against("contrast_catalog", record, arguments.out)
    write_text(arguments.out.with_suffix(".md"), as_table(record))
    write_json(arguments.out, record)


if __name__ == "__main__":
    main(program)
