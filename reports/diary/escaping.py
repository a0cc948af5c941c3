"""Text from outside (names of files, labels, tags) made safe for a line: what cannot be seen is spelled out."""

from __future__ import annotations

import re
import unicodedata

_JOINERS = "\u200c\u200d"  # invisible, but part of how words and emoji are written
_MARKDOWN = re.compile(r"[\\|*<\[\]`]|(?<!\w)_|_(?!\w)|~(?=~)|&(?=#?\w+;)")


def visible(text: str) -> str:
    r"""The text on one line, in the order in which it stands: controls and marks of direction become escapes.

    >>> visible("a\n# b\u202e.mp4")
    'a\\n# b\\u202e.mp4'
    """
    return "".join(map(_visible, text))


def in_markdown(text: str) -> str:
    """Safe inside a Markdown table or sentence, and shown as it is."""
    return _MARKDOWN.sub(lambda match: f"\\{match[0]}", visible(text))


def in_code_span(text: str) -> str:
    """As code in Markdown, where nothing but a backtick has a meaning; that one becomes an apostrophe."""
    return "`" + visible(text).replace("`", "'") + "`"


def without_surrogates(text: str) -> str:
    r"""The text with the bytes of a name that is no UTF-8 spelled out, as in "\xff": they cannot be written."""
    return "".join(_visible(char) if unicodedata.category(char) == "Cs" else char for char in text)


def _visible(char: str) -> str:
    # Controls, marks of direction and other invisible signs, surrogates, line and paragraph separators.
    if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or char in _JOINERS:
        return char
    if "\udc80" <= char <= "\udcff":  # a byte of a name that is no UTF-8, as `os.fsdecode` keeps it
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
