"""Typesets the formulas that norms declare, ``(x − μ_B)/√(σ_B² + ε)``, as MathML, which browsers draw by themselves.

What is written: sums, products by a space, one fraction bar after another, ``√`` of what follows, functions,
subscripts ``_B`` and ``_{t−1}``, ``²``; several letters in a row are words.
"""

import html
import re

LETTER = r"[^\W\d_²]"
TOKEN = re.compile(rf"`[^`]*`|{LETTER}\u0302?(?!{LETTER}|')|{LETTER}(?:{LETTER}|')*|\d+|\s+|.")
FUNCTIONS = ("max", "tanh", "erf")
CLOSING = {"(": ")", "{": "}", "‖": "‖"}


def typeset(formula: str) -> str:
    """A formula, words among it, as a ``<math>`` element.

    Raises:
        ValueError: a bracket that is not closed.
    """
    tokens = TOKEN.findall(formula)
    math = _sequence(tokens, "")
    return f"<math>{math}</math>"


def _sequence(tokens: list[str], closing: str) -> str:
    """Everything up to the closing bracket, which is taken too. ``tokens`` lose what is read."""
    items: list[str] = []
    while tokens:
        if tokens[0] == closing:
            del tokens[0]
            return _row(items)
        if tokens[0] == "/":
            del tokens[0]
            below = _factor(tokens)
            items[-1] = f"<mfrac>{_without_brackets(items[-1])}{_without_brackets(below)}</mfrac>"
        else:
            items.append(_factor(tokens))
    if closing:
        raise ValueError(f"a formula without its {closing}")
    return _row(items)


def _factor(tokens: list[str]) -> str:
    """One symbol, root, function, bracket or word, with its sub- and superscript."""
    token = tokens.pop(0)
    if token == "√":
        return f"<msqrt>{_without_brackets(_factor(tokens))}</msqrt>"
    if token in CLOSING:
        inner = _sequence(tokens, CLOSING[token])
        base = f"<mrow><mo>{token}</mo>{inner}<mo>{CLOSING[token]}</mo></mrow>"
    elif token in FUNCTIONS and tokens[:1] == ["("]:
        return f"<mrow><mi>{token}</mi>{_factor(tokens)}</mrow>"
    else:
        base = _symbol(token)
    below = above = ""
    while tokens and tokens[0] in "_²":
        if tokens.pop(0) == "²":
            above = "<mn>2</mn>"
        elif tokens[0] == "{":
            del tokens[0]
            below = _sequence(tokens, "}")
        else:
            below = _symbol(tokens.pop(0))
    if below and above:
        return f"<msubsup>{base}{below}{above}</msubsup>"
    return f"<msub>{base}{below}</msub>" if below else f"<msup>{base}{above}</msup>" if above else base


def _symbol(token: str) -> str:
    """A letter, a number, an operator, a space or a word."""
    if token.isspace():
        return '<mspace width="0.2em"/>'
    if token.startswith("`"):
        return f"<mtext><code>{html.escape(token.strip('`'))}</code></mtext>"
    if token.isdigit():
        return f"<mn>{token}</mn>"
    if token[0].isalpha():
        single = len(token.rstrip("\u0302")) == 1 and token != "a"
        return f"<mi>{token}</mi>" if single else f"<mtext>{html.escape(token)}</mtext>"
    return f"<mo>{html.escape(token)}</mo>"


def _row(items: list[str]) -> str:
    return f"<mrow>{''.join(items)}</mrow>"


def _without_brackets(factor: str) -> str:
    """What a root or a fraction bar already holds together."""
    found = re.fullmatch(r"<mrow><mo>\(</mo>(.*)<mo>\)</mo></mrow>", factor)
    return found[1] if found else factor
