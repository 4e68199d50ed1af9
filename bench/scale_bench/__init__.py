# SPDX-License-Identifier: Apache-2.0
"""What large maps and long runs cost: streams without an end, maps of a given size, memory of the process."""
