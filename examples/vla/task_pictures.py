"""What demonstrations of each instruction look like: the pictures at their beginning, middle and end.

    envs/run core python examples/vla/task_pictures.py --source results/pi05/sources/demos --figure tasks.png

Per instruction the first demonstration in the source, so that those of a pair begin alike where they were recorded from
the same initial states.
"""

import argparse
from pathlib import Path

import numpy as np

from policylens.console import main
from policylens.stores.tables import Table, open_table
from policylens.stores.texts import decode_texts
from policylens.visualize.figure import drawing

MOMENTS = ("first step", "middle", "last step")


def program() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, type=Path)
    parser.add_argument("--camera", default="image", help="the source's array of pictures")
    parser.add_argument("--figure", required=True, type=Path, help="PNG to write")
    arguments = parser.parse_args()
    source = open_table(arguments.source)
    rows = first_episodes(source)
    pictures = source.array(arguments.camera)
    height, width = pictures.shape[1:3]
    note = f"{arguments.camera}, {width} x {height} pixels as the policy gets them; one demonstration of each"
    with drawing(arguments.figure, 1.9 * len(rows), 6.2, "Instructions and what they look like", note) as figure:
        grid = figure.subplots(len(MOMENTS), len(rows), squeeze=False)
        for column, (text, places) in enumerate(rows.items()):
            grid[0, column].set_title(text.replace(" of ", "\nof "), fontsize=8)
            for axes, moment, place in zip(grid[:, column], MOMENTS, places, strict=True):
                axes.imshow(pictures.read(np.array([place]))[0], interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                axes.set_ylabel("" if column else moment)


def first_episodes(source: Table) -> dict[str, tuple[int, int, int]]:
    """Instruction -> rows of the beginning, middle and end of its first episode."""
    episodes = source.coordinate("episode")
    starts = np.unique(episodes, return_index=True)[1]
    texts = decode_texts(source.array("instruction").read(starts))
    found = {}
    for start, text in sorted(zip(starts.tolist(), texts, strict=True)):
        end = int(np.flatnonzero(episodes == episodes[start])[-1])
        found.setdefault(text, (start, (start + end) // 2, end))
    return found


if __name__ == "__main__":
    main(program)
