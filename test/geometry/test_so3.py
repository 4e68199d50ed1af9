# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation
from transform_strategies import properties, rotation_vectors, tangent_batch, vectors

from st3r_ros.errors import GeometryError
from st3r_ros.geometry import so3


@properties
@given(rotation_vectors)
def test_exp_is_the_matrix_exponential(phi):
    R = so3.exp(phi)
    np.testing.assert_allclose(R, expm(so3.hat(phi)), atol=1e-13)
    np.testing.assert_allclose(R.T @ R, np.eye(3), atol=1e-14)


@properties
@given(rotation_vectors)
def test_log_undoes_exp_up_to_half_turns(phi):
    np.testing.assert_allclose(so3.log(so3.exp(phi)), phi, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("angle", [math.pi, math.pi - 1e-15, math.pi + 1e-12])
def test_a_half_turn_keeps_its_rotation(angle):
    axes = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [0.6, 0.0, -0.8], [-0.48, 0.6, 0.64]])
    R = so3.exp(angle * axes)
    phi = so3.log(R)
    np.testing.assert_allclose(np.linalg.norm(phi, axis=-1), math.pi, atol=1e-11)
    np.testing.assert_allclose(so3.exp(phi), R, atol=1e-14)


@properties
@given(vectors(3, 10.0), vectors(3, 10.0))
def test_hat_is_the_cross_product(a, b):
    np.testing.assert_allclose(so3.hat(a) @ b, np.cross(a, b), atol=1e-12)


@properties
@given(rotation_vectors, st.floats(1e-3, 1e3))
def test_quaternions_agree_with_scipy(phi, length):
    R = so3.exp(phi)
    q = so3.to_quaternion_xyzw(R)
    assert q[3] >= 0.0
    assert np.linalg.norm(q) == pytest.approx(1.0, abs=1e-14)
    np.testing.assert_allclose(Rotation.from_quat(q).as_matrix(), R, atol=1e-14)
    np.testing.assert_allclose(so3.from_quaternion_xyzw(-length * q), R, atol=1e-14)


@properties
@given(rotation_vectors, st.floats(-3.0, 3.0))
def test_exp_integral_is_the_block_of_the_matrix_exponential(phi, log_scale):
    generator = np.zeros((6, 6))
    generator[:3, :3] = log_scale * np.eye(3) + so3.hat(phi)
    generator[:3, 3:] = np.eye(3)
    np.testing.assert_allclose(so3.exp_integral(phi, log_scale), expm(generator)[:3, 3:], rtol=1e-11, atol=1e-11)


def test_a_batch_equals_a_loop():
    phi = tangent_batch(6)[:, 3:]
    R = so3.exp(phi.reshape(5, 12, 3))
    np.testing.assert_allclose(R.reshape(-1, 3, 3), [so3.exp(one) for one in phi], rtol=0, atol=1e-14)
    np.testing.assert_allclose(so3.log(R).reshape(-1, 3), [so3.log(so3.exp(one)) for one in phi], rtol=0, atol=1e-14)
    assert so3.log(so3.exp(np.zeros((0, 3)))).shape == (0, 3)


@properties
@given(rotation_vectors)
def test_nearest_rotation_repairs_rounding(phi):
    R = so3.exp(phi)
    repaired = so3.nearest_rotation(R.round(4))
    np.testing.assert_allclose(repaired.T @ repaired, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(repaired, R, atol=2e-4)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.diag([1.0, 1.0, -1.0]), "reflection"),
        (1.1 * np.eye(3), "from orthonormal by 0.21"),
        (np.full((3, 3), np.nan), "not a rotation"),
    ],
)
def test_what_is_no_rotation_is_refused(matrix, words):
    with pytest.raises(GeometryError, match=words):
        so3.nearest_rotation(matrix)


@pytest.mark.parametrize("q", [[0.0, 0.0, 0.0, 0.0], [np.nan, 0.0, 0.0, 1.0], [np.inf, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
def test_what_is_no_quaternion_is_refused(q):
    with pytest.raises(GeometryError, match="quaternion"):
        so3.from_quaternion_xyzw(np.array(q))
