"""What a value of the params may be: numbers within limits, lists, names of folders and files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BeforeValidator

_LARGEST = 10**9  # of counts, seconds and gigabytes: more is a slip, and a sum of it may overflow
Seed = Annotated[int, Ge(0), Lt(2**32)]  # what every random generator takes
Count = Annotated[int, Ge(0), Le(_LARGEST)]
AtLeastOne = Annotated[int, Ge(1), Le(_LARGEST)]
NonNegative = Annotated[float, Ge(0), Le(_LARGEST)]
Positive = Annotated[float, Gt(0), Le(_LARGEST)]
# One value or a list of them; what is read is always a tuple.
OneOrMore = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else (value,))
FolderName = Annotated[str, MinLen(1)]
Files = Annotated[tuple[FolderName, ...], OneOrMore, BeforeValidator(lambda names: [] if names is None else names)]


def require_unique(key: str, values: tuple[Any, ...]) -> None:
    """Raise `ValueError` where a value of `key` is named twice."""
    doubles = sorted({value for value in values if values.count(value) > 1})
    if doubles:
        raise ValueError(f"{key} names {', '.join(map(str, doubles))} more than once")


def unique(key: str) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """A check for pydantic that gives the values back, or raises as `require_unique` does."""

    def checked(values: tuple[Any, ...]) -> tuple[Any, ...]:
        require_unique(key, values)
        return values

    return checked
