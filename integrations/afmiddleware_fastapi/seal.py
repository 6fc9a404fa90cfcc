"""The seal: what the router enters must be what was judged, or the handler is never entered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never, Self

from afmiddleware.errors import SealBrokenError
from afmiddleware_fastapi.validation import HANDLERS, watched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.types import Message, Receive

    from afmiddleware_fastapi.resolver import Routed, Unrouted

OWN_ANSWERS = frozenset({307, 404, 405})
"""What a router answers by itself."""


class SealedScope(dict[str, Any]):
    """The scope handed inward. The routers write into it what they are about to enter, and here that is compared.

    Each `endpoint` a router sets must be the next of the target's `steps`. At the last one method, path, query, path
    parameters and the received headers must be those that were judged (a layer may add headers of new names): then
    the seal has `fired` and the handler is entered. Anything else raises `SealBrokenError` in the router, so that no
    handler runs. Where the router names no endpoint (its own 404, its default application) the seal fires when the
    first router is entered, and any endpoint is one too many.

    A plain copy made before the seal fires (`dict(scope)`, `{**scope}`) cannot be sealed. It carries path parameters
    that raise `SealBrokenError` in the first route that matches it. CPython reads a dict subclass that defines
    `__iter__` through its `keys`; elsewhere `left_unsealed` is what catches the copy.
    """

    __slots__ = ("_at", "_headers", "_method", "_path", "_query", "_steps", "fired", "invalid", "target")

    def __init__(self, scope: Mapping[str, Any], target: Routed | Unrouted) -> None:
        dict.__init__(self, scope)
        self.target = target
        self.fired = False
        self.invalid = False
        self._steps = target.steps
        self._at = 0
        self._method = scope.get("method")
        self._path = scope["path"]
        self._query = scope.get("query_string", b"")
        self._headers = list(scope["headers"])
        if not target.steps and "router" in scope:
            self.fired = True

    def __setitem__(self, key: str, value: Any) -> None:
        dict.__setitem__(self, key, watched(value, _note_refused) if key == HANDLERS else value)
        if key == "endpoint":
            self._entered()
        elif key == "router" and not self._steps:
            self._fire()

    def update(self, *others: Any, **more: Any) -> None:
        dict.update(self, *others, **more)
        # Set and compared at once: whoever raises here has not entered anything.
        if "endpoint" in more or (others and "endpoint" in others[0]):
            self._entered()

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]
        self.update(other)
        return self

    def _entered(self) -> None:
        at = self._at
        steps = self._steps
        if at >= len(steps):
            if self.target.closed:
                _broken("something is dispatched that was not judged")
            return
        if self["endpoint"] is not steps[at]:
            _broken("the router enters another endpoint than the one that was judged")
        self._at = at + 1
        if at + 1 == len(steps):
            self._fire()

    def _fire(self) -> None:
        if self.get("method") != self._method:
            _broken("the method was changed after the request was judged")
        if self["path"] != self._path or self.get("query_string", b"") != self._query:
            _broken("the path or the query was changed after the request was judged")
        params = getattr(self.target, "params", None)
        if params is not None and getattr(self.target, "rest", False):
            params = {name: value for name, value in params.items() if name != "path"}
        if params is not None and self.get("path_params", {}) != params:
            _broken("the path parameters are not those that were judged")
        headers = self["headers"]
        if headers != self._headers:
            _compare_headers(self._headers, list(headers))
        self.fired = True

    def keys(self) -> Any:
        """The keys, and before the seal fires also the path parameters that a copy must not be without."""
        if self.fired or "path_params" in self:
            return dict.keys(self)
        return [*dict.keys(self), "path_params"]

    def items(self) -> Any:
        """The pairs of `keys`."""
        return dict.items(self) if self.fired else [(key, self[key]) for key in self.keys()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __missing__(self, key: str) -> Any:
        if key != "path_params" or self.fired:
            raise KeyError(key)
        return _UnsealedCopy()

    def copy(self) -> dict[str, Any]:
        """A plain copy."""
        return dict(self)

    __copy__ = copy

    def __or__(self, other: Any) -> Any:
        return dict(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self)


def _note_refused(scope: object) -> None:
    # In a copy the refusal goes unseen, and the answer's status speaks: no money is given back by mistake.
    if isinstance(scope, SealedScope):
        scope.invalid = True


class _UnsealedCopy:
    """Stands for the path parameters in a copy of a sealed scope. A route that matches the copy has to read them."""

    __slots__ = ()

    def keys(self) -> Never:
        _broken("a layer hands the router a copy of the scope")

    def __getitem__(self, key: str) -> Never:
        _broken("a layer hands the router a copy of the scope")

    def __iter__(self) -> Never:
        _broken("a layer hands the router a copy of the scope")

    def __repr__(self) -> str:
        return "<path parameters of an unsealed copy of the scope>"


def sealed_receive(scope: SealedScope, receive: Receive) -> Receive:
    """Let nothing of the body out before the seal of `scope` has fired: a layer that asks gets `SealBrokenError`."""

    async def sealed() -> Message:
        if not scope.fired:
            _broken("a layer between the fence and the handlers reads the body")
        return await receive()

    return sealed


def left_unsealed(scope: SealedScope, status: int) -> bool:
    """Whether a response that starts with `status` was not made by what was judged.

    True when the seal has not fired, but for the router's own answers to a request that reaches no endpoint. Layers
    that are known to leave requests alone may answer by themselves (a preflight, a redirect to https); where only
    those stand inside the fence, this need not be asked.
    """
    if scope.fired:
        return False
    return status not in OWN_ANSWERS or hasattr(scope.target, "key")


def _compare_headers(judged: list[Any], now: list[Any]) -> None:
    names = {name for name, _ in judged}
    if [(name, value) for name, value in now if name in names] != [(name, value) for name, value in judged]:
        _broken("a header was changed, removed or repeated after the request was judged")


def _broken(what: str) -> Never:
    msg = (
        f"{what}; the handler was not run. Look for a middleware between the fence and the router "
        "that rewrites or copies requests, and move it outside the fence"
    )
    raise SealBrokenError(msg)
