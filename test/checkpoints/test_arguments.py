# SPDX-License-Identifier: Apache-2.0
import keyword
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st3r_ros.checkpoints.arguments import Arguments, parse_constructor
from st3r_ros.errors import CheckpointError

NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,12}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


@settings(max_examples=40)
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_what_python_writes_is_read_back(values):
    text = f"models.AsymmetricMASt3R({', '.join(f'{name}={value!r}' for name, value in values.items())})"
    assert parse_constructor(text) == Arguments("AsymmetricMASt3R", values)


@pytest.mark.parametrize("text", ["inf", "+inf", "float('inf')", 'float("Infinity")', "math.inf", "np.inf", "torch.inf", "1e999"])
def test_infinity_in_all_its_spellings(text):
    assert parse_constructor(f"A(x={text}, y=-{text}, z=('exp', -{text}, {text}))").values == {
        "x": math.inf,
        "y": -math.inf,
        "z": ("exp", -math.inf, math.inf),
    }


@pytest.mark.parametrize(
    "text", ["f(1)", "a + b", "[x for x in y]", "-'a'", "float(f())", "{}", "b'bytes'", "1j", "...", "float('x')"]
)
def test_what_is_no_literal_is_kept_as_text(text):
    arguments = parse_constructor(f"A(x={text}, y=3)")
    assert arguments.values == {"y": 3} and set(arguments.unread) == {"x"}


@pytest.mark.parametrize(
    "text",
    ["", "A", "A(", "A()()x", "A(1)", "A(*x)", "A(**x)", "1 + 1", "import os", "A(x=\0)", "A(x=" + "(" * 500, "-" * 9000 + "1",
     "A(x=" + "9" * 5000 + ")", "A(y=" + "-" * 9000 + "1)", "A(x='" + "a" * 30_000 + "')"],
)  # fmt: skip
def test_what_is_no_constructor_call_is_told(text):
    with pytest.raises(CheckpointError, match="its model description"):
        parse_constructor(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        parse_constructor(text)
    except CheckpointError as error:
        assert "\n" not in str(error)
