"""Build the contrast of two concepts over a source, or check and take over a published one."""

import argparse
import json
from pathlib import Path

from policylens.concepts.contrast_study import MANIFEST, MAP, RECORD, study
from policylens.console import main
from policylens.stores.files import write_json
from policylens.stores.schemas import check_against
from policylens.visualize import contrast_plots


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, type=Path, help="the source's folder")
    parser.add_argument("--block", required=True, type=json.loads, help="JSON: the contrast's block of config.yaml")
    parser.add_argument("--origin", required=True, type=json.loads, help="JSON: policy, source, contrast")
    parser.add_argument("--out", required=True, type=Path, help="folder of manifest.json; all else stands beside it")
    arguments = parser.parse_args()
    found = study(arguments.source, arguments.block, arguments.origin, arguments.out)
    for schema, name, record in (
        ("contrast_manifest", MANIFEST, found.manifest),
        ("concept_map", MAP, found.concept_map),
        ("contrast", RECORD, found.record),
    ):
        check_against(schema, record, arguments.out / name)
    contrast_plots.axis(arguments.out / "axis.png", found)
    write_json(arguments.out / MAP, found.concept_map)
    write_json(arguments.out / RECORD, found.record)
    write_json(arguments.out / MANIFEST, found.manifest)


if __name__ == "__main__":
    main(program)
