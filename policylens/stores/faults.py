"""What a JSON schema finds wrong, as a sentence that says what stands there and what may stand there."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import ValidationError

TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
CHOICES = ("anyOf", "oneOf")

_short = reprlib.Repr()
_short.maxlevel, _short.maxlist, _short.maxdict, _short.maxstring, _short.maxother = 2, 4, 4, 80, 80


def sentence(error: ValidationError, place: str) -> str:
    """A validator's error as a person would say it. place: keys to what is wrong, joined by dots; "" for all of it.

    A schema can say it better with `x-message`, which is taken wherever what is wrong has to do with a value and not
    with a key.
    """
    error = _whole_choice(error)
    said = _of_keys(error) or _of_the_schema(error)
    if said is None:
        demand = _demand(error)
        if demand is not None:
            return f"{_subject(error, place)}; it must {demand}"
        said = error.message
    return f"{place}: {said}" if place else said


def shown(value: Any) -> str:
    """A value of a config in a few words, as YAML would have it where that differs from Python."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return _short.repr(value)


def allowed(rules: Mapping[str, Any]) -> str | None:
    """What a schema allows, to follow "it must be"; None for a schema that cannot be said so."""
    for choice in CHOICES:
        if choice in rules:
            options = [allowed(option) for option in rules[choice]]
            return None if None in options else ", or ".join(options)
    if "enum" in rules:
        return f"one of {', '.join(_plainly(value) for value in rules['enum'])}"
    if "const" in rules:
        return shown(rules["const"])
    if "type" not in rules:
        return None
    kinds = [rules["type"]] if isinstance(rules["type"], str) else rules["type"]
    return " or ".join(TYPES[kind] for kind in kinds) + _bounds(rules)


def _plainly(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _bounds(rules: Mapping[str, Any]) -> str:
    if "minimum" in rules and "maximum" in rules:
        return f" from {rules['minimum']} to {rules['maximum']}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    found = [f"{word} {rules[name]}" for name, word in words.items() if name in rules]
    return f", {' and '.join(found)}" if found else ""


def _whole_choice(error: ValidationError) -> ValidationError:
    """The choice between schemas of which the error is one branch, if it can be said as a whole."""
    parent = error.parent
    if parent is None or parent.validator not in CHOICES or parent.instance is not error.instance:
        return error
    return parent if "x-message" in parent.schema or allowed(parent.schema) else error


def _of_keys(error: ValidationError) -> str | None:
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in known]
        if unknown and known:
            hint = did_you_mean(unknown[0], known) or f"known keys: {', '.join(sorted(known))}"
            return f"unknown key {unknown[0]!r}; {hint}"
    if error.validator == "required":
        return error.message.replace("is a required property", "is missing")
    if error.validator == "dependentRequired":
        return error.message.replace("is a dependency of", "is missing, which goes with")
    return None


def _of_the_schema(error: ValidationError) -> str | None:
    message = error.schema.get("x-message") if isinstance(error.schema, dict) else None
    return message if message is None or isinstance(error.instance, dict) else f"{error.instance!r}: {message}"


def _subject(error: ValidationError, place: str) -> str:
    if "propertyNames" in error.absolute_schema_path:
        return f"{place}: the key is {shown(error.instance)}" if place else f"the key is {shown(error.instance)}"
    return f"{place or 'this'} is {shown(error.instance)}"


def _demand(error: ValidationError) -> str | None:
    """What follows "it must"; None where the validator's own message has to do."""
    rule, wanted = error.validator, error.validator_value
    if rule in ("minItems", "minProperties", "maxItems", "maxProperties"):
        exact = error.schema.get(f"min{rule[3:]}") == error.schema.get(f"max{rule[3:]}")
        amount = "" if exact else "at least " if rule.startswith("min") else "at most "
        return f"have {amount}{wanted} {'entry' if wanted == 1 else 'entries'}"
    if rule == "uniqueItems":
        twice = next(value for place, value in enumerate(error.instance) if value in error.instance[:place])
        return f"have each entry once, and {shown(twice)} stands there twice"
    if rule == "pattern":
        return f"match {wanted}"
    known = allowed(error.schema)
    return f"be {known}{_remark(error)}" if known else None


def _remark(error: ValidationError) -> str:
    """What is likely meant, or why YAML took the value for something else."""
    kinds, value = str(error.schema.get("type", "")), error.instance
    if error.validator == "enum" and isinstance(value, str):
        hint = did_you_mean(value, [option for option in error.validator_value if isinstance(option, str)])
        return f"; {hint}" if hint else ""
    if kinds == "string" and isinstance(value, int | float):
        return " (put it in quotes)"
    if kinds in ("number", "integer") and isinstance(value, str) and _is_number(value):
        return " (it is text: leave out quotes, and write an exponent as in 1.0e-3)"
    return ""


def did_you_mean(name: object, known: Sequence[str]) -> str:
    """ "did you mean 'x'?" for the closest known name; "" where none is close."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
