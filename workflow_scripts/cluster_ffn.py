"""From records of units to clusters.json, analysis.json, summary.txt, the figure and the page."""

import argparse
import json
from pathlib import Path

from policylens.console import main
from policylens.errors import UserError
from policylens.ffn.analysis import analysis
from policylens.ffn.clusters import cluster, points_of
from policylens.ffn.description import described
from policylens.ffn.files import check_clusters, language_of, read_records, vectors_of
from policylens.ffn.store import read_strengths
from policylens.ffn.text import summary
from policylens.report.ffn_page import page
from policylens.statistics.tsne import t_sne
from policylens.stores.files import replacing, write_json, write_text
from policylens.stores.schemas import check_against
from policylens.visualize.ffn_plots import map_of_units


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--activations", required=True, type=Path, help="activations.zarr")
    parser.add_argument("--records", required=True, type=Path, help="records.json, its vectors beside it")
    parser.add_argument("--origin", required=True, type=json.loads, help="JSON: policy, checkpoint, ffn, block")
    parser.add_argument("--out", required=True, type=Path, help="clusters.json to write; all else stands beside it")
    arguments = parser.parse_args()
    block = arguments.origin["block"]
    settings, records = block["clusters"], read_records(arguments.records)
    vectors = vectors_of(records, arguments.records.parent, settings["space"])
    try:
        points = points_of(vectors, settings["normalise"])
        found = cluster(points, settings["count"], block["seed"], settings["restarts"])
    except UserError as error:
        raise UserError(f"{arguments.records}: {error}") from None
    clusters = described(records, found)
    strengths, attributes = read_strengths(arguments.activations)
    told = {**arguments.origin, "language": language_of(arguments.records.parent)}
    record = analysis(found, clusters, records, strengths, attributes["sites"], told)
    check_clusters(clusters, arguments.out)
    check_against("ffn_analysis", record, arguments.out.with_name("analysis.json"))
    figure = arguments.out.with_name("tsne.png")
    map_of_units(figure, t_sne(points, settings["perplexity"]), found.labels, clusters, record)
    with replacing(arguments.out.with_name("clusters.html")) as temporary:
        temporary.write_text(page(record, clusters, figure.read_bytes()), encoding="utf-8")
    write_text(arguments.out.with_name("summary.txt"), summary(record, clusters))
    write_json(arguments.out.with_name("analysis.json"), record)
    write_json(arguments.out, clusters)


if __name__ == "__main__":
    main(program)
