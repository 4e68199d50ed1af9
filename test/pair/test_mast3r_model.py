# SPDX-License-Identifier: Apache-2.0
"""The pair model around a network that knows the simulated scene, and the mapper around the pair model.

There are no trained weights here. What a trained network would say is computed from the scene instead: points with a wrong scale
and noise, and descriptors that are functions of the place in the world. Everything else is the real thing.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
from small_networks import make_network

from st3r_ros.config import SimulationConfig
from st3r_ros.errors import FrameError
from st3r_ros.eval.trajectory import evaluate_trajectory
from st3r_ros.geometry.pixels import pixel_grid
from st3r_ros.geometry.transforms import Sim3
from st3r_ros.network.config import NetworkConfig
from st3r_ros.network.heads import ImagePart
from st3r_ros.network.network import Decoded
from st3r_ros.network.outputs import ViewOutput
from st3r_ros.pair.mast3r.config import MASt3RPairConfig
from st3r_ros.pair.mast3r.model import MASt3RPairModel
from st3r_ros.sim.sequence import SimulatedSequence
from st3r_ros.slam.mapper import Mapper
from st3r_ros.types import Frame, MappingState, Matches

WIDTH, HEIGHT, FRAMES = 160, 128, 24
SCALE_ERROR = 1.05


class SceneNetwork:
    """Has the stages of `PairNetwork`. Its tokens are the number of the frame that an image is of."""

    config = NetworkConfig(image_size=(WIDTH, WIDTH))
    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, sequence: SimulatedSequence) -> None:
        generator = np.random.default_rng(0)
        self._frames = list(sequence)
        self.T_world_cam = sequence.T_world_cam
        directions = (
            np.concatenate([pixel_grid(WIDTH, HEIGHT), np.ones((HEIGHT, WIDTH, 1))], axis=-1) @ np.linalg.inv(sequence.camera.K).T
        )
        self.X = [
            directions * sequence.renderer.depth(sequence.camera, T)[..., None]
            for T in (self.T_world_cam[i] for i in range(FRAMES))
        ]
        self._waves = generator.normal(0.0, 8.0, (3, self.config.desc_dim // 2))
        self._generator = generator

    def needed(self, pointmaps: bool, descriptors: bool) -> tuple[bool, bool]:
        return pointmaps, descriptors

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        known = torch.stack([torch.from_numpy(f.image) for f in self._frames]).permute(0, 3, 1, 2) / 127.5 - 1
        nearest = [(known - image).abs().mean(dim=(1, 2, 3)).argmin() for image in images]
        return torch.stack(nearest)[:, None, None].expand(-1, (WIDTH // 16) * (HEIGHT // 16), 1).float()

    def decode(self, tokens0, tokens1, grid0, grid1) -> Decoded:
        both = torch.cat([tokens0, tokens1], dim=-1)
        return Decoded((both,), (both,))

    def image_part(self, view, tokens, grid, *, pointmaps=True) -> ImagePart:
        return ImagePart(tokens, torch.zeros(1, 1))

    def head(self, view, layers, grid, part, *, pointmaps=True, descriptors=True) -> ViewOutput:
        outputs = [self._view(*map(int, pair), view) for pair in layers[-1][:, 0]]
        X, conf, desc = (torch.stack(x) for x in zip(*outputs, strict=True))
        return ViewOutput(
            *((X, conf) if pointmaps else (None, None)), *((desc, torch.full_like(conf, 5.0)) if descriptors else (None, None))
        )

    def _view(self, first: int, second: int, view: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        own = (first, second)[view]
        noisy = self.X[own] * self._generator.normal(1.0, 0.01, (HEIGHT, WIDTH, 1))
        X = SCALE_ERROR * (self.T_world_cam[first].inverse() @ self.T_world_cam[own]).act(noisy)
        phase = self.T_world_cam[own].act(self.X[own]) @ self._waves
        desc = np.concatenate([np.cos(phase), np.sin(phase)], axis=-1) + self._generator.normal(0, 0.05, (HEIGHT, WIDTH, 24))
        desc /= np.linalg.norm(desc, axis=-1, keepdims=True)
        return torch.from_numpy(X).float(), torch.full((HEIGHT, WIDTH), 10.0), torch.from_numpy(desc).float()


@pytest.fixture(scope="module")
def sequence() -> SimulatedSequence:
    config = SimulationConfig(seed=5, frames=120, width=WIDTH, height=HEIGHT)
    return SimulatedSequence(config, range(0, 2 * FRAMES, 2))


@pytest.fixture(scope="module")
def network(sequence) -> SceneNetwork:
    return SceneNetwork(sequence)


def make_model(network: SceneNetwork, **settings) -> MASt3RPairModel:
    return MASt3RPairModel(network, MASt3RPairConfig(match_subsample=4, **settings))


@pytest.mark.parametrize("matching", ["auto", "reciprocal", "projective"])
def test_a_sequence_is_mapped_in_the_scale_of_the_network(sequence, network, matching):
    mapper = Mapper(make_model(network, matching=matching))
    updates = [mapper.register_frame(frame) for frame in sequence]
    assert {update.state for update in updates} == {MappingState.TRACKING}
    errors = evaluate_trajectory(mapper.map.trajectory(), sequence.truth)
    assert errors.matched == FRAMES
    path = np.linalg.norm(np.diff(sequence.truth.positions, axis=0), axis=1).sum()
    assert errors.ate_sim3 < 0.01 * path
    assert errors.scale == pytest.approx(1 / SCALE_ERROR, rel=0.02)


def test_without_a_calibration_the_first_image_tells_the_focal_length(sequence, network):
    assert make_model(network).traits.uncalibrated == "the focal length is estimated from the first image"
    mapper = Mapper(make_model(network))
    for frame in sequence:
        update = mapper.register_frame(Frame(frame.id, frame.stamp_ns, frame.image))
        assert update.state is MappingState.TRACKING
    features = mapper.map.keyframes[0].features
    assert not features.K_known
    np.testing.assert_allclose(features.K, sequence.camera.K, rtol=0.02, atol=1.0)


@pytest.mark.parametrize("seeded", [False, True])
def test_matches_are_where_the_scene_says(sequence, network, seeded):
    model = make_model(network)
    features0, features1 = (model.encode(sequence.frame(index)) for index in (8, 4))
    near = torch.from_numpy(pixel_grid(WIDTH, HEIGHT)[2::4, 2::4].reshape(-1, 2)).float()
    seed = Matches(near, near, torch.ones(len(near)), len(near)) if seeded else None
    prediction = model.predict(features0, features1, seed=seed, dense=False)
    assert prediction.X_0_0 is None and math.isnan(prediction.parallax_deg)
    matches = prediction.matches
    assert 0.5 * matches.possible < len(matches) <= matches.possible
    assert (matches.weight > 0).all() and (matches.weight <= 1).all()
    true = true_pixels(network, sequence, matches.pixels1.long().numpy(), 8, 4)
    assert np.median(np.linalg.norm(matches.pixels0.numpy() - true, axis=1)) < 1.0


def true_pixels(network: SceneNetwork, sequence: SimulatedSequence, pixels1: np.ndarray, frame0: int, frame1: int) -> np.ndarray:
    X_1 = network.X[frame1][pixels1[:, 1], pixels1[:, 0]]
    X_0 = (network.T_world_cam[frame0].inverse() @ network.T_world_cam[frame1]).act(X_1) @ sequence.camera.K.T
    return X_0[:, :2] / X_0[:, 2:]


def test_a_prediction_has_the_shapes_of_its_images_and_claims_no_point_behind_the_camera(sequence, network, monkeypatch):
    model = make_model(network)
    features = model.encode(sequence.frame(0))
    mirrored = network.X[0] * np.where(pixel_grid(WIDTH, HEIGHT)[..., :1] < 40, -1.0, 1.0)
    monkeypatch.setattr(network, "X", [mirrored, *network.X[1:]])
    prediction = model.predict(features, features)
    assert prediction.X_0_0 is not None and prediction.X_0_0.shape == (HEIGHT, WIDTH, 3)
    assert prediction.conf0 is not None
    assert (prediction.conf0[:, :40] == 0).all()
    assert (prediction.conf0[:, 40:] > 0).all()


def test_a_crop_to_whole_patches_moves_the_intrinsics(sequence, network):
    """A taller image loses rows above and below, and the intrinsics follow."""
    model, frame = make_model(network), sequence.frame(0)
    padded = np.pad(frame.image, ((0, 8), (0, 0), (0, 0)), mode="edge")  # 160x136: half a patch too tall
    features = model.encode(Frame(0, 0, padded, dataclasses.replace(sequence.camera, height=HEIGHT + 8)))
    assert features.image.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(features.image, padded[4 : 4 + HEIGHT])
    np.testing.assert_allclose(features.K - sequence.camera.K, [[0, 0, 0], [0, 0, -4], [0, 0, 0]], atol=1e-9)


def test_images_without_enough_pixels_are_refused(network):
    with pytest.raises(FrameError, match="400x4"):
        make_model(network).encode(Frame(0, 0, np.zeros((4, 400, 3), np.uint8)))


def test_descriptors_of_places_are_unit_vectors_and_equal_for_equal_images():
    model = MASt3RPairModel(make_network("mast3r"))
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(2)]
    a, b, again = (model.describe(model.encode(Frame(i, i, image, None))) for i, image in enumerate([*images, images[0]]))
    torch.testing.assert_close(a, again)
    assert float(a.norm()) == pytest.approx(1.0, abs=1e-5)
    assert float(a @ b) < 1.0


def test_a_first_image_without_a_focal_length_is_said(monkeypatch, caplog):
    monkeypatch.setattr("st3r_ros.pair.mast3r.model.intrinsics_from_pointmap", lambda X: torch.full((3, 3), torch.nan))
    model = MASt3RPairModel(make_network("mast3r"))
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    fov = math.degrees(2 * math.atan(32 / model.encode(Frame(0, 0, image)).K[0, 0]))
    assert caplog.messages == [
        f"The first image gives no focal length: a horizontal field of view of {fov:g} degrees is assumed."
    ]
    model.encode(Frame(1, 1, image))
    assert len(caplog.messages) == 1


def test_random_weights_lose_the_camera_but_nothing_breaks():
    generator = np.random.default_rng(1)
    for name in ("mast3r", "dpt", "linear"):
        mapper = Mapper(MASt3RPairModel(make_network(name)))
        updates = [mapper.register_frame(Frame(i, i, generator.integers(0, 255, (48, 64, 3), dtype=np.uint8))) for i in range(3)]
        assert updates[0].state in (MappingState.TRACKING, MappingState.INITIALIZING)
        assert np.isfinite(mapper.map.trajectory().positions).all()
        assert isinstance(mapper.map.keyframes[0].T_world_cam, Sim3)


@pytest.mark.parametrize("matching", ["reciprocal", "projective"])
def test_masked_pixels_are_neither_matched_nor_mapped(sequence, network, matching):
    mask = np.ones((HEIGHT, WIDTH), bool)
    mask[40:, 50:110] = False
    model = make_model(network, matching=matching)
    first, second, *_ = (dataclasses.replace(frame, mask=mask) for frame in sequence)
    features0, features1 = model.encode(first), model.encode(second)
    prediction = model.predict(features0, features1)
    for pixels in (prediction.matches.pixels0, prediction.matches.pixels1):
        column, row = pixels.round().long().T
        assert mask[row, column].all()
    assert len(prediction.matches) > 100
    for conf in (prediction.conf0, prediction.conf1):
        assert not (conf.numpy()[~mask] > 0).any() and (conf.numpy()[mask] > 0).mean() > 0.5
    assert model.describe(features0).isfinite().all()
    nothing = model.encode(dataclasses.replace(first, mask=np.zeros_like(mask)))
    assert len(model.predict(nothing, features1).matches) == 0
