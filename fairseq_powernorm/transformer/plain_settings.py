"""fairseq without ``eval``: settings are plain values, whoever wrote them.

Some settings of fairseq's are Python expressions in a string (``--adaptive-softmax-cutoff``, ``--adam-betas``, the
layers of convolutional models), which it hands to ``eval`` when it builds the model: a checkpoint from a stranger could
run any code by them, although torch unpickles it safely.
"""

import ast
import operator
import sys
from typing import Any

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
LARGEST = 100_000  # of what a product may repeat


def plain_value(text: str, *_: Any) -> Any:
    """The value of a Python expression of literals: numbers, strings, tuples, lists, dictionaries, and + - * / of them
    (``[(512, 3)] * 20``). What is no string is its own value.

    Raises:
        ValueError: anything else: names, calls, attributes, comprehensions, or a product beyond all measure.
    """
    if isinstance(text, bytes | bytearray):
        raise ValueError(f"the setting {text!r} is no plain value: fairseq_powernorm evaluates no code")
    if not isinstance(text, str):
        return text
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ValueError, ArithmeticError, RecursionError, MemoryError):
        raise ValueError(f"the setting {text!r} is no plain value: fairseq_powernorm evaluates no code") from None


def _value(node: ast.expr) -> Any:
    """The value of a node."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _value(node.left), _value(node.right)
        for one, other in ((left, right), (right, left)):
            if isinstance(node.op, ast.Mult) and hasattr(one, "__len__") and len(one) * abs(other) > LARGEST:
                raise ValueError("too large")
        return OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Tuple | ast.List):
        values = [_value(element) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    return ast.literal_eval(node)


def forbid_eval() -> None:
    """Puts :func:`plain_value` in the place of ``eval`` in every module of fairseq that is loaded and has none of its
    own; settings that are code are then a ``ValueError`` where fairseq builds what they are of."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "fairseq" and module is not None and "eval" not in vars(module):
            module.eval = plain_value
