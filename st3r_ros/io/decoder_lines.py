# SPDX-License-Identifier: Apache-2.0
"""What the libraries that decode images print to stderr: libjpeg, libtiff and libpng below OpenCV and Pillow.

libjpeg decodes damaged data as far as it can and tells of the damage only there, without the name of the file.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from types import TracebackType

_MAX_PADDING = 16
"""Bytes that webcams (Logitech, Foscam) leave before a marker of intact images; after damage, whole blocks are left."""

_DAMAGE = re.compile(
    rb"Corrupt JPEG data|Premature end of JPEG|libpng error|tempfile\.tif: |"
    rb"\w*(JPEG|LZW|ZIP|ZSTD|LZMA|WebP|PackBits|Fax|TIFF)\w*: "
)
_PADDING = re.compile(rb"Corrupt JPEG data: (\d+) extraneous bytes before marker")
_HARMLESS = re.compile(
    rb"libpng warning: |\[ ?(WARN|INFO|ERROR):\d+@|Unknown Adobe color|Warning: unknown JFIF|Invalid SOS parameters|"
    rb"Inconsistent progression"
)
_one_at_a_time = threading.RLock()  # stderr belongs to the process


class DecoderLines:
    """Keeps the lines of decoders from stderr while it is entered.

    What other threads write meanwhile reaches stderr when it is left. One thread of a process at a time.
    """

    def __init__(self) -> None:
        self._said: list[bytes] = []

    def __enter__(self) -> DecoderLines:
        _one_at_a_time.acquire()
        self._file = _memory_file()
        try:
            self._stderr: int | None = os.dup(2)
        except OSError:  # a daemon may have closed it
            self._stderr = None
        os.dup2(self._file, 2)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._stderr is None:
                os.close(2)
            else:
                os.dup2(self._stderr, 2)
            size = os.fstat(self._file).st_size
            if size:
                self._sort(os.pread(self._file, size, 0))
        finally:
            os.close(self._file)
            if self._stderr is not None:
                os.close(self._stderr)
            _one_at_a_time.release()

    @property
    def damage(self) -> str:
        """The first line that tells of damage, "" if none does."""
        return next((line.decode(errors="replace").strip().rstrip(".") for line in self._said if _tells_damage(line)), "")

    def _sort(self, content: bytes) -> None:
        others = []
        for line in content.splitlines(keepends=True):
            if _DAMAGE.match(line):
                self._said.append(line)
            elif not _HARMLESS.match(line):
                others.append(line)
        if others and self._stderr is not None:
            os.write(self._stderr, b"".join(others))


def _tells_damage(line: bytes) -> bool:
    padding = _PADDING.match(line)
    return padding is None or int(padding[1]) > _MAX_PADDING


def _memory_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("decoder-lines")
    with tempfile.TemporaryFile() as file:  # pragma: no cover (not on Linux)
        return os.dup(file.fileno())
