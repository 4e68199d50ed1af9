# SPDX-License-Identifier: Apache-2.0
"""Streams written bit by bit, with what encoders seldom write."""

import pytest

from st3r_ros.io.h264 import FrameNumbers, has_picture

BASELINE, HIGH = 66, 100


def number(value: int) -> str:
    """An Exp-Golomb number."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def unit(kind: int, bits: str, *, reference: bool = True) -> bytes:
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    for end in (0, 1, 2, 3):
        body = body.replace(bytes([0, 0, end]), bytes([0, 0, 3, end]))
    return b"\0\0\1" + bytes([(0x60 if reference else 0) | kind]) + body


def parameters(profile: int, *, gaps: bool = False) -> bytes:
    """Sequence and picture parameters with frame numbers of 5 bits."""
    bits = f"{profile:08b}" + "0" * 8 + f"{30:08b}" + number(0)
    if profile == HIGH:
        bits += number(3) + "1" + number(0) + number(0) + "0" + "1"  # 4:4:4 in planes of their own, scaling lists
        bits += "1" + number(1) * 16 + "1" + number(16) + "0" * 4 + "1" + number(1) * 64 + "0" * 5
    bits += number(1) + number(1) + "0" + number(0) + number(0) + number(2) + number(1) + number(2) + number(1) + str(int(gaps))
    return unit(7, bits + "0" * 16) + unit(8, number(0) + number(0) + "0" * 16)


def picture(frame_num: int, *, profile: int = BASELINE, idr: bool = False, reference: bool = True) -> bytes:
    planes = "00" if profile == HIGH else ""
    return unit(5 if idr else 1, number(0) + number(5) + number(0) + planes + f"{frame_num:05b}" + "0" * 40, reference=reference)


@pytest.mark.parametrize("profile", [BASELINE, HIGH])
def test_a_missing_reference_frame_is_noticed(profile):
    numbers = FrameNumbers()
    assert numbers.continues(parameters(profile) + picture(0, profile=profile, idr=True))
    for count in range(1, 40):  # round the end of the numbers
        assert numbers.continues(picture(count % 32, profile=profile))
    assert not numbers.continues(picture(9, profile=profile))
    numbers.restart()
    assert numbers.continues(picture(20, profile=profile))


def test_frames_that_no_other_builds_on_may_be_missing():
    numbers = FrameNumbers()
    numbers.continues(parameters(BASELINE) + picture(0, idr=True))
    assert all(numbers.continues(picture(count, reference=False)) for count in (1, 1, 1))
    assert numbers.continues(picture(1)) and numbers.continues(picture(2))
    assert not numbers.continues(picture(4, reference=False))


def test_streams_that_leave_numbers_out_say_so():
    numbers = FrameNumbers()
    numbers.continues(parameters(BASELINE, gaps=True) + picture(0, idr=True))
    assert numbers.continues(picture(7))


@pytest.mark.parametrize("end", range(0, 24, 3))
def test_what_is_cut_short_or_unknown_is_left_to_the_decoder(end):
    numbers = FrameNumbers()
    assert numbers.continues((parameters(HIGH) + picture(3))[:end]) and numbers.continues(picture(5))


def test_parameters_are_no_picture():
    assert not has_picture(parameters(BASELINE), "h264") and has_picture(picture(0), "h264")
    assert not has_picture(b"\0\0\1\x40\1" + b"\0\0\1\x42\1", "hevc") and has_picture(b"\0\0\1\x26\1", "hevc")
