# SPDX-License-Identifier: Apache-2.0
"""The names that drivers and calibration tools give to lens models, and the lengths of their coefficient lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from st3r_ros.errors import CalibrationError

PLUMB_BOB, RATIONAL, EQUIDISTANT = "plumb_bob", "rational_polynomial", "equidistant"
PINHOLE, NONE = "pinhole", "none"
"""A perspective projection with whatever distortion its coefficients tell; and one without distortion."""

_SYNONYMS = {
    PLUMB_BOB: "plumb_bob radtan radial_tangential radial_tan radial_tangential_distortion opencv brown brown_conrady "
    "pinhole_radtan pinhole_radial_tangential standard",
    RATIONAL: "rational_polynomial rational full_opencv opencv_full pinhole_rational rational_polynomial_distortion",
    EQUIDISTANT: "equidistant equi fisheye fish_eye opencv_fisheye kannala_brandt kannala_brandt4 kannala_brandt8 kannalabrandt "
    "kannalabrandt4 kannalabrandt8 kb kb4 kb8 pinhole_equi pinhole_equidistant pinhole_fisheye",
    PINHOLE: "pinhole perspective pinhole_camera simple_pinhole projective",
    NONE: "none no_distortion no ideal rectified undistorted linear",
}
_KINDS = {name: kind for kind, names in _SYNONYMS.items() for name in names.split()}
FISHEYE_FLAGS = ("fisheye_model", "fisheye", "is_fisheye", "isFisheye", "use_fisheye", "useFisheye", "bFishEye")
"""Keys that say with a yes that the lens is equidistant. The first is that of OpenCV's calibration sample."""
# What kind of lens a name stands for that is not supported. Short names must stand alone: cameras are called DS-2CD2143 too.
_ALONE = r"^(?:pinhole_)?(?:{})(?:_(?:none|radtan|equi|camera|model|distortion))?$"
_UNSUPPORTED = {
    r"omni(?!_?vision)|catadioptric|" + _ALONE.format("mei"): "omnidirectional, Mei's unified model",
    r"unified|" + _ALONE.format("eucm|ucm"): "a unified camera model",
    r"double_sphere|" + _ALONE.format("ds"): "double sphere",
    r"field_of_view|" + _ALONE.format("fov|atan"): "a lens described by its field of view",
    r"(^|_)ocam|scaramuzza": "OCam, Scaramuzza's polynomial",
    r"equirectangular|panoram|(^|_)(cylindrical|spherical)(_|$)": "a panorama",
    r"(^|_)(f_theta|ftheta)(_|$)|stereographic|equisolid|orthographic": "a fisheye of another kind",
    r"(^|_)division(_|$)|thin_prism|inverse_brown|modified_brown": "another distortion polynomial",
}
_LENGTHS = (4, 5, 8, 12, 14)
"""Coefficients that OpenCV's standard model may have, and that drivers send, the rest of them zero."""
KNOWN = f"{PLUMB_BOB} (radtan), {RATIONAL}, {EQUIDISTANT} (fisheye, kannala_brandt), pinhole, none"


@dataclass(frozen=True, eq=False)
class Lens:
    """A model of `geometry/distortion` with its coefficients. note: a sentence about what was assumed, or ""."""

    model: str
    distortion: np.ndarray
    note: str = ""


def kind_of_lens(name: str) -> str | None:
    """The lens that a name stands for: plumb_bob, rational_polynomial, equidistant, pinhole or none; None for an unknown name."""
    return _KINDS.get(_plain(name))


def check_supported(key: str, name: str) -> None:
    """Refuses a name of a lens that is known, but not supported.

    key: of the calibration, which gives the name.

    Raises:
        CalibrationError: it is one.
    """
    kind = next((kind for pattern, kind in _UNSUPPORTED.items() if re.search(pattern, _plain(name))), "")
    if kind and kind_of_lens(name) is None:
        raise CalibrationError(f"'{key}: {name}' is a lens that is not supported ({kind}); calibrate as one of {KNOWN}.")


