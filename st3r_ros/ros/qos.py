# SPDX-License-Identifier: Apache-2.0
"""The three qualities of service the nodes use."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

NEWEST_IMAGE = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Images in: the newest counts. Connects to reliable and to best-effort publishers."""

LATCHED = QoSProfile(
    depth=1,
    history=HistoryPolicy.KEEP_LAST,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""State (map, path, status): a late subscriber gets the last message."""


def stream(depth: int) -> QoSProfile:
    """Events and poses: reliable, not kept for late subscribers."""
    return QoSProfile(depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
