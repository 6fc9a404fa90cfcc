"""The middlewares: the fence, first in MIDDLEWARE, and the seal, last where unknown middlewares stand between."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.apps import apps
from django.core.exceptions import BadRequest, ImproperlyConfigured
from django.http import HttpResponse

from afmiddleware.drivers import arun, run
from afmiddleware.errors import ClientGoneError, ConfigError, SealBrokenError, StalePolicyError
from afmiddleware.model.outcome import End
from afmiddleware.pep import asgi
from afmiddleware.pep.asgi_endpoints import aserve
from afmiddleware.pep.endpoints import caller, serve, wanted
from afmiddleware.pep.environ import Body, check_processes, facts_of
from afmiddleware.pep.passage import outdated, unusable
from afmiddleware.performing import AsyncFenceIo, FenceIo
from afmiddleware_django.audit import APP, app_config
from afmiddleware_django.body import HeldBody, Source, Spooled, lost, too_early
from afmiddleware_django.exchange import KEY, Exchange, texts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from afmiddleware.effects import Flow
    from afmiddleware.fence import Fence
    from afmiddleware.model.http import HttpFacts
    from afmiddleware.pep.endpoints import Answer

Arguments = tuple[object, ...]
_NOT_UTF8 = re.compile(r"%[89A-F][0-9A-F]")


class FenceMiddleware:
    """Decide every request on the view that Django matched, before the view runs.

    The first entry of `MIDDLEWARE`, behind CORS and other layers that answer for everybody alike. Works under WSGI and
    ASGI, and knows which by what it is put around. Raises `ConfigError` with every problem of the policy and of the
    project, and `ImproperlyConfigured` without `afmiddleware_django` in `INSTALLED_APPS`: nothing is served then.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        if not apps.is_installed(APP):
            msg = f"FenceMiddleware needs {APP!r} in INSTALLED_APPS"
            raise ImproperlyConfigured(msg)
        started = app_config().start()
        self.get_response = get_response
        self.fence = started.fence
        self.resolver = started.resolver
        self._watched = started.watched
        self._fits = False
        self._async = iscoroutinefunction(get_response)  # pyright: ignore[reportDeprecated] (as Django asks)
        # Bound once: a sync one under ASGI would cost a thread for every request.
        self.process_view: Callable[..., Any] = self._aview if self._async else self._view
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._async:
            return self._acall(request)
        exchange = self._begin(request)
        if wanted(self.fence, exchange.facts.path):
            found = run(caller(self.fence, exchange.facts), _Io(self.fence, exchange))
            return _own(serve(self.fence, exchange.facts, found))
        refused = self._unfit(exchange) or self._ambiguous(exchange)
        if refused is not None:
            return refused
        try:
            response: HttpResponseBase = self.get_response(request)
        except BaseException:
            exchange.finish(End.ERROR)
            raise
        finally:
            exchange.leave()
        response = exchange.answer(response, watched=self._watched)
        exchange.complete(response)
        return response

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        exchange = self._begin(request)
        if wanted(self.fence, exchange.facts.path):
            return _own(await aserve(self.fence, exchange.facts, _AsyncIo(self.fence, exchange)))
        refused = self._ambiguous(exchange)
        if refused is not None:
            return refused
        try:
            response: HttpResponseBase = await self.get_response(request)
        except asyncio.CancelledError:
            exchange.finish(End.CLIENT_GONE)
            raise
        except BaseException:
            exchange.finish(End.ERROR)
            raise
        finally:
            exchange.leave()
        response = exchange.answer(response, watched=self._watched)
        await exchange.acomplete(response)
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Note that the view raised: Django answers for it, and only this tells that from the view's own answer."""
        del exception
        exchange = exchange_of(request)
        if exchange is not None:
            exchange.failed = True

    def _view(
        self,
        request: HttpRequest,
        view: Callable[..., Any],
        _args: Arguments,
        kwargs: Mapping[str, object],
    ) -> HttpResponse | None:
        exchange = exchange_of(request)
        if exchange is None or exchange.request is not request:
            return self._foreign(request)
        try:
            flow = self._judge(exchange, view, kwargs)
            return None if flow is None else exchange.conclude(self._decided(exchange, flow))
        except SealBrokenError as error:
            return exchange.broken(error)
        except ClientGoneError as error:
            raise _cut_off(error) from error

    async def _aview(
        self,
        request: HttpRequest,
        view: Callable[..., Any],
        _args: Arguments,
        kwargs: Mapping[str, object],
    ) -> HttpResponse | None:
        exchange = exchange_of(request)
        if exchange is None or exchange.request is not request:
            return self._foreign(request)
        try:
            flow = self._judge(exchange, view, kwargs)
            return None if flow is None else exchange.conclude(await self._adecided(exchange, flow))
        except SealBrokenError as error:
            return exchange.broken(error)
        except ClientGoneError as error:
            raise _cut_off(error) from error

    def _decided(self, exchange: Exchange, flow: Flow[Any]) -> Any:
        """What becomes of a request; it is judged again when the ledger knows of another policy."""
        io = _Io(self.fence, exchange)
        while True:
            try:
                return run(flow, io)
            except StalePolicyError as error:
                if not self.fence.renew(error):
                    return outdated(self.fence, exchange.facts)
            io.again()
            flow = exchange.again()

    async def _adecided(self, exchange: Exchange, flow: Flow[Any]) -> Any:
        """`_decided` in async code."""
        io = _AsyncIo(self.fence, exchange)
        while True:
            if exchange.plan.from_app is not None and hasattr(exchange.request, "auser"):
                exchange.user = await exchange.request.auser()
            try:
                return await arun(flow, io)
            except StalePolicyError as error:
                if not await self.fence.arenew(error):
                    return outdated(self.fence, exchange.facts)
            io.again()
            flow = exchange.again()

    def _judge(
        self,
        exchange: Exchange,
        view: Callable[..., Any],
        kwargs: Mapping[str, object],
    ) -> Flow[Any] | None:
        """The decision to be made, `None` for what passes although it is ambiguous."""
        if exchange.decided and exchange.plan.observe:
            return None
        return exchange.judge(self.resolver, view, kwargs)

    def _foreign(self, request: HttpRequest) -> HttpResponse | None:
        """Refuse a request that a middleware has put in the place of the one that came in."""
        if self.fence.plan.observe:
            return None
        # A copy may lack what a request has when it comes in, its stream for one.
        exchange = Exchange(self.fence, request, _facts_of(request), None)
        return exchange.broken(SealBrokenError("the request did not come in through the fence"))

    def _begin(self, request: HttpRequest) -> Exchange:
        """Look at one request; nothing is decided yet."""
        facts = _facts_of(request)
        # Under ASGI a body may come that no header announces (HTTP/2).
        received = hasattr(request, "scope")
        # Django has no public name for the stream.
        source: Source = Spooled(request._stream) if received else Body(request.META, facts)  # noqa: SLF001
        held = None
        if not lost(request) and (received or facts.first(b"content-length") or facts.first(b"transfer-encoding")):
            held = HeldBody(request, source, self._largest)
        exchange = Exchange(self.fence, request, facts, held)
        vars(request)[KEY] = exchange
        return exchange

    def _unfit(self, exchange: Exchange) -> HttpResponse | None:
        """Refuse everything where the server runs processes that a ledger in memory cannot hold together."""
        if self._fits:
            return None
        if _of_a_test(exchange.request):
            return None
        try:
            check_processes(self.fence, exchange.request.META)
        except ConfigError as error:
            return exchange.answer_of(unusable(self.fence, exchange.facts, error))
        self._fits = True
        return None

    def _ambiguous(self, exchange: Exchange) -> HttpResponse | None:
        flow = exchange.ambiguous()
        # Recording a refusal waits for nothing, under ASGI neither.
        return None if flow is None else exchange.conclude(run(flow, _Io(self.fence, exchange)))

    def _largest(self) -> int:
        """The largest body that any binding reads, in bytes."""
        return max((one.body_cap for one in self.fence.plan.bindings.values()), default=0)


