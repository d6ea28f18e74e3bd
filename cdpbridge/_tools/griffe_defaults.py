"""For the site: a default that is a private constant of its module is shown as the constant's value."""

from __future__ import annotations

from typing import Any

import griffe

__all__ = ["ConstantDefaults"]


class ConstantDefaults(griffe.Extension):
    """Replace `timeout=_NAVIGATION_TIMEOUT` by `timeout=timedelta(seconds=30)`: readers do not see the constant."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Look at each default of a function; what is no name of a constant above it stays."""
        for parameter in func.parameters:
            constant = func.module.members.get(str(parameter.default))
            if isinstance(constant, griffe.Attribute) and constant.name.startswith("_") and constant.value:
                parameter.default = constant.value
