# SPDX-License-Identifier: Apache-2.0
"""The stages of two-view inference as functions that can be called again and again on the same data, and their operations.

The operations are floating-point ones, counted by running the network without data; a multiply-add is two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from golden_checks.procedural import procedural_image
from st3r_ros.geometry.camera import Camera
from st3r_ros.network.config import NetworkConfig
from st3r_ros.network.network import PairNetwork
from st3r_ros.network.outputs import PairOutput
from st3r_ros.network.preprocess import normalize, plan_image, resize_live
from st3r_ros.pair.mast3r.config import MASt3RPairConfig
from st3r_ros.pair.mast3r.graphs import GraphCache
from st3r_ros.pair.mast3r.inference import Inference, MASt3RFeatures
from st3r_ros.pair.mast3r.model import MASt3RPairModel
from st3r_ros.pair.matching.reciprocal import fast_reciprocal, one_order_matches
from st3r_ros.types import Frame

MODES = ("eager", "graphs", "compile")
PLAIN_DTYPE, PLAIN_MODE = "fp32+tf32", "plain"
FOV_DEG = 60.0
NEED_DESCRIPTORS = ("descriptors", "match", "tracked_jumped")

Tensors = tuple[torch.Tensor | None, ...]
Run = Callable[[], object]


@dataclass(frozen=True)
class StageFlops:
    """Operations of one image (encode), one pair in one order (decode) and one view of it (the heads)."""

    encode: float
    decode: float
    geometry: float
    descriptors: float

    @property
    def tracked_frame(self) -> float:
        """A new image against a keyframe whose tokens are kept, with both heads of both views."""
        return self.encode + self.decode + 2 * (self.geometry + self.descriptors)

    @property
    def symmetric_pair(self) -> float:
        """Two new images in both orders."""
        return 2 * self.tracked_frame


def stage_flops(config: NetworkConfig, width: int, height: int) -> StageFlops:
    """What the stages cost for images of one size, as this package computes them."""
    with torch.device("meta"), torch.no_grad():
        network = PairNetwork(config)
        image = torch.empty(1, 3, height, width)
        grid = network.grid(image)
        tokens = network.encode(image)
        layers = network.decode(tokens, tokens, grid, grid).view0

        def head(*, pointmaps: bool = False, descriptors: bool = False) -> None:
            part = network.image_part(0, tokens, grid, pointmaps=pointmaps)
            network.head(0, layers, grid, part, pointmaps=pointmaps, descriptors=descriptors)

        return StageFlops(
            encode=count(lambda: network.encode(image)),
            decode=count(lambda: network.decode(tokens, tokens, grid, grid)),
            geometry=count(lambda: head(pointmaps=True)),
            descriptors=count(lambda: head(descriptors=True)) if config.desc_dim else 0.0,
        )


def count(run: Callable[[], object]) -> float:
    """The operations of whatever torch does in a function."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


@dataclass(frozen=True)
class Stage:
    """make: a function of a workload and a mode, to be called again and again. flops: operations for one image, pair or frame."""

    name: str
    make: Callable[[Workload, str], Run]
    flops: Callable[[StageFlops], float] = lambda flops: 0.0


