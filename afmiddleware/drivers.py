"""The two drivers: they perform what a flow yields, in sync and in async code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from afmiddleware.errors import AFError

if TYPE_CHECKING:
    from afmiddleware.effects import AsyncIo, Flow, Io

T = TypeVar("T")


def run(flow: Flow[T], io: Io) -> T:
    """Drive a flow to its end, blocking. Failures of `io` that are `AFError`s go into the flow, others come out."""
    try:
        effect = next(flow)
        while True:
            try:
                answer: Any = effect.by(io)
            except AFError as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def arun(flow: Flow[T], io: AsyncIo) -> T:
    """Drive a flow to its end without blocking the event loop; otherwise as `run`."""
    try:
        effect = next(flow)
        while True:
            try:
                answer: Any = await effect.by(io)
            except AFError as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
