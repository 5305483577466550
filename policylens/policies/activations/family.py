"""The family of policies of which only recorded activations are at hand."""

from collections.abc import Mapping
from typing import Any

from policylens.policies.family import Family
from policylens.policies.sites import Site


def sites(record: Mapping[str, Any]) -> tuple[Site, ...]:
    """None: a capture's own file says what there is."""
    return ()


FAMILY = Family(name="activations", capabilities=frozenset(), sites=sites)
