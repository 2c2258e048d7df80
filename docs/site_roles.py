"""Docstrings name things as Sphinx does, ``:class:`X```; the site shows the name."""

import re

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?(?:[\w.]*\.)?([\w.]+)`")


class PlainRoles(griffe.Extension):
    """Takes the roles out of every docstring before it becomes Markdown."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Called for each module, class, function and attribute once it is read."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value).replace("``", "`")
