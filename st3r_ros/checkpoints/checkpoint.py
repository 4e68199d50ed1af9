# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of MASt3R, DUSt3R and CroCo v2: inspection and loading.

Files are untrusted: nothing in them is executed, and tensors that do not fit the network are reported, never ignored silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from st3r_ros.checkpoints.architecture import CROCO, read_architecture
from st3r_ros.checkpoints.keys import Shapes, compare, listing, resolve
from st3r_ros.checkpoints.sources import locate
from st3r_ros.checkpoints.weights_file import StoredWeights, open_weights
from st3r_ros.errors import CheckpointError, ConfigError
from st3r_ros.network.config import NetworkConfig
from st3r_ros.network.network import PairNetwork, laid_out

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
STORED_DTYPES = (*DTYPES, torch.float64)
# While weights are converted, at most this much of the file is in memory besides the result.
BATCH_BYTES = 512 * 2**20
PAGE_BYTES = 4096
HEADS_PREFIX = "downstream_head"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of a checkpoint, compared with the network that it describes.

    kind: "mast3r", "dust3r", or "croco" (the trunk without heads). stored: canonical parameter name -> name in the file.
    missing: canonical names. unexpected, unused: names in the file; unused ones are known and not needed for inference.
    unfit: a sentence for every tensor of a wrong shape or type. dtypes: name -> number of tensors.
    parameters: in the file, aliases counted once. parameters_used: those that the network uses.
    """

    path: Path
    weights: StoredWeights
    kind: str
    config: NetworkConfig
    notes: tuple[str, ...]
    stored: dict[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    unused: tuple[str, ...]
    unfit: tuple[str, ...]
    dtypes: dict[str, int]
    parameters: int
    parameters_used: int

    @property
    def problem(self) -> str:
        """Why it cannot be loaded, as part of a sentence; "" when it can."""
        return self._problem(self.missing)

    @property
    def trunk_problem(self) -> str:
        """Why not even encoder and decoder can be loaded; "" when they can."""
        return self._problem(tuple(name for name in self.missing if not name.startswith(HEADS_PREFIX)))

    def _problem(self, missing: tuple[str, ...]) -> str:
        if self.kind == CROCO and any(name.startswith(HEADS_PREFIX) for name in missing):
            return "it is a CroCo trunk without the heads that predict points; give a checkpoint of MASt3R or DUSt3R"
        parts = (
            ("it lacks", listing(missing)),
            ("it has the unexpected", listing(self.unexpected)),
            ("it does not fit:", listing(self.unfit)),
        )
        found = "; ".join(f"{what} {names}" for what, names in parts if names)
        return f"{found} (its network is {_sizes(self.config)})" if found else ""


def read_checkpoint(source: str | Path) -> Checkpoint:
    """Inspects a checkpoint without reading its weights. source: as for `locate`.

    Raises:
        CheckpointNotFoundError: no file, folder, published name or Hub repository is found.
        CheckpointError: it is damaged, unsafe, or not a network of this family.
    """
    path = locate(source)
    try:
        weights = open_weights(path)
        return _examine(path, weights)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"'{path}' cannot be used: {error}") from error


def load_network(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    trunk_only: bool = False,
) -> PairNetwork:
    """The network of a checkpoint, ready for inference, its weights as `dtype` on `device`.

    On the CPU, weights stored as `dtype` stay memory-mapped and are shared between processes. Other weights, and convolutions
    (whose layout changes), are converted piece by piece, so that the peak memory stays close to the size of the result.
    trunk_only: omits the heads, which a CroCo checkpoint does not have; `encode` and `decode` then work, `head` does not.

    Raises:
        CheckpointError: as `read_checkpoint`, or weights are missing, too many, of another shape, or too large for fp16.
        ConfigError: `dtype` is not float32, float16 or bfloat16, or torch cannot use `device`.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype}; weights can be {', '.join(map(str, DTYPES))}.")
    device = _checked_device(device)
    checkpoint = read_checkpoint(source)
    problem = checkpoint.trunk_problem if trunk_only else checkpoint.problem
    if problem:
        raise CheckpointError(f"'{checkpoint.path}' cannot be used: {problem}.")
    network = _empty_network(checkpoint.config)
    if trunk_only:
        del network.downstream_head1, network.downstream_head2
    for names in _batches(network, checkpoint, dtype, device):
        tensors = checkpoint.weights.read()
        state = {name: _converted(name, tensors[checkpoint.stored[name]], dtype, device) for name in names}
        network.load_state_dict(state, strict=False, assign=True)
        del tensors, state
    _read_ahead(network)
    return network.eval().requires_grad_(False)


