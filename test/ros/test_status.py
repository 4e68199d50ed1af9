# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

from rclpy.serialization import serialize_message

from st3r_ros.recorder import RunRecorder
from st3r_ros.ros.input.image_input import ImageCounts
from st3r_ros.ros.outputs.status import status_message
from st3r_ros.slam.keyframes.keyframe_map import KeyframeMap
from st3r_ros.types import MappingState


def test_while_the_worker_replaces_the_map_the_status_can_be_sent() -> None:
    """The new map is there, and the number of its frames is still that of the old one."""
    mapper = SimpleNamespace(map=KeyframeMap(), state=MappingState.WAITING)
    run = SimpleNamespace(recorder=RunRecorder(), loaded_frames=7)
    session = SimpleNamespace(run=run, mapper=mapper, stamp_ns=0, message=lambda state: "")
    status = status_message(session, None, ImageCounts(), "map")
    assert serialize_message(status) and status.frames_tracked == 0
