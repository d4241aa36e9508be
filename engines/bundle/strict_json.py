"""JSON read with suspicion: every surprise is an `EngineError` that names the field, never another exception.

Python's own parser lets NaN, Infinity and repeated keys through and keeps only the last of the latter; a manifest may
have none of them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from dtfsal.engines.errors import DtfsalError, EngineError

MAX_DEPTH = 32
_INT64_LIMIT = 2**63


def parse_json(
    text: str | bytes,
    source: str,
    *,
    error: type[DtfsalError] = EngineError,
    remedy: str = "rebuild the engine or copy it again",
) -> JsonNode:
    """Parse a JSON document.

    Args:
        text: the document; bytes are UTF-8 without a byte order mark.
        source: what the document is called in an error, e.g. "manifest.json".
        error: what is raised, here and by the nodes.
        remedy: what to do about a document that is not JSON.

    Returns:
        The root value, with an empty path.

    Raises:
        EngineError: the text is not JSON, has NaN, Infinity or a repeated key, or is nested too deeply. With `error`,
            that one.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise error(f"{source} is nested too deeply") from None
    except ValueError as problem:  # JSONDecodeError, UnicodeDecodeError, an integer of thousands of digits
        raise error(f"{source} is not valid JSON ({problem}); {remedy}") from problem
    return JsonNode(value, "", source, error)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {repeated!r} occurs twice in one object")
    return result


def plain_json(value: Any, path: str, depth: int = 0) -> Any:
    """Copy a JSON-able value with its tuples turned into lists, so that a round trip compares equal.

    Raises:
        EngineError: something in it isn't JSON: a foreign type, NaN, Infinity, an integer beyond 64 bits, a lone
            surrogate, or more than `MAX_DEPTH` levels.
    """
    if depth > MAX_DEPTH:
        raise EngineError(f"{path} is nested more than {MAX_DEPTH} levels deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _encodable(value, path)
    if isinstance(value, int):
        if abs(value) >= _INT64_LIMIT:
            raise EngineError(f"{path} does not fit in 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise EngineError(f"{path} must be finite, not {value!r}")
        return float(value)
    if isinstance(value, (list, tuple)):
        return [plain_json(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, dict):
        result = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise EngineError(f"{path} has the key {key!r}, and JSON's keys are strings")
            result[_encodable(key, path)] = plain_json(item, f"{path}.{key}", depth + 1)
        return result
    raise EngineError(f"{path} holds a {type(value).__name__}, which JSON cannot express")


def _encodable(text: str, path: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise EngineError(f"{path} holds text that is not valid Unicode") from None
    return str(text)


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


@dataclasses.dataclass(frozen=True)
class JsonNode:
    """A JSON value that knows where it stands.

    Attributes:
        value: the parsed value.
        path: its place, e.g. "graphs.window.inputs[0].shape"; empty for the root.
        source: the document's name.
        error: what `fail` raises.
    """

    value: Any
    path: str
    source: str
    error: type[DtfsalError] = EngineError

    def fail(self, problem: str) -> NoReturn:
        """Raise the error, which begins with the document and the path."""
        place = f"{self.source}: {self.path}" if self.path else self.source
        raise self.error(f"{place} {problem}")

    def _expected(self, what: str) -> NoReturn:
        if isinstance(self.value, (list, dict)):
            shown = "an array" if isinstance(self.value, list) else "an object"
        else:
            shown = _shorten(json.dumps(self.value))
        self.fail(f"must be {what}, not {shown}")

    def _child(self, key: str) -> JsonNode:
        shown = _shorten(key if key.isprintable() else repr(key))
        return dataclasses.replace(self, value=self.value[key], path=f"{self.path}.{shown}" if self.path else shown)

    def mapping(self) -> dict[str, JsonNode]:
        """The members of an object with any keys."""
        if not isinstance(self.value, dict):
            self._expected("an object")
        return {key: self._child(key) for key in self.value}

    def record(self, keys: Sequence[str], optional: Sequence[str] = ()) -> dict[str, JsonNode]:
        """The members of an object that has exactly these keys, and perhaps some of the optional ones."""
        members = self.mapping()
        for key in keys:
            if key not in members:
                self.fail(f"lacks the key {key!r}")
        for key in members:
            if key not in keys and key not in optional:
                self.fail(f"has the unknown key {_shorten(repr(key))}")
        return members

    def array(self) -> list[JsonNode]:
        """The items of an array."""
        if not isinstance(self.value, list):
            self._expected("an array")
        return [
            dataclasses.replace(self, value=item, path=f"{self.path}[{index}]") for index, item in enumerate(self.value)
        ]

    def string(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            self._expected("a string")
        return self.value

    def boolean(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            self._expected("true or false")
        return self.value

    def integer(self) -> int:
        """An integer within 64 bits; true, false and 1.0 are not integers."""
        if type(self.value) is not int or abs(self.value) >= _INT64_LIMIT:
            self._expected("an integer")
        return self.value

    def number(self) -> float:
        """A finite number, as float."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            self._expected("a number")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self._expected("a finite number")
        return number

    def plain(self) -> Any:
        """Any JSON value, checked and copied by `plain_json`."""
        try:
            return plain_json(self.value, self.path)
        except EngineError as error:
            raise EngineError(f"{self.source}: {error}") from None
