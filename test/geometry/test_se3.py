# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from scipy.linalg import expm
from transform_strategies import properties, se3_tangents, tangent_batch, vectors

from st3r_ros.errors import GeometryError
from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import SE3


def assert_same(a: SE3, b: SE3, atol: float = 1e-9) -> None:
    np.testing.assert_allclose(a.as_matrix(), b.as_matrix(), rtol=1e-9, atol=atol)


@properties
@given(se3_tangents)
def test_exp_is_the_matrix_exponential(xi):
    generator = np.zeros((4, 4))
    generator[:3, :3], generator[:3, 3] = so3.hat(xi[3:]), xi[:3]
    np.testing.assert_allclose(SE3.exp(xi).as_matrix(), expm(generator), atol=1e-12)


@properties
@given(se3_tangents)
def test_log_undoes_exp(xi):
    np.testing.assert_allclose(SE3.exp(xi).log(), xi, atol=1e-10)


@properties
@given(se3_tangents, se3_tangents)
def test_adjoint_carries_tangent_vectors_over(a, x):
    T = SE3.exp(a)
    assert_same(T @ SE3.exp(x) @ T.inverse(), SE3.exp(T.adjoint() @ x))


@properties
@given(se3_tangents, se3_tangents, se3_tangents, vectors(3, 10.0))
def test_group_laws(a, b, c, x):
    A, B, C = SE3.exp(a), SE3.exp(b), SE3.exp(c)
    assert_same((A @ B) @ C, A @ (B @ C))
    assert_same(A @ A.inverse(), SE3.identity())
    assert_same(A.inverse() @ A, SE3.identity())
    np.testing.assert_allclose((A @ B) @ x, A @ (B @ x), atol=1e-11)
    np.testing.assert_allclose(A.adjoint() @ B.adjoint(), (A @ B).adjoint(), atol=1e-11)


@properties
@given(se3_tangents)
def test_conversions_return_the_same_transform(xi):
    T = SE3.exp(xi)
    assert_same(SE3.from_matrix(T.as_matrix()), T, atol=1e-14)
    assert_same(SE3.from_quaternion_xyzw(T.quaternion_xyzw, T.translation), T, atol=1e-14)
    assert_same(T.sim3(2.0).se3(), T, atol=0.0)


def test_a_batch_equals_a_loop():
    xi = tangent_batch(6)
    T, x = SE3.exp(xi), xi[::-1, :3]
    loop = [SE3.exp(one) for one in xi]
    assert T.batch == (60,)
    for name in ("log", "adjoint", "as_matrix"):
        np.testing.assert_allclose(getattr(T, name)(), [getattr(one, name)() for one in loop], rtol=0, atol=1e-12)
    np.testing.assert_allclose(T.quaternion_xyzw, [one.quaternion_xyzw for one in loop], rtol=0, atol=1e-14)
    np.testing.assert_allclose(T.act(x), [one.act(p) for one, p in zip(loop, x, strict=True)], rtol=0, atol=1e-14)
    np.testing.assert_allclose((T @ T.inverse()).as_matrix(), [(one @ one.inverse()).as_matrix() for one in loop], atol=1e-12)
    np.testing.assert_array_equal(T[7].as_matrix(), T.as_matrix()[7])


def test_points_follow_the_leading_dimensions_of_the_batch():
    rng = np.random.default_rng(0)
    T = SE3.exp(rng.normal(size=(5, 6)))
    images, one_each, shared = rng.normal(size=(5, 4, 6, 3)), rng.normal(size=(5, 3)), rng.normal(size=3)
    np.testing.assert_allclose(T @ images, [T[i] @ images[i] for i in range(5)], atol=1e-14)
    np.testing.assert_allclose(T @ one_each, [T[i] @ one_each[i] for i in range(5)], atol=1e-14)
    np.testing.assert_allclose(T @ shared, [T[i] @ shared for i in range(5)], atol=1e-14)
    flat = T[0] @ images.reshape(-1, 3)
    np.testing.assert_allclose((T[0] @ images).reshape(-1, 3), flat, atol=1e-14)
    assert (T @ np.zeros((5, 0, 3))).shape == (5, 0, 3)
    assert (T[0] @ np.zeros((0, 3))).shape == (0, 3)


def test_one_transform_composes_with_a_batch():
    rng = np.random.default_rng(1)
    T, many = SE3.exp(rng.normal(size=6)), SE3.exp(rng.normal(size=(4, 6)))
    np.testing.assert_allclose((T @ many).as_matrix(), [(T @ many[i]).as_matrix() for i in range(4)], atol=1e-14)
    np.testing.assert_allclose((many @ T).as_matrix(), [(many[i] @ T).as_matrix() for i in range(4)], atol=1e-14)


def test_indexing_reaches_the_batch_only():
    T = SE3.exp(np.random.default_rng(2).normal(size=(3, 4, 6)))
    assert T[1].batch == (4,)
    assert T[..., 0].batch == (3,)
    assert T[:, 1:3].batch == (3, 2)
    assert T[0, 0][None].batch == (1,)
    assert T[np.eye(3, 4, dtype=bool)].batch == (3,)
    with pytest.raises(IndexError):
        T[0, 0][0]


def test_a_long_chain_stays_a_rotation():
    step = SE3.exp([0.01, 0.0, 0.02, 0.03, -0.02, 0.01])
    T = SE3.identity()
    for _ in range(5000):
        T = T @ step
    np.testing.assert_allclose(T.rotation.T @ T.rotation, np.eye(3), atol=1e-10)


def test_a_transform_cannot_be_changed():
    rotation = np.eye(3)
    T = SE3(rotation, np.zeros(3))
    rotation[0, 0] = 5.0
    assert T.rotation[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        T.translation[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        T.translation = np.ones(3)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.eye(3), "4 x 4"),
        (np.full((4, 4), np.inf), "not finite"),
        (np.eye(4) + np.eye(4)[:, ::-1], "last row"),
        (np.diag([2.0, 2.0, 2.0, 1.0]), "not a rotation"),
        (np.diag([1.0, -1.0, 1.0, 1.0]), "reflection"),
    ],
)
def test_what_is_no_rigid_matrix_is_refused(matrix, words):
    with pytest.raises(GeometryError, match=words):
        SE3.from_matrix(matrix)


@pytest.mark.parametrize(
    ("q", "t", "words"),
    [
        ([0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0], "zero"),
        ([0.0, 0.0, 0.0, 1.0], [0.0, np.nan, 0.0], "not finite"),
        ([0.0, 0.0, 0.0, 1.0], [0.0, 0.0], "3 numbers"),
        ([0.0, 0.0, 0.0, 1.0], [[0.0, 0.0, 0.0]] * 2, "batch"),
    ],
)
def test_what_is_no_pose_is_refused(q, t, words):
    with pytest.raises(GeometryError, match=words):
        SE3.from_quaternion_xyzw(np.array(q), np.array(t))


def test_only_transforms_and_arrays_are_multiplied():
    with pytest.raises(TypeError):
        SE3.identity() @ "x"