def find_lens(names: Mapping[str, str], coefficients: np.ndarray) -> Lens:
    """The lens that a calibration describes.

    names: what the calibration says, by the key that says it, such as {"distortion_model": "radtan", "camera_model": "pinhole"}.
        A key of FISHEYE_FLAGS is there only if its value is a yes.
    coefficients: (N,) float64, in the order of that model.

    Raises:
        CalibrationError: the lens is not known or not supported, two keys contradict each other, or the coefficients do not fit.
    """
    D = np.asarray(coefficients, dtype=np.float64)
    name, kind = _one_kind({key: text for key, text in names.items() if text.strip()})
    if D.ndim != 1 or not np.isfinite(D).all():
        raise CalibrationError(f"The distortion coefficients contain a number that is not finite: {str(D.tolist())[:200]}.")
    if kind == NONE:
        if D.any():
            raise CalibrationError(f"{name} means no distortion, but the coefficients are {_text(D)}; correct one.")
        return Lens(PLUMB_BOB, np.zeros(0))
    if kind == EQUIDISTANT:
        note = f"{name} names no distortion model; the coefficients are interpreted as {EQUIDISTANT}." if _is_flag(name) else ""
        return Lens(EQUIDISTANT, _four_of_fisheye(name, D), note)
    return _standard(name, kind, D)


def _is_flag(said: str) -> bool:
    return said.strip("'").partition(":")[0] in FISHEYE_FLAGS


def _one_kind(names: dict[str, str]) -> tuple[str, str]:
    """The key and value that decide, as text, and the kind of lens ("" where nothing is said)."""
    kinds: dict[str, str] = {}
    unknown: list[str] = []
    for key, text in names.items():
        said = f"{key}: {text}"
        check_supported(key, text)
        kind = EQUIDISTANT if _is_flag(said) else kind_of_lens(text)
        if kind is not None:
            kinds[said] = kind
        else:
            unknown.append(said)
    if unknown and (not kinds or any(said.startswith("distortion_model") for said in unknown)):
        raise CalibrationError(f"'{unknown[0]}' is not a known distortion model; known ones are {KNOWN}.")
    # pinhole speaks of the projection only; "none" beside it, or a distortion, says the rest.
    telling = {said: kind for said, kind in kinds.items() if kind != PINHOLE} or kinds
    if len(set(telling.values())) > 1:
        first, second, *_ = (f"'{said}'" for said in telling)
        raise CalibrationError(f"{first} and {second} contradict each other; remove the wrong one.")
    said, kind = next(iter(telling.items()), ("", ""))
    return f"'{said}'", kind


def _standard(name: str, kind: str, D: np.ndarray) -> Lens:
    """OpenCV's standard model: plumb_bob, or rational_polynomial where it needs more coefficients."""
    if not D.any():
        exact = kind == RATIONAL and len(D) in (0, 8, 12, 14)
        return Lens(RATIONAL, D) if exact else Lens(PLUMB_BOB, D if len(D) in (0, 4, 5) else np.zeros(5))
    if len(D) not in _LENGTHS:
        raise CalibrationError(
            f"{len(D)} distortion coefficients {_text(D)} fit no lens model; plumb_bob takes 4 or 5, rational_polynomial 8, 12 "
            "or 14, equidistant 4."
        )
    if kind == PLUMB_BOB and D[5:].any():
        raise CalibrationError(
            f"{name} takes 4 or 5 coefficients, but of {_text(D)} the sixth or a later one is not zero; is it {RATIONAL}?"
        )
    used = len(np.trim_zeros(D, "b"))
    needed = next(length for length in _LENGTHS if length >= used)
    if kind != RATIONAL and needed <= 5:
        note = "" if kind == PLUMB_BOB else f"{_unsaid(name, kind)}; the {len(D)} coefficients are interpreted as plumb_bob."
        return Lens(PLUMB_BOB, D[:5], note)
    note = "" if kind == RATIONAL else f"{_unsaid(name, kind)}; the {len(D)} coefficients are interpreted as rational_polynomial."
    return Lens(RATIONAL, np.pad(D, (0, max(0, 8 - len(D))))[: max(8, needed)], note)


def _unsaid(name: str, kind: str) -> str:
    return f"{name} does not specify the distortion model" if kind else "No distortion model is given"


def _four_of_fisheye(name: str, D: np.ndarray) -> np.ndarray:
    if len(D) == 6 and not D[2:4].any():
        return D[[0, 1, 4, 5]]  # RTAB-Map writes k1 k2 0 0 k3 k4
    if len(D) < 4 or D[4:].any():
        raise CalibrationError(f"{name} takes 4 distortion coefficients, but there are {len(D)}: {_text(D)}.")
    return D[:4]


def _plain(name: str) -> str:
    """`Kannala-Brandt` as `kannala_brandt`."""
    return re.sub(r"[\s_-]+", "_", name.strip().strip("'\"")).strip("_").lower()


def _text(D: np.ndarray) -> str:
    return f"[{', '.join(f'{value:g}' for value in D)}]"