def _read_ahead(network: PairNetwork) -> None:
    """Touches every page of memory-mapped weights, so that the file is read now and not during the first image."""
    for weight in network.parameters():
        if weight.device.type == "cpu" and weight.is_contiguous():
            weight.flatten()[:: PAGE_BYTES // weight.itemsize].sum()


def _checked_device(device: torch.device | str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"device is '{device}', which torch cannot use here ({reason}); use cpu.") from error


def _empty_network(config: NetworkConfig) -> PairNetwork:
    """The network with unallocated weights."""
    with torch.device("meta"):
        return PairNetwork(config)


def _examine(path: Path, weights: StoredWeights) -> Checkpoint:
    tensors = weights.read()
    keys = resolve(tensors)
    shapes = {name: _shape(tensors[stored]) for name, stored in keys.stored.items()}
    architecture = read_architecture(weights.arguments, shapes)
    expected: Shapes = {name: tuple(value.shape) for name, value in _empty_network(architecture.config).state_dict().items()}
    found = compare(shapes, expected)
    unsuitable = (f"{name} {_unsuitable(tensors[name])}" for name in set(keys.stored.values()) if _unsuitable(tensors[name]))
    used = {keys.stored[name] for name in expected if name in shapes}
    sizes = {keys.stored[name]: prod(shape) for name, shape in shapes.items()}
    return Checkpoint(
        path=path,
        weights=weights,
        kind=architecture.kind,
        config=architecture.config,
        notes=architecture.notes,
        stored=keys.stored,
        missing=found.missing,
        unexpected=tuple(dict.fromkeys(keys.stored[name] for name in found.unexpected)),
        unused=keys.unused,
        unfit=(*found.misshapen, *sorted(unsuitable)),
        dtypes=dict(Counter(str(value.dtype).removeprefix("torch.") for value in tensors.values() if torch.is_tensor(value))),
        parameters=sum(sizes.values()) + sum(prod(_shape(tensors[name])) for name in keys.unused),
        parameters_used=sum(sizes[stored] for stored in used),
    )


def _shape(value: object) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


def _unsuitable(value: object) -> str:
    """Why a value cannot be a weight; "" when it can."""
    if not isinstance(value, torch.Tensor):
        return f"is a {type(value).__name__}, not a tensor"
    if value.dtype not in STORED_DTYPES or value.layout is not torch.strided:
        return f"has dtype {value.dtype} ({value.layout}), not a floating point type"
    return ""


def _sizes(config: NetworkConfig) -> str:
    return (
        f"{config.head}, encoder {config.enc_embed_dim} x {config.enc_depth}, decoder {config.dec_embed_dim} x {config.dec_depth}"
    )


def _batches(network: PairNetwork, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> Iterator[list[str]]:
    """Names of the parameters in portions small enough to be in memory twice; those that are not copied form one portion."""
    names = network.state_dict()
    as_wanted = device.type == "cpu" and set(checkpoint.dtypes) == {str(dtype).removeprefix("torch.")}
    if as_wanted or not checkpoint.weights.mapped:
        stays = {name for name, value in names.items() if laid_out(value) is value}
        yield list(names.keys() - stays)  # copied to another layout
        yield list(stays)
        return
    batch: list[str] = []
    held = 0
    for name, value in names.items():
        batch.append(name)
        held += value.numel() * torch.float32.itemsize
        if held > BATCH_BYTES:
            yield batch
            batch, held = [], 0
    yield batch


def _converted(name: str, weight: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The weight with the requested type, layout and device; the same tensor when nothing changes."""
    converted = laid_out(weight.to(device=device, dtype=dtype))
    if dtype is torch.float16 and weight.dtype is not dtype and not converted.isfinite().all():
        raise CheckpointError(f"{name} contains values beyond the range of float16; load the checkpoint as bfloat16 or float32.")
    return converted
