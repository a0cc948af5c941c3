"""Names of labels for programs that tell labels apart by their names alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from reports.diary.escaping import visible


def distinct_names(names: Mapping[str, str]) -> dict[str, str]:
    """The name of each label on one line; those that several labels share are followed by the label's id."""
    shown = {label: visible(name).strip() or label for label, name in names.items()}
    count = Counter(shown.values())
    return {label: name if count[name] == 1 else f"{name} ({visible(label)})" for label, name in shown.items()}
