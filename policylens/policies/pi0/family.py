"""The family pi0, of LeRobot and openpi: see policylens/policies/vla."""

from policylens.policies.vla.manifest import vla_family

FAMILY = vla_family("pi0")
