# SPDX-License-Identifier: Apache-2.0
"""The status message of the mapping node, and its lines in the diagnostics."""

from __future__ import annotations

import os
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus

from st3r_ros.msg import MappingStatus
from st3r_ros.results import peak_rss_mb
from st3r_ros.ros.conversions import header
from st3r_ros.ros.input.image_input import ImageCounts, ImageSource
from st3r_ros.ros.nodes.session import MappingSession
from st3r_ros.ros.nodes.situation import NOT_ACTIVE, PAUSED, TRACKED
from st3r_ros.ros.outputs.diagnostics import OK, WARN, health
from st3r_ros.slam.keyframes.memory import gpu_bytes, map_bytes
from st3r_ros.types import MappingState

_STATES = {state: getattr(MappingStatus, state.name) for state in MappingState}


def status_message(session: MappingSession, source: ImageSource | None, counts: ImageCounts, map_frame: str) -> MappingStatus:
    """The current status. Thread-safe: every number is at most one frame old.

    source: where images come from, None while the node is not active.
    """
    recorder, keyframe_map = session.run.recorder, session.mapper.map
    latencies, scale = recorder.latencies(), keyframe_map.scale
    mapper_state = session.mapper.state
    state = MappingState.PAUSED if source is None or source.muted else mapper_state
    return MappingStatus(
        header=header(session.stamp_ns, map_frame),
        state=_STATES[state],
        message=situation(session, source, mapper_state),
        frames_received=counts.received,
        frames_processed=recorder.frames,
        frames_tracked=max(len(keyframe_map.frames) - session.run.loaded_frames, 0),  # not yet while a map is replaced
        frames_dropped=counts.dropped,
        frames_skipped=recorder.skipped,
        keyframes=len(keyframe_map.keyframes),
        keyframes_dropped=keyframe_map.keyframes_dropped,
        loops=keyframe_map.loops,
        loops_rejected=keyframe_map.loops_rejected,
        fps=0.0 if source is None or source.is_silent else recorder.recent_fps,
        stage_names=list(latencies),
        stage_median_ms=[latency.median_ms for latency in latencies.values()],
        stage_p95_ms=[latency.p95_ms for latency in latencies.values()],
        scale_source=scale.source,
        scale_sigma=scale.sigma,
        map_mb=map_bytes(keyframe_map) / 1e6,
        memory_mb=rss_mb(),
        gpu_mb=gpu_bytes() / 1e6,
    )


def situation(session: MappingSession, source: ImageSource | None, state: MappingState) -> str:
    """One sentence about the current state of the mapper."""
    if source is None:
        return NOT_ACTIVE
    if source.muted:
        return PAUSED
    if source.is_silent:
        return source.silence()
    return source.holding or session.message(state)


def tracking_health(session: MappingSession, source: ImageSource | None, mode: str, last_error: str) -> DiagnosticStatus:
    """The line `tracking`. A lost camera is a warning only while subscribed to images."""
    mapper, recorder, state = session.mapper, session.run.recorder, session.mapper.state
    keyframe_map, scale = mapper.map, mapper.map.scale
    values: dict[str, object] = {
        "state": state.value,
        "mode": mode,
        "keyframes": len(keyframe_map.keyframes),
        "loops": keyframe_map.loops,
        "frames processed": recorder.frames,
        "frames skipped": recorder.skipped,
        "scale": scale.source,
        "scale sigma": scale.sigma,
        "last error": last_error,
    }
    if source is not None and source.listens_to_odometry:
        values["odometry refused"] = session.odometry_refused
    listening = source is not None and not source.muted
    good = state in TRACKED or not listening
    if good and listening and session.odometry_complaint:
        return health("tracking", WARN, session.odometry_complaint, values)
    return health("tracking", OK if good else WARN, situation(session, source, state), values)


def processing_health(session: MappingSession) -> DiagnosticStatus:
    """The line `processing`."""
    latencies = session.run.recorder.latencies()
    values: dict[str, object] = {"frames per second": session.run.recorder.recent_fps}
    for stage, latency in latencies.items():
        values |= {f"{stage} median (ms)": latency.median_ms, f"{stage} 95 % (ms)": latency.p95_ms}
    total = latencies.get("total")
    return health("processing", OK, f"{total.median_ms:.0f} ms per image." if total else "No image yet.", values)


def memory_health(session: MappingSession, kept_bytes: int) -> DiagnosticStatus:
    """The line `memory`. kept_bytes: what is kept for the next cloud and grid."""
    config, keyframe_map = session.mapper.config, session.mapper.map
    held, budget = map_bytes(keyframe_map) / 1e6, config.memory_budget_mb
    full = bool(budget and held > 0.9 * budget) or len(keyframe_map.keyframes) >= config.max_keyframes
    values = {
        "map (MB)": held,
        "cloud and grid (MB)": kept_bytes / 1e6,
        "process (MB)": rss_mb(),
        "gpu (MB)": gpu_bytes() / 1e6,
        "keyframes dropped": keyframe_map.keyframes_dropped,
    }
    return health("memory", WARN if full else OK, "Full: redundant keyframes are dropped." if full else f"{held:.0f} MB.", values)


def rss_mb() -> float:
    """Memory this process holds now, MB (10^6 bytes); its peak where the system does not provide the current value."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_rss_mb()
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
