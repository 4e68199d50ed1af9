# SPDX-License-Identifier: Apache-2.0
"""Parses the constructor call that a checkpoint contains as text. Only literals are read; nothing is evaluated."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from st3r_ros.errors import CheckpointError

LONGEST_CALL = 20_000
LONGEST_QUOTE = 80


@dataclass(frozen=True)
class Arguments:
    """The description of a network in its checkpoint.

    model: name of the class, "" where only the arguments are given (config.json). values: keyword -> literal.
    unread: keyword -> source text, for values that are not literals.
    """

    model: str
    values: Mapping[str, Any]
    unread: Mapping[str, str] = field(default_factory=dict)


def parse_constructor(text: str) -> Arguments:
    """Reads `AsymmetricMASt3R(img_size=(512, 512), conf_mode=('exp', 1, inf), ...)`.

    Literals are numbers, strings, booleans, None, tuples, lists, `inf`, `-inf`, `nan`, also as `float('inf')` or `math.inf`.

    Raises:
        CheckpointError: the text is not a call with keyword arguments.
    """
    if len(text) > LONGEST_CALL:
        raise CheckpointError(f"its model description has {len(text)} characters, too many for a constructor call.")
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Call) and not call.args and all(keyword.arg for keyword in call.keywords):
            return _arguments(call)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    raise CheckpointError(
        f"its model description is {quote(text)}, which is not a constructor call with keyword arguments, "
        "such as AsymmetricMASt3R(enc_depth=24); download the file again from its publisher."
    )


def quote(text: str) -> str:
    """The beginning of a text from a file, safe to print."""
    return repr(text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}...")


def _arguments(call: ast.Call) -> Arguments:
    values, unread = {}, {}
    for keyword in call.keywords:
        assert keyword.arg is not None
        try:
            values[keyword.arg] = _literal(keyword.value)
        except _NotLiteralError:
            unread[keyword.arg] = ast.unparse(keyword.value)
    return Arguments(ast.unparse(call.func).rpartition(".")[2], values, unread)


class _NotLiteralError(Exception):
    """Raised for values that are not literals, to distinguish them from None."""


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_literal(item) for item in items)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            value = _literal(operand)
            if isinstance(value, int | float):
                return -value if isinstance(sign, ast.USub) else value
        case (
            ast.Name(id="inf" | "nan" as name)
            | ast.Attribute(value=ast.Name(id="math" | "np" | "numpy" | "torch"), attr="inf" | "nan" as name)
        ):
            return float(name)
        case ast.Call(func=ast.Name(id="float"), args=[argument], keywords=[]):
            return _number(_literal(argument))
    raise _NotLiteralError


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise _NotLiteralError from None
