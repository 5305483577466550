"""The manifest of a family of vision-language-action policies."""

from __future__ import annotations

from policylens.policies.family import Family
from policylens.policies.vla.architecture import observations, sites
from policylens.policies.vla.settings import IMPORT_SETTINGS


def vla_family(name: str) -> Family:
    """name: "pi0" or "pi05"."""
    return Family(
        name=name,
        capabilities=frozenset({"run", "import"}),
        sites=sites,
        environment="vla",
        settings={"import": IMPORT_SETTINGS},
        observations=observations,
        steps_per_episode=110.0,
        rooms="vla",
    )
