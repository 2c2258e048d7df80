"""Doing something once a module is imported, whether that happened already or comes later."""

import importlib.abc
import sys
from collections.abc import Callable
from types import ModuleType

Action = Callable[[ModuleType], object]


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds modules by the other finders, and has actions done after those that are waited for."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Action]] = {}

    def find_spec(self, name, path, target=None):
        """The spec of the other finders; see :class:`importlib.abc.MetaPathFinder`."""
        if name not in self.waiting:
            return None
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for action in self.waiting.pop(name, []):
                action(module)

        spec.loader.exec_module = exec_module
        return spec


_after_import = _AfterImport()


def when_imported(name: str, action: Action) -> None:
    """Calls ``action(module)`` at once if the module ``name`` is imported, else right after it will be."""
    if name in sys.modules:
        action(sys.modules[name])
        return
    if _after_import not in sys.meta_path:
        sys.meta_path.insert(0, _after_import)
    _after_import.waiting.setdefault(name, []).append(action)
