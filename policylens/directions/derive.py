"""From a pair of concepts to its directions: out of a slice, of files of activations, or of published directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policylens.directions.analysis import by_vector, described, latents, notes, prompts_of, reliability
from policylens.directions.cells import Cells, Side, gather
from policylens.directions.published import read_published
from policylens.directions.vectors import PROBE, probe, vectors_of
from policylens.errors import UserError
from policylens.sae.activations import flattened, read_activations
from policylens.sae.base import SAE
from policylens.slices.foreign import from_files
from policylens.slices.store import Part, Slice
from policylens.stores.files import sha256_of_file
from policylens.stores.tables import INDEX, Table, open_table

SIDES = {True: "positive", False: "negative"}


@dataclass(frozen=True)
class Derived:
    """A pair's vectors by name, its cells (None of published directions), and the content of analysis.json."""

    vectors: Mapping[str, np.ndarray]
    cells: Cells | None
    facts: Mapping[str, Any]


def of_slice(
    own: Slice, capture: Path | None, pair: Mapping[str, Any], site: str, sae: SAE | None, block: Mapping[str, Any]
) -> Derived:
    """From two concepts of a slice. capture: folder of the capture whose rows it names; None of an imported one."""
    parts = {side: own.concept(pair[name]) for side, name in SIDES.items()}
    baseline = block.get("baseline_site")
    table = _table(own, capture)
    if table is None and (site != own.record["site"] or baseline):
        raise UserError(f"{own.folder}: holds imported activations of {own.record['site']!r} alone; ask for that site")
    sites = [site, *([baseline] if baseline else [])]
    sides = {side: Side(p.episodes, p.texts, _reading(p, table, sites)) for side, p in parts.items()}
    cells, active = gather(sides, site, sae, baseline)
    concepts = {name: {"concept": pair[name], **own.record["concepts"][pair[name]]} for name in SIDES.values()}
    facts = {"slice": own.folder.name, "capture": own.record["capture"], "kinds": own.record["kinds"], **concepts}
    found = measured(cells, active, sides, site, sae, block, own.record["kinds"])
    texts = {"instructions": own.record["instructions"], "imported": None}
    return Derived(found.vectors, cells, {**facts, **texts, **found.facts})


def of_files(pair: Mapping[str, Any], sae: SAE | None, block: Mapping[str, Any]) -> Derived:
    """From `.pt` files of activations per concept, {"files": {"positive": [...], ...}, "positive": text, ...}."""
    if "baseline_site" in block:
        raise UserError(f"{pair['files']['positive'][0]}: files hold no baseline_site; leave it out")
    found = from_files({name: pair["files"][name] for name in SIDES.values()})
    sides, concepts = {}, {}
    for side, name in SIDES.items():
        values, episodes, _ = found[name]
        sides[side] = Side(episodes, np.full(len(values), -1), {"": values.__getitem__})
        counts = {"rows": len(values), "frames": None, "episodes": None, "instructions": {}}
        concepts[name] = {"concept": pair[name], "slug": name, **counts}
    cells, active = gather(sides, "", sae)
    own = measured(cells, active, sides, "", sae, block, [])
    facts = {"slice": None, "capture": None, "kinds": [], **concepts, "instructions": [], "imported": None}
    return Derived(own.vectors, cells, {**facts, **own.facts})


def of_published(folder: Path, sae: SAE | None) -> Derived:
    """From a folder of published directions: there are no rows, and nothing to say of reliability."""
    vectors, told = read_published(folder, sae)
    rows = [told["rows"][name] for name in SIDES.values()]
    concepts = {
        name: {
            "concept": told[name],
            "slug": name,
            "rows": told["rows"][name],
            "frames": None,
            "episodes": None,
            "instructions": {},
        }
        for name in SIDES.values()
    }
    facts = {
        "slice": None,
        "capture": None,
        "kinds": [],
        **concepts,
        "instructions": [],
        "imported": {"from": folder.name, "largest_difference": told["difference"]},
        "vectors": described(vectors),
        "reliability": {},
        "latents": None,
        "n": {"rows": sum(rows) if None not in rows else None, "episodes": None, "prompts": None},
        "notes": ["directions were imported: nothing is known of their reliability here"],
    }
    return Derived(vectors, None, facts)


def measured(
    cells: Cells,
    active: np.ndarray | None,
    sides: Mapping[bool, Side],
    site: str,
    sae: SAE | None,
    block: Mapping[str, Any],
    kinds: list[str],
) -> Derived:
    """Vectors, reliability and ranked latents of gathered cells."""
    seed, permutations = block["seed"], block["permutations"]
    vectors = vectors_of(cells, sae)
    vectors[PROBE] = probe(*(_sample(sides[side], site, block["probe_rows"], seed) for side in SIDES), block["ridge"])
    ranked = None
    if sae is not None:
        norms = sae.W_dec.norm(dim=1).detach().cpu().double().numpy()
        ranked = latents(cells, norms, active, block["top"], permutations, seed)
    prompts = prompts_of(cells)
    facts = {
        "vectors": described(vectors),
        "reliability": by_vector(reliability(cells, permutations, seed)),
        "latents": ranked,
        "n": {
            "rows": int(cells.count.sum()),
            "episodes": len(np.unique(cells.episode)) if cells.known else None,
            "prompts": None if prompts is None else len(np.unique(cells.text)),
        },
        "notes": notes(cells, kinds),
    }
    return Derived(vectors, cells, facts)


def _sample(side: Side, site: str, rows: int, seed: int) -> np.ndarray:
    """At most half of so many rows of one concept, drawn at random: (n * positions, d)."""
    places = np.arange(len(side.episodes))
    if len(places) > rows // 2:
        places = np.sort(np.random.default_rng([seed, 3]).choice(places, rows // 2, replace=False))
    return flattened(np.asarray(side.reading[site](places), np.float32))


def _table(own: Slice, capture: Path | None) -> Table | None:
    if own.record["capture"] is None:
        return None
    if sha256_of_file(capture / INDEX) != own.record["capture_sha256"]:
        raise UserError(f"{own.folder}: is of another state of the capture {capture}; make the slice again")
    return open_table(capture, own.record["row_space"])


def _reading(part: Part, table: Table | None, sites: list[str]) -> dict[str, Any]:
    if table is None:
        return {site: part.values.__getitem__ for site in sites}
    columns = {site: table.array(site) for site in sites}
    return {
        site: (lambda places, column=column: read_activations(column, part.rows[places]))
        for site, column in columns.items()
    }