class Workload:
    """A network with the data of `batch` pairs of images of one working size, on the network's device."""

    def __init__(self, network: PairNetwork, flops: StageFlops, width: int, height: int, batch: int) -> None:
        self.network, self.flops, self.batch = network, flops, batch
        self.size = width, height
        self.sources = [source_image(name, width, height) for name in ("a", "b")]
        source = self.sources[0]
        self.plan = plan_image(source.shape[1], source.shape[0], max(width, height))
        if self.plan.out != self.size:
            raise ValueError(f"A working image of {width}x{height} is not what preprocessing makes; it makes {self.plan.out}.")
        images = torch.from_numpy(np.stack(self.sources)).to(network.device)
        with torch.inference_mode():
            working = normalize(resize_live(images, self.plan), network.dtype)
        self.source_batch = images[:1].repeat(batch, 1, 1, 1)
        self.images = [working[view : view + 1].repeat(batch, 1, 1, 1) for view in (0, 1)]
        self.grid = network.grid(working)

    def has(self, stage: str, mode: str) -> bool:
        """Whether a stage of `STAGES` makes sense here: tracking has one frame at a time, and matching no modes."""
        possible = self.network.config.desc_dim > 0 or stage not in NEED_DESCRIPTORS
        return possible and (self.batch == 1 or not stage.startswith("tracked")) and (mode == "eager" or stage != "match")

    def preprocess(self, mode: str) -> Run:
        """From images as a camera gives them to what the network reads."""
        return in_mode(mode, self._prepared, self.source_batch)

    def _prepared(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (normalize(resize_live(images, self.plan), self.network.dtype),)

    def encode(self, mode: str) -> Run:
        """Images to tokens."""
        return in_mode(mode, lambda images: (self.network.encode(images),), self.images[0])

    def decode(self, mode: str) -> Run:
        """Tokens of pairs, one order, to layers."""
        return in_mode(mode, self._decode, *self._tokens())

    def heads(self, mode: str, *, pointmaps: bool = False, descriptors: bool = False) -> Run:
        """Layers of pairs to pointmaps or descriptors, both views."""

        def stage(tokens0: torch.Tensor, tokens1: torch.Tensor, *layers: torch.Tensor) -> Tensors:
            results: list[torch.Tensor | None] = []
            half = len(layers) // 2
            for view, tokens, own in ((0, tokens0, layers[:half]), (1, tokens1, layers[half:])):
                part = self.network.image_part(view, tokens, self.grid, pointmaps=pointmaps)
                output = self.network.head(view, own, self.grid, part, pointmaps=pointmaps, descriptors=descriptors)
                results += [output.X, output.conf, output.desc, output.desc_conf]
            return tuple(results)

        with torch.inference_mode():
            tokens = self._tokens()
            layers = self._decode(*tokens)
        return in_mode(mode, stage, *tokens, *layers)

    def match(self, mode: str) -> Run:
        """Fast reciprocal matches of dense descriptors, from image 0."""
        features = (self._as_features(tokens[0]) for tokens in self._tokens())
        output = self._inference("eager").infer([tuple(features)])[0]
        return lambda: [fast_reciprocal(output.view0.desc, output.view1.desc) for _ in range(self.batch)]

    def tracked(self, mode: str, matching: str = "projective") -> Run:
        """A new image of a map: preprocess, encode, decode with the keyframe, heads, matches by projection from the last ones or,
        where the view has jumped, by reciprocal descriptors."""
        config = MASt3RPairConfig(acceleration=mode, image_size=max(self.size), matching=matching)
        model = MASt3RPairModel(self.network, config)
        keyframe_image, image = self.sources
        camera = Camera.from_fov(image.shape[1], image.shape[0], FOV_DEG)
        keyframe, last = model.encode(Frame(0, 0, keyframe_image, camera)), None

        def run() -> None:
            nonlocal last
            features = model.encode(Frame(1, 1, image, camera))
            last = model.predict(keyframe, features, seed=last).matches

        return run

    def symmetric_pair(self, mode: str) -> Run:
        """Pairs of new images, encoded once each, decoded in both orders, all outputs."""
        inference, images = self._inference(mode), torch.cat(self.images)

        def run() -> None:
            features = [self._as_features(tokens) for tokens in inference.encode(images)]
            forth = list(zip(features[: self.batch], features[self.batch :], strict=True))
            inference.infer([*forth, *((b, a) for a, b in forth)])

        return run

    def _inference(self, mode: str) -> Inference:
        return Inference(self.network, mode=mode, batch_size=2 * self.batch)

    @torch.inference_mode()
    def _tokens(self) -> list[torch.Tensor]:
        return [self.network.encode(images) for images in self.images]

    def _decode(self, tokens0: torch.Tensor, tokens1: torch.Tensor) -> Tensors:
        decoded = self.network.decode(tokens0, tokens1, self.grid, self.grid)
        return *decoded.view0, *decoded.view1

    def _as_features(self, tokens: torch.Tensor) -> MASt3RFeatures:
        return MASt3RFeatures(self.sources[0], np.eye(3), True, tokens, self.grid, self.plan)


JUMPED = partial(Workload.tracked, matching="reciprocal")
STAGES = {
    "preprocess": Stage("preprocess", Workload.preprocess),
    "encode": Stage("encode", Workload.encode, lambda flops: flops.encode),
    "decode": Stage("decode", Workload.decode, lambda flops: flops.decode),
    "geometry": Stage("geometry", partial(Workload.heads, pointmaps=True), lambda flops: 2 * flops.geometry),
    "descriptors": Stage("descriptors", partial(Workload.heads, descriptors=True), lambda flops: 2 * flops.descriptors),
    "match": Stage("match", Workload.match),
    "tracked": Stage("tracked frame", Workload.tracked, lambda flops: flops.tracked_frame),
    "tracked_jumped": Stage("tracked, jumped", JUMPED, lambda flops: flops.tracked_frame),
    "symmetric": Stage("symmetric pair", Workload.symmetric_pair, lambda flops: flops.symmetric_pair),
}


def source_image(name: str, width: int, height: int) -> np.ndarray:
    """An image as a camera gives it, of which preprocessing makes width x height: 640x480 for 512x384."""
    return procedural_image(name, height * 5 // 4, width * 5 // 4)


def in_mode(mode: str, stage: Callable[..., Tensors], *inputs: torch.Tensor | None) -> Run:
    """A stage on fixed inputs, run kernel by kernel, as a CUDA graph, or compiled."""
    if mode == "compile":
        stage = torch.compile(stage, dynamic=False)
    graphs = GraphCache(1) if mode == "graphs" else None

    @torch.inference_mode()
    def run() -> Tensors:
        return stage(*inputs) if graphs is None else graphs(0, stage, *inputs)

    return run


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Inside, CUDA may (or may not) round float32 factors to TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


# The same results by deliberately plain means, as the baseline that speed is compared with: attention scores are materialised,
# both images are encoded again for every pair, every output is computed in float32 (with TF32 products on CUDA), nothing is
# cached or captured, pairs go one by one, and matches are searched from both images.


def plain_tracked_frame(work: Workload, mode: str) -> Run:
    """A new image and its keyframe through the whole network, and matches from both."""

    def run() -> None:
        new = torch.from_numpy(work.sources[1]).to(work.network.device)
        output = whole_network(work, work.images[0][:1], normalize(resize_live(new[None], work.plan)))
        view0, view1 = output.view0, output.view1
        if view0.desc is not None:
            one_order_matches(view0.desc[0], view1.desc[0], view0.desc_conf[0], view1.desc_conf[0])

    return run


def plain_symmetric_pair(work: Workload, mode: str) -> Run:
    """Both orders of every pair through the whole network, one after the other."""

    def run() -> None:
        for a, b in zip(*(images.split(1) for images in work.images), strict=True):
            whole_network(work, a, b)
            whole_network(work, b, a)

    return run


PLAIN = {
    "tracked": replace(STAGES["tracked"], make=plain_tracked_frame),
    "symmetric": replace(STAGES["symmetric"], make=plain_symmetric_pair),
}


def whole_network(work: Workload, images0: torch.Tensor, images1: torch.Tensor) -> PairOutput:
    """Both views of pairs of normalized images (B, 3, H, W)."""
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), tf32(True):
        return work.network(images0, images1)
