"""Packages that can be called: ``compress.cost`` is a package and, called, its main function."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """A module that passes a call on to the function of its own name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function()(*args, **kwargs)

    def _function(self) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function())


def make_callable(name: str) -> None:
    """Let the module ``name`` be called, as in ``make_callable(__name__)``.

    Python binds an imported submodule to its package under its own name, so a function cannot
    stand at ``compress.cost`` beside the package ``compress.cost``; a module that can be called is
    both.
    """
    sys.modules[name].__class__ = _CallableModule
