# SPDX-License-Identifier: Apache-2.0
"""Runs a network stage by stage and caches the results of each stage.

An image is encoded once for all its pairs; the per-image part of the heads is cached for the last images; pairs are decoded in
batches; points and descriptors are computed only when requested. On CUDA every stage is a graph.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields

import torch

from st3r_ros.network.heads import Grid, ImagePart
from st3r_ros.network.network import PairNetwork
from st3r_ros.network.outputs import PairOutput, ViewOutput
from st3r_ros.network.preprocess import ImagePlan
from st3r_ros.pair.mast3r.graphs import GraphCache, Tensors
from st3r_ros.types import Features

KEPT_IMAGE_PARTS = 2


@dataclass(eq=False)
class MASt3RFeatures(Features):
    """An encoded image. tokens: (n, enc_dim), row-major over the patches. grid: rows and columns of patches.

    plan: the mapping from the original to the working image.
    """

    tokens: torch.Tensor
    grid: Grid
    plan: ImagePlan


Pair = tuple[MASt3RFeatures, MASt3RFeatures]


class Inference:
    """A network with its caches. Not thread-safe.

    mode: "eager" runs kernel by kernel; "graphs" replays CUDA graphs; "compile" uses torch.compile (minutes for the
    first images), with graphs on CUDA.
    batch_size: maximum number of pairs per batch. graph_limit: maximum number of cached graphs.
    graphs: the cached graphs; None where kernels run one by one.
    """

    def __init__(self, network: PairNetwork, *, mode: str = "eager", batch_size: int = 16, graph_limit: int = 24) -> None:
        self.network = network
        self._batch_size = batch_size
        self._compiles = mode == "compile"
        self.graphs = GraphCache(graph_limit) if mode != "eager" and network.device.type == "cuda" else None
        self._stages: dict[Hashable, Callable[..., Tensors]] = {}
        self._finest: OrderedDict[tuple[MASt3RFeatures, int], torch.Tensor] = OrderedDict()
        self._decoded: tuple[Sequence[Pair], Tensors] | None = None

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens (B, n, enc_dim) of images (B, 3, H, W) in [-1, 1] on the network's device."""
        (tokens,) = self.run("encode", lambda x: (self.network.encode(x),), images.to(self.network.dtype))
        assert tokens is not None
        return tokens

    @torch.no_grad()
    def infer(self, pairs: Sequence[Pair], *, pointmaps: bool = True, descriptors: bool = True) -> list[PairOutput]:
        """The outputs of each pair, without a batch dimension: X (H, W, 3), conf (H, W), desc (H, W, D), desc_conf (H, W).

        Pairs whose images have the same sizes are decoded together, in batches.
        """
        pointmaps, descriptors = self.network.needed(pointmaps, descriptors)
        groups: dict[tuple[Grid, Grid], list[int]] = {}
        for index, (features0, features1) in enumerate(pairs):
            groups.setdefault((features0.grid, features1.grid), []).append(index)
        results: dict[int, PairOutput] = {}
        for indices in groups.values():
            for start in range(0, len(indices), self._batch_size):
                chosen = indices[start : start + self._batch_size]
                output = self._infer_batch([pairs[index] for index in chosen], pointmaps, descriptors)
                for row, index in enumerate(chosen):
                    results[index] = PairOutput(_item(output.view0, row), _item(output.view1, row))
        return [results[index] for index in range(len(pairs))]

    def _infer_batch(self, pairs: Sequence[Pair], pointmaps: bool, descriptors: bool) -> PairOutput:
        """The same for pairs of equal sizes."""
        grids = pairs[0][0].grid, pairs[0][1].grid
        layers = self._decode(pairs, grids)
        half = len(layers) // 2
        views = []
        for view, own in ((0, layers[:half]), (1, layers[half:])):
            images = [pair[view] for pair in pairs]
            finest = self._image_part(images, view) if pointmaps else None
            part = ImagePart(_stack([features.tokens for features in images]), finest)
            views.append(self._head(view, own, grids[view], part, pointmaps, descriptors))
        if (pointmaps, descriptors) == self.network.needed(True, True):
            self._decoded = None  # it already has every output
        return PairOutput(*views)

    def _decode(self, pairs: Sequence[Pair], grids: tuple[Grid, Grid]) -> Tensors:
        """The layers of view 0, then those of view 1. Those of a single pair are cached until the next pair."""
        if self._decoded is not None and self._decoded[0] == pairs:
            return self._decoded[1]

        def decode(x: torch.Tensor, y: torch.Tensor) -> Tensors:
            decoded = self.network.decode(x, y, *grids)
            return *decoded.view0, *decoded.view1

        tokens0, tokens1 = (_stack([pair[view].tokens for pair in pairs]) for view in (0, 1))
        layers = self.run(("decode", grids), decode, tokens0, tokens1)
        if len(pairs) == 1:
            self._decoded = pairs, layers
        return layers

    def _head(self, view: int, layers: Tensors, grid: Grid, part: ImagePart, pointmaps: bool, descriptors: bool) -> ViewOutput:
        def head(tokens: torch.Tensor, finest: torch.Tensor | None, *layers: torch.Tensor) -> Tensors:
            part = ImagePart(tokens, finest)
            output = self.network.head(view, layers, grid, part, pointmaps=pointmaps, descriptors=descriptors)
            return output.X, output.conf, output.desc, output.desc_conf

        return ViewOutput(*self.run(("head", view, grid, pointmaps, descriptors), head, part.tokens, part.finest, *layers))

    def _image_part(self, images: list[MASt3RFeatures], view: int) -> torch.Tensor | None:
        """`ImagePart.finest` of the images of one view; cached for a single image, since the next pair may contain it again."""
        if self.network.config.head == "linear":
            return None

        def image_part(tokens: torch.Tensor) -> Tensors:
            return (self.network.image_part(view, tokens, images[0].grid).finest,)

        finest = self._finest.pop((images[0], view), None) if len(images) == 1 else None
        if finest is None:
            tokens = _stack([features.tokens for features in images])
            (finest,) = self.run(("image_part", view, images[0].grid), image_part, tokens)
        if len(images) == 1 and finest is not None:
            self._finest[images[0], view] = finest
            while len(self._finest) > KEPT_IMAGE_PARTS:
                self._finest.popitem(last=False)
        return finest

    @torch.no_grad()
    def run(self, key: Hashable, stage: Callable[..., Tensors], *inputs: torch.Tensor | None) -> Tensors:
        """`stage(*inputs)` in the selected mode, for functions whose output shapes follow from the input shapes.

        key: identifies the stage; the first function with a key is cached.
        """
        if self._compiles:
            if key not in self._stages:
                stage(*inputs)  # builds the tables of the network, which a compiled stage would rebuild each time
                self._stages[key] = torch.compile(stage, dynamic=False)
            stage = self._stages[key]
        return stage(*inputs) if self.graphs is None else self.graphs(key, stage, *inputs)


def _stack(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Adds a batch dimension; a single tensor is not copied."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


def _item(view: ViewOutput, row: int) -> ViewOutput:
    """One pair of a batch."""
    values = (getattr(view, item.name) for item in fields(ViewOutput))
    return ViewOutput(*(None if x is None else x[row] for x in values))
