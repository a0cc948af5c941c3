"""What a value of the params may be: numbers within limits, lists, names of folders and files."""

from __future__ import annotations

from typing import Annotated

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
