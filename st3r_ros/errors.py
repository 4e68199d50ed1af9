# SPDX-License-Identifier: Apache-2.0
"""The errors of the package: one base, one subclass per cause.

A message is a complete sentence: what is wrong, the value found, and what to do about it.
An expected failure (camera lost, not localized) is a result, never an exception.
"""


class St3rError(Exception):
    """Base class of all errors that this package raises."""


class ConfigError(St3rError):
    """A setting has a value outside its range or of the wrong type."""


class InputError(St3rError):
    """A sequence, folder, video or bag cannot be read at all, or contains no images."""


class FrameError(St3rError):
    """One frame of a stream is unusable (corrupt, empty, wrong size); the stream continues without it."""


class GeometryError(St3rError):
    """A transform cannot be determined: a matrix is not a rotation, points are too few or collinear."""


class CalibrationError(St3rError):
    """A camera calibration is incomplete or contradicts the images."""


class ImplausibleCalibrationError(CalibrationError):
    """A camera calibration is complete, but no camera has it: its principal point, pixels or distortion cannot be right."""


class EncodingError(FrameError):
    """An image message has an encoding, a step or a length that cannot be converted."""


class OutputError(St3rError):
    """A result cannot be written to the requested place."""


class MapFileError(St3rError):
    """A saved map cannot be loaded: damaged, incomplete, of a newer version, or not a saved map."""


class MissingDependencyError(St3rError):
    """A required optional program or library is not installed."""


class EvaluationError(St3rError):
    """Two trajectories or depth maps cannot be compared (no overlap in time, too few poses)."""


class CheckpointError(St3rError):
    """A weight file cannot be used: damaged, unsafe, or of another network."""


class CheckpointNotFoundError(CheckpointError):
    """No file, folder or published checkpoint has this name."""


class DeviceMemoryError(St3rError):
    """The network or its computation does not fit into the GPU memory."""


class DownloadError(St3rError):
    """A file could not be downloaded, or its content does not match the expected size or hash."""


class ViewerError(St3rError):
    """The viewer cannot listen on the requested address."""
