"""A params file as DVC reads it, or a sentence why it cannot be: plain values under text keys, of a size for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.representer import RoundTripRepresenter

_MOST_LEVELS = 20
_MOST_VALUES = 10_000
_LARGEST = 2**63 - 1


class ParamsError(Exception):
    """A params file cannot be used. The message has a line for each fault."""


def read(path: Path) -> dict[str, Any]:
    """The file's mapping; dates are text. Raises `ParamsError`.

    The parser is DVC's (YAML 1.2): 1e-4 and 010 are numbers, 0.0001 and 10, `yes` is a word, no key may stand twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        _require_shallow(path, text)
        values = YAML(typ="safe").load(text)
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the repository's top folder") from None
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        context = f"{error.context}, " if str(error.problem).startswith("but ") else ""
        raise ParamsError(f"{path}{line}: {context}{error.problem}") from error
    except (YAMLError, ValueError, ArithmeticError, LookupError, TypeError) as error:
        raise ParamsError(f"{path}: a value is not what its tag or form says: {error}") from error
    _require_few(path, values)
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: expected a mapping of keys, got {values!r}")
    mapping: dict[str, Any] = _plain(path, values, "")
    return mapping


class _NullAsWord(RoundTripRepresenter):
    """Writes null as the word and not as nothing."""


_NullAsWord.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def changed(path: Path, values: Mapping[tuple[str, ...], Any]) -> str:
    """The file's text with these values at these keys; its comments and all else stay. Raises `ParamsError`."""
    read(path)
    yaml = YAML()
    yaml.width = 2**16  # no line is broken
    yaml.preserve_quotes = True
    yaml.Representer = _NullAsWord
    content = yaml.load(path.read_text(encoding="utf-8"))
    for keys, value in values.items():
        section = content
        for key in keys[:-1]:
            section = section[key]
        kept = section.get(keys[-1])
        if isinstance(kept, list):
            kept[:] = value
        else:
            section[keys[-1]] = value
    text = StringIO()
    yaml.dump(content, text)
    return text.getvalue()


def written(content: Mapping[str, Any]) -> str:
    """The values as YAML, in their order, a key a line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width = False, 2**16
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = StringIO()
    yaml.dump(content, text)
    return text.getvalue()


def _require_shallow(path: Path, text: str) -> None:
    """Before it is read into values: the parser calls itself for each level, and a deep file overflows the stack."""
    level = 0
    for event in YAML(typ="safe").parse(text):
        level += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if level > _MOST_LEVELS:
            raise ParamsError(f"{path}:{event.start_mark.line + 1}: nested more than {_MOST_LEVELS} levels deep")


def _require_few(path: Path, values: Any) -> None:
    """Anchors that name each other stand for any number of values, or without end."""
    for count, _ in enumerate(_leaves(values, 0)):
        if count > _MOST_VALUES:
            raise ParamsError(f"{path}: more than {_MOST_VALUES} values; an anchor (&) stands for too many")


def _leaves(value: Any, level: int) -> Iterator[None]:
    yield
    if level <= _MOST_LEVELS and isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from _leaves(child, level + 1)


def _plain(path: Path, value: Any, where: str) -> Any:
    if where.count("\n") > _MOST_LEVELS:
        raise ParamsError(f"{path}: nested more than {_MOST_LEVELS} levels deep; an anchor (&) holds itself")
    if isinstance(value, dict):
        odd = [key for key in value if not isinstance(key, str)]
        if odd:
            raise ParamsError(f"{path}: {_shown(where)}a key is text, got {odd[0]!r}; put it in quotes")
        return {key: _plain(path, child, f"{where}{key}\n") for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(path, child, f"{where}{number}\n") for number, child in enumerate(value)]
    if isinstance(value, date):
        return str(value)
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ParamsError(f"{path}: {_shown(where)}a whole number is at most {_LARGEST}, got {value}")
    if not isinstance(value, str | int | float | None):
        raise ParamsError(f"{path}: {_shown(where)}should be text, a number or a list, got {type(value).__name__}")
    return value


def _shown(where: str) -> str:
    return f"{where.rstrip().replace(chr(10), '.')}: " if where else ""
