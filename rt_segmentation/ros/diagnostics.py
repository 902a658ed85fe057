"""The state of a stream as a diagnostic message (REP-107): in numbers, and as a level with a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from rt_segmentation.inference.engines import EngineError
from rt_segmentation.runtime.statistics import Snapshot
from rt_segmentation.text import counted


@dataclass(frozen=True)
class Limits:
    """Beyond these a status warns; the parameters `diagnostics.*` of the node."""

    max_latency_ms: float
    min_output_hz: float
    max_drop_ratio: float
    stale_after_s: float


# A latency is no time before the stamp, but the clocks of two computers, and a simulation's steps, differ a
# little; and no frame waits for a minute.
MIN_LATENCY_S, MAX_LATENCY_S = -0.1, 60.0


def stamp_problem(stamp_ns: int, now_ns: int, sim_time: bool) -> str:
    """Why an image's stamp does not tell its latency, in a sentence; empty where it does.

    Args:
        stamp_ns: the image's [ns].
        now_ns: the time on the node's clock [ns].
        sim_time: whether that clock follows /clock.
    """
    if sim_time and now_ns == 0:
        return "the latency is unknown: use_sim_time is true, and no time has come on /clock"
    if stamp_ns == 0:
        return "the latency is unknown: the camera leaves the stamps of its images at 0"
    latency_s = (now_ns - stamp_ns) / 1e9
    if MIN_LATENCY_S <= latency_s <= MAX_LATENCY_S:
        return ""
    behind = f"{abs(latency_s):.1f} s {'behind' if latency_s > 0 else 'ahead of'}"
    clock = "/clock, which use_sim_time follows" if sim_time else "the node's clock (use_sim_time is false)"
    return f"the latency is unknown: the camera's stamps are {behind} {clock}; both must be of one clock"


# As always where frames come faster than masks, and as the parameter `max_rate_hz` wants it.
EXPECTED_DROPS = ("replaced", "throttled")


def drop_ratio(now: Snapshot, before: Snapshot) -> float:
    """Share of the frames that met their end since `before` that were dropped or lost; 0 without frames.

    A frame may have come before it. Those that `max_rate_hz` leaves out are none.
    """
    throttled = now.newly_dropped("throttled", before)
    dropped = sum(now.dropped.values()) + now.lost - sum(before.dropped.values()) - before.lost - throttled
    ended = dropped + now.published - before.published
    return dropped / ended if ended > 0 else 0.0


MAX_LOST_SHARE = 0.1
"""So many of the images that were sent may be lost on their way, as where a process starts or is stopped."""


def lost_problem(now: Snapshot, before: Snapshot, topic: str) -> str:
    """Why many images never came, in a sentence; empty where they did. One alone may always be lost."""
    lost = now.lost - before.lost
    sent = lost + now.received - before.received
    if lost < 2 or lost <= MAX_LOST_SHARE * sent:
        return ""
    return (
        f"{lost} of {sent} images on {topic} were lost on their way: with Fast DDS the camera's process needs"
        " config/fastdds.xml"
    )


class Subscribed(Protocol):
    """What `problems` asks of the subscription to the camera."""

    @property
    def topic(self) -> str:
        """The camera's."""
        ...

    @property
    def subscribed_s(self) -> float:
        """For how long images could have come [s]."""
        ...

    def why_silent(self) -> str:
        """Asked where none does."""
        ...


def problems(now: Snapshot, before: Snapshot, images: Subscribed, limits: Limits) -> list[str]:
    """What is wrong with a stream that somebody listens to, a sentence each; empty if nothing is.

    Args:
        now: the state.
        before: the state when it was last asked for.
        images: the subscription to the camera.
        limits: what is too much.
    """
    found = []
    if images.subscribed_s > limits.stale_after_s:
        if now.since_input_s is None:
            found.append(f"no image has come on {images.topic} yet: {images.why_silent()}")
        elif now.since_input_s > limits.stale_after_s:
            found.append(f"no image on {images.topic} for {now.since_input_s:.1f} s: {images.why_silent()}")
    latency = now.stages.get("latency")
    if latency and 0 < limits.max_latency_ms < latency.p95_ms:
        found.append(f"latency p95 is {latency.p95_ms:.0f} ms, above {limits.max_latency_ms:g}")
    if now.received > before.received and not now.is_young and now.output_hz < limits.min_output_hz:
        found.append(f"output is {now.output_hz:.1f} Hz, below {limits.min_output_hz:g}")
    if lost := lost_problem(now, before, images.topic):
        found.append(lost)
    ratio = drop_ratio(now, before)
    if ratio > limits.max_drop_ratio:
        found.append(f"{ratio:.0%} of the images were dropped, above {limits.max_drop_ratio:.0%}")
    for reason in now.dropped:
        new = now.newly_dropped(reason, before)
        if new and reason not in EXPECTED_DROPS:
            found.append(f"{counted(new, 'image')} dropped: {reason}")
    return found


def engine_problem(error: EngineError, engine: str, precision: str) -> str:
    """What an engine says that cannot be used, and what to set where nothing may stand in for it.

    Args:
        error: its own.
        engine: the node's parameter.
        precision: the node's parameter.
    """
    if "auto" in (engine, precision):
        return str(error)
    return f"{error}; it was asked for by name: with `engine` or `precision` auto another one takes its place"


def status_message(
    name: str, hardware_id: str, now: Snapshot | None, facts: dict[str, str], trouble: list[str]
) -> DiagnosticStatus:
    """A status: WARN with the trouble in its message, else OK.

    Args:
        name: "node: part", as diagnostic_aggregator expects.
        hardware_id: the device that runs the network.
        now: all its numbers become values; None for what is of no single stream.
        facts: further values, such as the engine in use; a `state` other than 'active' is the message.
        trouble: sentences of `problems`.
    """
    doing = facts.get("state", "active")
    values = dict(facts)
    if now is not None:
        if doing == "active":
            doing = f"segmenting at {now.output_hz:.1f} Hz"
        values.update(_numbers(now))
    return DiagnosticStatus(
        level=DiagnosticStatus.WARN if trouble else DiagnosticStatus.OK,
        name=name,
        message="; ".join(trouble) or doing,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def array_message(header: Header, *statuses: DiagnosticStatus) -> DiagnosticArray:
    """The statuses as they go to /diagnostics."""
    return DiagnosticArray(header=header, status=list(statuses))


def _numbers(now: Snapshot) -> dict[str, str]:
    values = {}
    values["frames received"] = str(now.received)
    values["masks published"] = str(now.published)
    values["messages lost by the middleware"] = str(now.lost)
    values["frames dropped"] = str(sum(now.dropped.values()))
    for reason, count in sorted(now.dropped.items()):
        values[f"frames dropped: {reason}"] = str(count)
    values["input rate [Hz]"] = f"{now.input_hz:.2f}"
    values["output rate [Hz]"] = f"{now.output_hz:.2f}"
    for stage, times in now.stages.items():
        values[f"{stage} p50 [ms]"] = f"{times.p50_ms:.2f}"
        values[f"{stage} p95 [ms]"] = f"{times.p95_ms:.2f}"
        values[f"{stage} max [ms]"] = f"{times.max_ms:.2f}"
    return values
