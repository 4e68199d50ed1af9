# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_images import properties

from st3r_ros.errors import FrameError
from st3r_ros.io.stamps import format_stamp, parse_stamp


@properties
@given(st.integers(-9_000_000_000 * 10**9, 9_000_000_000 * 10**9))
def test_every_nanosecond_survives(stamp_ns):
    assert parse_stamp(format_stamp(stamp_ns)) == stamp_ns


@pytest.mark.parametrize(
    ("text", "stamp_ns"),
    [
        ("1305031102.175304", 1305031102175304000),
        ("0", 0),
        ("1.4036365797635556e9", 1403636579763555600),
        ("0.0000000016", 2),
        ("1e-999999", 0),
    ],
)
def test_stamps_are_exact(text, stamp_ns):
    assert parse_stamp(text) == stamp_ns


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "abc", "", "1.2.3", "1e30", "1e999999999", "-1e400000", "sNaN"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(FrameError, match="stamp"):
        parse_stamp(text)
