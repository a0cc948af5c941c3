"""The one place that sets up jinja2 for the pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template


def load_template(package: str, name: str, filters: Mapping[str, Callable[..., Any]]) -> Template:
    """The template `name` of the package's templates/ folder; it may extend and include those of reports/templates/.

    Values are escaped as HTML; a name that is not given to the template raises.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("reports")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(name)
