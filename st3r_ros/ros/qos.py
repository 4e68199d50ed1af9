# SPDX-License-Identifier: Apache-2.0
"""The qualities of service the nodes use."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

__all__ = ["IMAGES", "LATCHED", "OVERRIDABLE", "OVERRIDABLE_IMAGES", "SubscriptionEventCallbacks", "stream"]

IMAGES = {
    "best_effort": QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT),
    "reliable": QoSProfile(depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE),
}
"""Images in. Best effort: the newest counts; connects to every publisher. Reliable: for a link that loses packets, where an
image takes a while to be complete and the next ones arrive meanwhile; connects to reliable publishers only."""

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


OVERRIDABLE = QoSOverridingOptions.with_default_policies()
"""History, depth and reliability of a topic can be set by parameters: qos_overrides./image.subscription.reliability."""
OVERRIDABLE_IMAGES = QoSOverridingOptions(
    [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY, QoSPolicyKind.DEADLINE]
)
"""Those and durability and deadline."""
