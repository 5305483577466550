"""The family of users' own torch modules.

Its checkpoints' `options` in config.yaml, kept as the architecture in policy.json, say what the module is:

    class: path/to/file.py:ClassName, or package.module:ClassName
    arguments: keyword arguments of the class (JSON values)
    inputs: names of the source's arrays that its forward takes, in order
    head: "discrete" (forward gives logits) or "gaussian" (forward gives mu)
    sites: {submodule name: width}; the site is called as the submodule with "." replaced by "_"
    observations: as inputs, plus "legal" where the source has a mask of legal actions
"""

from collections.abc import Mapping
from typing import Any

from policylens.policies.family import Family
from policylens.policies.sites import Site
from policylens.stores.names import check_name


def site_name(submodule: str) -> str:
    """A submodule's name as a site's name: "layers.0" -> "layers_0"."""
    return check_name(submodule.replace(".", "_"), "the site")


def sites(record: Mapping[str, Any]) -> tuple[Site, ...]:
    """The sites that policy.json lists, in its order."""
    return tuple(
        Site(site_name(entry["submodule"]), entry["width"], description=f"output of {entry['submodule']}")
        for entry in record["architecture"]["sites"]
    )


def observations(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The source's arrays that make up an observation."""
    return tuple(record["architecture"]["inputs"])


FAMILY = Family(
    name="module",
    capabilities=frozenset({"run", "import"}),
    sites=sites,
    observations=observations,
)
