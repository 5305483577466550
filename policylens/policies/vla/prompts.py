"""From instruction and state to the prompt's tokens, with what each token is."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from policylens.errors import UserError
from policylens.policies.sites import TOKEN_KINDS
from policylens.policies.vla.named_tokenizer import of_name

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
BINS = 256
LANGUAGE, STATE = TOKEN_KINDS.index("language"), TOKEN_KINDS.index("state")


class Prompt(NamedTuple):
    """ids: (tokens,) int64, padded. kinds: (tokens,) int8, index into TOKEN_KINDS, -1 for padding."""

    ids: np.ndarray
    kinds: np.ndarray


def written(kind: str, instruction: str, state: Sequence[float]) -> tuple[str, tuple[int, int]]:
    """The text that the network reads, and the span of characters in it that says the state.

    pi0.5 reads the normalised state as one of 256 bins of -1 to 1 per number; below -1 is bin -1 (LeRobot's
    processor_pi05.py, openpi's PaligemmaTokenizer). pi0 has the state elsewhere and reads the instruction alone.
    """
    if kind == "pi0":
        return (instruction if instruction.endswith("\n") else f"{instruction}\n"), (0, 0)
    cleaned = instruction.strip().replace("_", " ").replace("\n", " ")
    bins = np.digitize(np.asarray(state), bins=np.linspace(-1, 1, BINS + 1)[:-1]) - 1
    before, numbers = f"Task: {cleaned}, State: ", " ".join(map(str, bins))
    return f"{before}{numbers};\nAction: ", (len(before), len(before) + len(numbers))


class Prompts:
    """A tokenizer of a fixed length, with a memory for prompts seen before.

    how: {"words": [...]}: whole words, numbered in order after SPECIAL; or {"name": a hub's repository, or a folder}.
    """

    def __init__(self, kind: str, how: Mapping[str, Any], length: int) -> None:
        self.kind, self.length = kind, length
        self.tokenizer = of_words(how["words"]) if "words" in how else of_name(how["name"])
        self._tokenized = functools.lru_cache(maxsize=2**16)(self._tokenize)

    def __call__(self, instructions: Sequence[str], states: np.ndarray) -> Prompt:
        """Prompts of n instructions and normalised states (n, s), stacked: (n, tokens) each."""
        texts = [written(self.kind, text, state) for text, state in zip(instructions, states, strict=True)]
        found = [self._tokenized(text, span) for text, span in texts]
        return Prompt(np.stack([one.ids for one in found]), np.stack([one.kinds for one in found]))

    def _tokenize(self, text: str, span: tuple[int, int]) -> Prompt:
        found = self.tokenizer(text, return_offsets_mapping=True)
        ids, offsets = found["input_ids"], found["offset_mapping"]
        if len(ids) > self.length:
            raise UserError(
                f"the prompt {text!r} has {len(ids)} tokens, the policy takes {self.length}; shorten the instruction"
            )
        padding = self.length - len(ids)
        kinds = [STATE if span[0] < end <= span[1] else LANGUAGE for _, end in offsets]
        pad = self.tokenizer.pad_token_id
        return Prompt(np.array([*ids, *[pad] * padding], np.int64), np.array([*kinds, *[-1] * padding], dtype=np.int8))


def of_words(words: Sequence[str]) -> Any:
    """A tokenizer of whole words, split at spaces and punctuation; each prompt begins with <bos>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate([*SPECIAL, *words])}
    made = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", numbers["<bos>"])])
    names = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)