class SealMiddleware:
    """The last entry of `MIDDLEWARE`: what other middlewares have changed since the decision does not run.

    Wanted where `inner_middleware:` names a middleware, which could change the request between the fence and the view.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._async = iscoroutinefunction(get_response)  # pyright: ignore[reportDeprecated] (as Django asks)
        self.process_view: Callable[..., Any] = self._aview if self._async else self._view
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        exchange = exchange_of(request)
        if exchange is not None:
            exchange.reached = False
        return self.get_response(request)

    def _view(
        self,
        request: HttpRequest,
        _view: Callable[..., Any],
        _args: Arguments,
        _kwargs: Mapping[str, object],
    ) -> HttpResponse | None:
        exchange = exchange_of(request)
        if exchange is None or exchange.plan.observe:
            return None
        if exchange.judged is None or exchange.request is not request:
            difference = "the request did not come in through the fence"
        else:
            difference = exchange.judged.difference(request)
        if difference:
            return exchange.broken(SealBrokenError(difference))
        exchange.reached = True
        return None

    async def _aview(
        self,
        request: HttpRequest,
        view: Callable[..., Any],
        args: Arguments,
        kwargs: Mapping[str, object],
    ) -> HttpResponse | None:
        return self._view(request, view, args, kwargs)


class _Io(FenceIo):
    """What the spine can have done while it decides a request."""

    __slots__ = ("_exchange",)

    def __init__(self, fence: Fence, exchange: Exchange) -> None:
        super().__init__(fence)
        self._exchange = exchange

    def read_body(self, cap: int) -> bytes:
        return _take(self._exchange, cap)


class _AsyncIo(AsyncFenceIo):
    """The same in async code."""

    __slots__ = ("_exchange",)

    def __init__(self, fence: Fence, exchange: Exchange) -> None:
        super().__init__(fence)
        self._exchange = exchange

    async def read_body(self, cap: int) -> bytes:
        return _take(self._exchange, cap)


def exchange_of(request: HttpRequest) -> Exchange | None:
    """The exchange of a request that came in through the fence."""
    found = vars(request).get(KEY)
    return found if isinstance(found, Exchange) else None


def _facts_of(request: HttpRequest) -> HttpFacts:
    """The head of a request as the server handed it over."""
    scope = getattr(request, "scope", None)
    return facts_of(request.META, _path_of(request)) if scope is None else asgi.facts_of(scope)


def _of_a_test(request: HttpRequest) -> bool:
    """Whether Django's test client sends it, which says that several processes run and is in this one."""
    return type(request.META.get("wsgi.input")).__module__ == "django.test.client"


def _path_of(request: HttpRequest) -> str:
    """The decoded path. Bytes that are no UTF-8 are triplets in it, where the server keeps no path as sent."""
    path, meta = request.path, request.META
    if "%" not in path or "RAW_URI" in meta or "REQUEST_URI" in meta or _NOT_UTF8.search(path) is None:
        return path
    return f"{path}\ufffd"


def _own(answer: Answer) -> HttpResponse:
    """What the fence serves itself, as Django's own response. Who the project has signed in is not known here yet."""
    status, headers, content = answer
    return HttpResponse(content, status=status, headers=texts(headers))


def _take(exchange: Exchange, cap: int) -> bytes:
    if exchange.held is not None:
        return exchange.held.take(cap)
    if lost(exchange.request):
        raise too_early()
    return b""


def _cut_off(error: ClientGoneError) -> BadRequest:
    """Whoever is no longer there: Django has no other way to end a request. Nothing was decided, nothing is charged."""
    return BadRequest(str(error))
