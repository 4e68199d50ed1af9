# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from scipy.linalg import expm
from transform_strategies import properties, se3_tangents, sim3_tangents, tangent_batch, vectors

from st3r_ros.errors import GeometryError
from st3r_ros.geometry import so3
from st3r_ros.geometry.transforms import SE3, Sim3


def assert_same(a: Sim3, b: Sim3, atol: float = 1e-9) -> None:
    size = max(1.0, np.abs(a.as_matrix()).max())
    np.testing.assert_allclose(a.as_matrix(), b.as_matrix(), rtol=1e-9, atol=atol * size)


@properties
@given(sim3_tangents)
def test_exp_is_the_matrix_exponential(xi):
    generator = np.zeros((4, 4))
    generator[:3, :3], generator[:3, 3] = xi[6] * np.eye(3) + so3.hat(xi[3:6]), xi[:3]
    np.testing.assert_allclose(Sim3.exp(xi).as_matrix(), expm(generator), rtol=1e-11, atol=1e-11)


@properties
@given(sim3_tangents)
def test_log_undoes_exp(xi):
    np.testing.assert_allclose(Sim3.exp(xi).log(), xi, atol=1e-9)


@pytest.mark.parametrize("log_scale", [-7.0, 7.0])
def test_log_undoes_exp_at_extreme_scales(log_scale):
    xi = tangent_batch(7)
    xi[:, 6] = log_scale
    np.testing.assert_allclose(Sim3.exp(xi).log(), xi, atol=1e-9)


@properties
@given(sim3_tangents, sim3_tangents)
def test_adjoint_carries_tangent_vectors_over(a, x):
    T = Sim3.exp(a)
    assert_same(T @ Sim3.exp(x) @ T.inverse(), Sim3.exp(T.adjoint() @ x))


@properties
@given(sim3_tangents, sim3_tangents, sim3_tangents, vectors(3, 10.0))
def test_group_laws(a, b, c, x):
    A, B, C = Sim3.exp(a), Sim3.exp(b), Sim3.exp(c)
    assert_same((A @ B) @ C, A @ (B @ C))
    assert_same(A @ A.inverse(), Sim3.identity())
    assert_same(A.inverse() @ A, Sim3.identity())
    np.testing.assert_allclose((A @ B) @ x, A @ (B @ x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(A.adjoint() @ B.adjoint(), (A @ B).adjoint(), rtol=1e-9, atol=1e-8)


@properties
@given(se3_tangents, sim3_tangents)
def test_rigid_and_similarity_transforms_mix(a, b):
    T, S = SE3.exp(a), Sim3.exp(b)
    assert_same(T @ S, T.sim3() @ S, atol=1e-14)
    assert_same(S @ T, S @ T.sim3(), atol=1e-14)
    np.testing.assert_allclose(T.sim3().adjoint()[:6, :6], T.adjoint(), atol=1e-14)


@properties
@given(sim3_tangents)
def test_conversions_return_the_same_transform(xi):
    T = Sim3.exp(xi)
    assert_same(Sim3.from_matrix(T.as_matrix()), T, atol=1e-13)
    assert_same(Sim3.from_quaternion_xyzw(T.quaternion_xyzw, T.translation, T.scale), T, atol=1e-13)


def test_a_batch_equals_a_loop():
    xi = tangent_batch(7)
    T, x = Sim3.exp(xi), xi[::-1, :3]
    loop = [Sim3.exp(one) for one in xi]
    assert T.batch == T.scale.shape == (60,)
    for name in ("log", "adjoint", "as_matrix"):
        np.testing.assert_allclose(getattr(T, name)(), [getattr(one, name)() for one in loop], rtol=0, atol=1e-11)
    np.testing.assert_allclose(T.act(x), [one.act(p) for one, p in zip(loop, x, strict=True)], rtol=0, atol=1e-12)
    np.testing.assert_allclose(T.inverse().as_matrix(), [one.inverse().as_matrix() for one in loop], atol=1e-12)
    np.testing.assert_array_equal(T[7].as_matrix(), T.as_matrix()[7])


def test_one_transform_composes_with_a_batch():
    rng = np.random.default_rng(1)
    T, rigid, many = Sim3.exp(rng.normal(size=7)), SE3.exp(rng.normal(size=6)), Sim3.exp(rng.normal(size=(4, 7)))
    for one in (T, rigid):
        np.testing.assert_allclose((one @ many).as_matrix(), [(one @ many[i]).as_matrix() for i in range(4)], atol=1e-12)
        np.testing.assert_allclose((many @ one).as_matrix(), [(many[i] @ one).as_matrix() for i in range(4)], atol=1e-12)
    assert (T @ SE3.identity((3,))).batch == (T @ SE3.identity((3,))).scale.shape == (3,)
    assert (SE3.identity((3,)) @ T).batch == (SE3.identity((3,)) @ T).scale.shape == (3,)


def test_a_transform_cannot_be_changed():
    T = Sim3.identity()
    with pytest.raises(ValueError, match="read-only"):
        T.scale[...] = 2.0


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(GeometryError, match="scale"):
        Sim3.from_quaternion_xyzw(np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(3), scale)


@pytest.mark.parametrize("matrix", [np.diag([1.0, 2.0, 1.0, 1.0]), np.diag([0.0, 0.0, 0.0, 1.0]), np.diag([-1.0, 1.0, 1.0, 1.0])])
def test_what_is_no_similarity_is_refused(matrix):
    with pytest.raises(GeometryError):
        Sim3.from_matrix(matrix)
