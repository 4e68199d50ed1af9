# SPDX-License-Identifier: Apache-2.0
"""Cost of large maps and long runs: endless streams, maps of a given size, memory of the process."""
