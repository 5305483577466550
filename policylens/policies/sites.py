"""Sites and row spaces: where activations are read, and what one row of them is.

Free of heavy imports: config validation uses it without loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class RowSpace:
    """What the rows of a site are.

    name: of the row space, and of the group in a store that holds its arrays ("step", "token", ...).
    coordinates: integer coordinates every row carries. All row spaces have episode, step and split.
    """

    name: str
    coordinates: tuple[str, ...] = ("episode", "step", "split")


STEP = RowSpace("step")

TOKEN_KINDS = ("image", "language", "state", "action")
"""What tokens are; a store's coordinate `kind` is the index."""

TOKEN = RowSpace("token", ("episode", "step", "split", "token", "kind", "token_id"))
"""One row per token of a frame: `token` is its position, `token_id` the word (-1 where it is none)."""

DENOISED_TOKEN = RowSpace("denoised_token", (*TOKEN.coordinates, "denoise"))
"""One row per token and denoising step of a frame."""


@dataclass(frozen=True)
class Site:
    """A named place in a policy's forward pass.

    name: path-safe name, e.g. "block_2".
    width: size of the last axis (d of an SAE trained there).
    row_space: what the leading axis counts.
    inner: dimensions between the leading axis and the width, outermost first, e.g. (("y", 8), ("x", 8))
        for a convolutional layer, whose SAE rows are then (step, y, x).
    description: one line for people.
    dead_end: whether nothing after it reads it: it can be captured, and editing it changes nothing.
    layer: number of the layer that it belongs to, as its stack's own names count; None where there are no layers.
    """

    name: str
    width: int
    row_space: RowSpace = STEP
    inner: tuple[tuple[str, int], ...] = field(default=())
    description: str = ""
    dead_end: bool = False
    layer: int | None = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row: inner sizes, then width."""
        return (*(size for _, size in self.inner), self.width)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the array's dimensions in a store: "row", the inner ones, then "<site>_unit"."""
        return ("row", *(f"{self.name}_{name}" for name, _ in self.inner), f"{self.name}_unit")


def is_denoised(site: Site) -> bool:
    """Whether a site is computed at every denoising step."""
    return "denoise" in site.row_space.coordinates
