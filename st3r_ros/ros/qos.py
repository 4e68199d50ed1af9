# SPDX-License-Identifier: Apache-2.0
"""QoS profiles of the nodes: a new profile for each topic, because rclpy writes `qos_overrides` into it."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

__all__ = ["OVERRIDABLE", "OVERRIDABLE_IMAGES", "SubscriptionEventCallbacks", "images", "latched", "packets", "stream"]


def images(reliability: str) -> QoSProfile:
    """Image subscriptions. best_effort: only the newest image; connects to every publisher. reliable: for a lossy link, on which
    further images arrive before one is complete; connects to reliable publishers only."""
    reliable = reliability == "reliable"
    policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=5 if reliable else 1, history=HistoryPolicy.KEEP_LAST, reliability=policy)


def packets(reliability: str) -> QoSProfile:
    """Subscriptions to video packets, all of which are needed; like `images` with a larger depth."""
    profile = images(reliability)
    profile.depth = 100
    return profile


def latched(depth: int = 1) -> QoSProfile:
    """State (map, path, status): a late subscriber gets the last messages."""
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def stream(depth: int) -> QoSProfile:
    """Events and poses: reliable, not kept for late subscribers."""
    return QoSProfile(depth=depth, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)


OVERRIDABLE = QoSOverridingOptions.with_default_policies()
"""History, depth and reliability of a topic can be set by parameters: qos_overrides./image.subscription.reliability."""
OVERRIDABLE_IMAGES = QoSOverridingOptions(
    [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY, QoSPolicyKind.DEADLINE]
)
"""Those and durability and deadline."""
