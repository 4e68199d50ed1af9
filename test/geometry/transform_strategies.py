# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for rotations and transforms, weighted towards the identity and half turns."""

import math

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

properties = settings(max_examples=100)

_near_zero = st.floats(-14.0, -2.0).map(lambda exponent: 10.0**exponent)
angles = st.one_of(
    st.just(0.0),
    _near_zero,
    st.floats(0.0, math.pi - 1e-2),
    st.floats(-9.0, -2.0).map(lambda exponent: math.pi - 10.0**exponent),
)


def vectors(size: int, bound: float) -> st.SearchStrategy[np.ndarray]:
    return st.lists(st.floats(-bound, bound), min_size=size, max_size=size).map(np.array)


unit_vectors = vectors(3, 1.0).filter(lambda v: np.linalg.norm(v) > 1e-2).map(lambda v: v / np.linalg.norm(v))
rotation_vectors = st.builds(lambda axis, angle: axis * angle, unit_vectors, angles)
se3_tangents = st.builds(lambda rho, phi: np.concatenate([rho, phi]), vectors(3, 10.0), rotation_vectors)
sim3_tangents = st.builds(
    np.append,
    se3_tangents,
    st.one_of(st.just(0.0), _near_zero, _near_zero.map(lambda x: -x), st.floats(-2.0, 2.0)),
)


def tangent_batch(size: int) -> np.ndarray:
    """(60, size) fixed tangent vectors that mix zero, tiny, ordinary and almost half-turn rotations."""
    rng = np.random.default_rng(size)
    xi = rng.normal(size=(60, size))
    lengths = np.tile([0.0, 1e-12, 1e-5, 0.5, 2.5, math.pi - 1e-7], 10)
    xi[:, 3:6] *= (lengths / np.linalg.norm(xi[:, 3:6], axis=1))[:, None]
    return xi
