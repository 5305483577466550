"""What of LIBERO's files a dataset takes, and how. Free of heavy imports, for the workflow uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENTS = ("before", "rows")
"""Which observation a frame pairs with actions[j]: see `reading.LiberoFile.frames`."""

ACTIONS = ("actions", "expert_actions")
"""Where actions are taken from: as executed, or as the expert wanted them (only in demonstrations recorded here)."""


@dataclass(frozen=True)
class Subset:
    """A choice of demonstrations.

    tasks: instructions; containing: texts that an instruction holds; all tasks where neither is given. demos: the most
    of each file, its first. align, actions: see ALIGNMENTS, ACTIONS.
    """

    tasks: Sequence[str] | None = None
    containing: Sequence[str] | None = None
    demos: int | None = None
    align: str = ALIGNMENTS[0]
    actions: str = ACTIONS[0]

    def takes(self, instruction: str) -> bool:
        """Whether a task is in, by its text; capitals do not matter."""
        text = instruction.casefold()
        if self.tasks is None and self.containing is None:
            return True
        exact = text in {task.casefold() for task in self.tasks or ()}
        return exact or any(part.casefold() in text for part in self.containing or ())
