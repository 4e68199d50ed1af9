# SPDX-License-Identifier: Apache-2.0
"""The errors of the package: one base, one subclass per cause.

A message is a whole sentence for a person: what is wrong, the value that was found, what to do about it.
An expected failure (camera lost, not localized) is never an exception; it is a result.
"""


class St3rError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(St3rError):
    """A setting has a value outside its range or of the wrong type."""


class InputError(St3rError):
    """A sequence, folder, video or bag cannot be read at all, or holds no images."""


class FrameError(St3rError):
    """One frame of a stream is unusable (corrupt, empty, wrong size); the stream can go on without it."""


class GeometryError(St3rError):
    """Numbers that determine no transform: a matrix that is no rotation, points that are too few or on one line."""


class CalibrationError(St3rError):
    """A camera calibration is incomplete or contradicts the images."""


class EncodingError(FrameError):
    """An image message has an encoding, a step or a length that cannot be converted."""


class OutputError(St3rError):
    """A result cannot be written where it was asked for."""


class MapFileError(St3rError):
    """A saved map cannot be loaded: damaged, incomplete, of a newer version, or no saved map at all."""


class MissingDependencyError(St3rError):
    """An optional program or library is needed and not installed."""


class EvaluationError(St3rError):
    """Two trajectories or depth maps cannot be compared (no overlap in time, too few poses)."""


class CheckpointError(St3rError):
    """A file of weights cannot be used: damaged, unsafe, or of another network."""


class CheckpointNotFoundError(CheckpointError):
    """There is no such file, folder or published name."""


class DeviceMemoryError(St3rError):
    """The network, or what it is to compute, does not fit into the memory of the GPU."""


class DownloadError(St3rError):
    """A file could not be fetched, or what came is not what was announced."""


class ViewerError(St3rError):
    """The viewer cannot be opened where it was asked for."""
