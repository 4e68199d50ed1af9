# SPDX-License-Identifier: Apache-2.0
"""Maps on disk: saved, loaded, exported for other programs. docs/map_format.md specifies the files."""
