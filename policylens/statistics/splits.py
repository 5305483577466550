"""The split functions where analyses look for them; stores and sources need them too, further down."""

from policylens.stores.splits import (
    EXCLUDED,
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    separate_groups,
    split_of_episodes,
)

__all__ = ["EXCLUDED", "SPLITS", "TEST", "TRAIN", "VALIDATION", "separate_groups", "split_of_episodes"]
