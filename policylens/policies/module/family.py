"""The family of users' own torch modules. Free of heavy imports.

Its checkpoints' `options` in config.yaml, kept as the architecture in policy.json, say what the module is:

    class: path/to/file.py:ClassName, or package.module:ClassName
    arguments: keyword arguments of the class (JSON values)
    inputs: names of the source's arrays that its forward takes, in order
    legal: name of the source's mask of legal actions, where not all always are
    head: "discrete" (forward gives logits) or "gaussian" (forward gives mu)
    sites: {submodule name: width}; the site is called as the submodule with "." replaced by "_"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.errors import UserError
from policylens.policies.family import Family
from policylens.policies.sites import Site
from policylens.stores.names import check_name

_TEXTS = {"type": "array", "minItems": 1, "items": {"type": "string"}}

OPTIONS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["class", "inputs", "head", "sites"],
    "properties": {
        "class": {"type": "string"},
        "arguments": {"type": "object"},
        "inputs": _TEXTS,
        "legal": {"type": "string"},
        "head": {"enum": ["discrete", "gaussian"]},
        "sites": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": "integer", "minimum": 1},
        },
    },
}
"""JSON schema of a checkpoint's `options`."""


def architecture(options: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture in policy.json that a checkpoint's (valid) options describe."""
    sites = [{"submodule": name, "width": width} for name, width in sorted(options["sites"].items())]
    names = [site_name(site["submodule"]) for site in sites]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two submodules would both be the site {name!r}; leave one of them out")
    return {**options, "sites": sites}


def site_name(submodule: str) -> str:
    """A submodule's name as a site's name: "layers.0" -> "layers_0"."""
    return check_name(submodule.replace(".", "_"), "the site")


def sites(record: Mapping[str, Any]) -> tuple[Site, ...]:
    """The sites that policy.json lists, by name: only a pass tells in which order they are computed."""
    return tuple(
        Site(site_name(entry["submodule"]), entry["width"], description=f"output of {entry['submodule']}")
        for entry in record["architecture"]["sites"]
    )


def observations(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The source's arrays that make up an observation."""
    found = record["architecture"]
    return (*found["inputs"], *([found["legal"]] if "legal" in found else []))


def files(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The user's own file that holds the class, so that a change to it is a change of the policy."""
    place = str(options.get("class", "")).partition(":")[0]
    return (place,) if place.endswith(".py") else ()


FAMILY = Family(
    name="module",
    capabilities=frozenset({"run", "import"}),
    sites=sites,
    settings={"import": OPTIONS},
    observations=observations,
    files=files,
    architecture=lambda _, options: architecture(options),
)
