"""A node's services answer whatever they are asked: a request that cannot be served is refused in a sentence.

rclpy ends the process where a service's callback raises, and some of its own do: on Jazzy for a lifecycle
transition that does not fit the state, on all distributions for a parameter of an unknown type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle_msgs.srv import GetAvailableStates, GetAvailableTransitions, GetState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)

from rt_segmentation.ros.guarded import GuardedNode
from rt_segmentation.ros.middleware import plain

REASON_LENGTH = 200
QUESTIONS = (
    DescribeParameters,
    GetAvailableStates,
    GetAvailableTransitions,
    GetParameters,
    GetParameterTypes,
    GetState,
    ListParameters,
)
"""Services that change nothing."""


def answer_always(node: GuardedNode) -> None:
    """Guard all services that a node has now, rclpy's own among them."""
    for service in node.services:
        # The executor calls it after the callback, and a node that was destroyed meanwhile cannot answer.
        service.send_response = node.until_destroyed(service.send_response)  # type: ignore[method-assign]
        service.callback = _guarded(node, service.srv_type, service.srv_name, service.callback)


def answer_questions(node: GuardedNode) -> None:
    """Answer the questions that have come, inside a callback that keeps the executor from doing so."""
    for service in node.services:
        if service.srv_type not in QUESTIONS:
            continue
        handle: Any = service.handle
        while True:
            with handle:
                request, header = handle.service_take_request(service.srv_type.Request)
            if header is None:
                break
            response = service.callback(request, service.srv_type.Response())
            service.send_response(response, header)


def _guarded(
    node: GuardedNode, service_type: Any, name: str, callback: Callable[[Any, Any], Any]
) -> Callable[[Any, Any], Any]:
    def answer(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:
            reason = f"the request cannot be served: {plain(error)[:REASON_LENGTH]}"
            node.get_logger().error(f"{name}: {reason}", throttle_duration_sec=1.0)
            return _refusal(service_type, request, response, reason)

    return answer


def _refusal(service_type: Any, request: Any, response: Any, reason: str) -> Any:
    """The answer that says no, in the ways that services have; where there is no way, the empty answer."""
    refused = SetParametersResult(successful=False, reason=reason)
    if service_type is SetParameters:
        # Those before the one that could not be served are set, and said to be.
        done = list(response.results)
        return SetParameters.Response(results=done + [refused] * (len(request.parameters) - len(done)))
    if service_type is SetParametersAtomically:
        return SetParametersAtomically.Response(result=refused)
    return service_type.Response()
