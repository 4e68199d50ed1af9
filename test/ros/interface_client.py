# SPDX-License-Identifier: Apache-2.0
"""A client that knows the nodes by their ROS interface only: names, topics, services. The tests of the interface use it."""

from collections import defaultdict
from typing import Any

from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import ParameterDescriptor
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_harness import wait_until
from std_msgs.msg import Header

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
EVERYTHING = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
ANYTHING = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)


class Client(Node):
    """Hears topics and calls services. heard: all messages by topic."""

    def __init__(self, name: str = "client") -> None:
        super().__init__(name, start_parameter_services=False)
        self.heard: dict[str, list[Any]] = defaultdict(list)

    def hear(self, topic: str, kind: Any, qos: QoSProfile = EVERYTHING) -> list[Any]:
        """Keep the messages of a topic in a list, which is returned."""
        self.create_subscription(kind, topic, self.heard[topic].append, qos)
        return self.heard[topic]

    def call(self, service: str, kind: Any, **fields: Any) -> Any:
        """Call a service and wait for its answer."""
        client = self.create_client(kind, service)
        try:
            wait_until(client.service_is_ready, f"the service {service}")
            future = client.call_async(kind.Request(**fields))
            wait_until(future.done, f"the answer of {service}")
            return future.result()
        finally:
            self.destroy_client(client)

    def parameters(self, node: str) -> dict[str, Any]:
        """Every parameter of a node with its value."""
        names = self.call(f"{node}/list_parameters", ListParameters).result.names
        values = self.call(f"{node}/get_parameters", GetParameters, names=names).values
        return {name: parameter_value_to_python(value) for name, value in zip(names, values, strict=True)}

    def descriptors(self, node: str, names: list[str]) -> dict[str, ParameterDescriptor]:
        """What the node says of its parameters."""
        found = self.call(f"{node}/describe_parameters", DescribeParameters, names=names).descriptors
        return dict(zip(names, found, strict=True))

    def set_parameters(self, node: str, values: dict[str, Any]) -> str:
        """Set parameters together; the reason when the node refuses, "" when it does not."""
        messages = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        result = self.call(f"{node}/set_parameters_atomically", SetParametersAtomically, parameters=messages).result
        assert result.successful is not bool(result.reason)
        return str(result.reason)

    def state(self, node: str) -> str:
        """The lifecycle state of a node."""
        return str(self.call(f"{node}/get_state", GetState).current_state.label)

    def transition(self, node: str, transition: int) -> bool:
        """Send a node through a lifecycle transition; whether it went well."""
        request = ChangeState.Request()
        request.transition.id = transition
        return bool(self.call(f"{node}/change_state", ChangeState, transition=request.transition).success)


def stamp(header: Header) -> int:
    """The stamp of a header, nanoseconds."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)
