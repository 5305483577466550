"""Tasks, in pairs that share a scene and its initial states, so that what separates them is not the scene.

Each task has a BDDL file of its own here: LIBERO's KITCHEN_SCENE1, 2 and 8, some with another goal. Episodes start
where neither task of the pair has succeeded yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from policylens.errors import UserError
from policylens.stores.faults import did_you_mean
from policylens.stores.names import slug

DATA_FILES = (
    "bddl/close_the_top_drawer_of_the_cabinet.bddl",
    "bddl/open_the_top_drawer_of_the_cabinet.bddl",
    "bddl/put_the_black_bowl_at_the_back_on_the_plate.bddl",
    "bddl/put_the_black_bowl_at_the_front_on_the_plate.bddl",
    "bddl/turn_off_the_stove.bddl",
    "bddl/turn_on_the_stove.bddl",
)


@dataclass(frozen=True)
class Joint:
    """Position of a fixture's joint (metres, or radians).

    fixture, name: of the thing and of its joint, LIBERO's. start: between which positions episodes start, uniformly.
    """

    fixture: str
    name: str
    start: tuple[float, float]

    @property
    def things(self) -> tuple[str, ...]:
        """What the tasks are about."""
        return (self.fixture,)


@dataclass(frozen=True)
class Nearer:
    """How much nearer to `goal` the object `one` is than the object `other`: the difference of distances (metres).

    Distances are sideways, between the objects' centres. Where episodes start is left to LIBERO's samplers.
    """

    one: str
    other: str
    goal: str

    @property
    def name(self) -> str:
        """In words."""
        return f"distance of {self.other} from {self.goal} less that of {self.one}"

    @property
    def things(self) -> tuple[str, ...]:
        """What the tasks are about."""
        return self.one, self.other, self.goal


@dataclass(frozen=True)
class Pair:
    """Two tasks in one scene.

    measure: the number that the two tasks move opposite ways. instructions: of the two tasks. sign: which way the first
    one moves the number, 1 or -1; the second one goes back.
    """

    name: str
    measure: Joint | Nearer
    instructions: tuple[str, str]
    sign: float


PAIRS = {
    pair.name: pair
    for pair in (
        Pair(
            "drawer",
            # LIBERO: open below -0.14 m, closed above 0
            Joint("wooden_cabinet_1", "wooden_cabinet_1_top_level", (-0.10, -0.06)),
            ("open the top drawer of the cabinet", "close the top drawer of the cabinet"),
            -1.0,
        ),
        Pair(
            "stove",
            # LIBERO: on from 0.5 rad, off below 0
            Joint("flat_stove_1", "flat_stove_1_button", (0.20, 0.30)),
            ("turn on the stove", "turn off the stove"),
            1.0,
        ),
        Pair(
            "bowls",
            # LIBERO: done within 0.03 m of the plate's centre, touching it
            Nearer("akita_black_bowl_3", "akita_black_bowl_1", "plate_1"),
            ("put the black bowl at the back on the plate", "put the black bowl at the front on the plate"),
            1.0,
        ),
    )
}


@dataclass(frozen=True)
class Task:
    """One task: what the policy is told, the pair it belongs to, and its BDDL file."""

    instruction: str
    pair: Pair

    @property
    def slug(self) -> str:
        """The instruction as a part of a path."""
        return slug(self.instruction)

    @property
    def contrary(self) -> Task:
        """The other task of its pair."""
        first, second = self.pair.instructions
        return Task(second if self.instruction == first else first, self.pair)

    @property
    def sign(self) -> float:
        """Which way it moves the pair's number, 1 or -1."""
        return self.pair.sign if self.instruction == self.pair.instructions[0] else -self.pair.sign

    @property
    def bddl(self) -> Path:
        """Its BDDL file."""
        return Path(__file__).parent / "bddl" / f"{self.slug}.bddl"


TASKS = {task.slug: task for pair in PAIRS.values() for task in (Task(words, pair) for words in pair.instructions)}
"""By slug."""


def task(name: str) -> Task:
    """A task by its slug or its instruction; UserError for an unknown one."""
    if (found := TASKS.get(slug(name))) is None:
        hint = did_you_mean(slug(name), TASKS)
        raise UserError(f"there is no task {name!r}; {hint or 'there are: ' + ', '.join(TASKS)}")
    return found
