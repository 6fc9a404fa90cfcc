"""An authorization server on loopback: OAuth 2.0 as clients see it, and worse where a test says so.

Metadata (OIDC and RFC 8414), keys, client credentials with DPoP (RFC 9449), token exchange (RFC 8693), introspection
(RFC 7662). Tokens are made by joserfc, which shares nothing with what checks them.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from joserfc import jws, jwt
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

API = "https://api.example.com"
CLIENT = ("fence", "Zq7-client-secret-Zq7")
SECONDS = 30.0
"""How long a test waits for what must come; it never takes that long."""


class Served:
    """An ASGI application under uvicorn in a thread of its own."""

    def __init__(self, app: Any, port: int = 0) -> None:
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        end = time.monotonic() + SECONDS
        while not self._server.started and time.monotonic() < end:
            self._thread.join(0.005)
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(SECONDS)


class AuthorizationServer:
    """The server. `answer` stands in for the keys: a response, or a function that makes one; `seen` are the requests.

    `issuer_said` and `keys_at` are what its metadata says in place of the truth; `directory` is that of an agent.
    """

    def __init__(self) -> None:
        self.keys = [ECKey.generate_key("P-256", {"kid": "key-1"})]
        self.more: list[Any] = []
        self.answer: Response | Callable[[], Awaitable[Response]] | None = None
        self.issuer_said = ""
        self.keys_at = ""
        self.directory: Response | None = None
        self.tokens: dict[str, dict[str, Any]] = {}
        self.introspection: Response | Callable[[], Awaitable[Response]] | None = None
        self.seen: list[str] = []
        self._served: Served | None = None
        # Nobody else gets its port while it is gone.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self._port: int = self._held.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Serve, always on the same port."""
        self._served = Served(self._app(), self._port)

    def stop(self) -> None:
        """Be gone: connections are refused."""
        if self._served is not None:
            self._served.stop()
            self._served = None

    def close(self) -> None:
        """Be gone for good."""
        self.stop()
        self._held.close()

    def rotate(self, *, keep: bool = False) -> str:
        """Sign with a new key from now on; its id. Without `keep` the old one is gone."""
        key = ECKey.generate_key("P-256", {"kid": f"key-{secrets.token_hex(4)}"})
        self.keys = [key, *(self.keys if keep else [])]
        return str(key.kid)

    def jwks(self) -> dict[str, Any]:
        public = [{**key.as_dict(private=False), "use": "sig", "alg": "ES256"} for key in self.keys]
        return {"keys": [*public, *self.more]}

    def fetches(self) -> int:
        """How often the keys were asked for."""
        return self.seen.count("/jwks")

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        usual = {"iss": self.url, "aud": API, "sub": "agent-1", "client_id": "client-1", "iat": now, "exp": now + 300}
        told = usual | {"jti": secrets.token_urlsafe(12), "scope": "read"} | changes
        return {name: value for name, value in told.items() if value is not None}

    def mint(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """An access token (RFC 9068)."""
        head = {"typ": "at+jwt", "alg": "ES256", "kid": self.keys[0].kid, **(header or {})}
        return jwt.encode(head, self.claims(**changes), self.keys[0])

    def signed(self, header: Any, payload: Any) -> str:
        """A token with a good signature over any header and payload: values, or their exact texts."""
        parts = [one.encode() if isinstance(one, str) else json.dumps(one).encode() for one in (header, payload)]
        signing = b".".join(encoded(one) for one in parts)
        algorithm = jws.JWSRegistry.algorithms["ES256"]
        return b".".join([signing, encoded(algorithm.sign(signing, self.keys[0]))]).decode()

    def opaque(self, **claims: Any) -> str:
        """A token that only this server can read."""
        token = f"opaque-Zq7{secrets.token_urlsafe(12)}"
        self.tokens[token] = {"active": True, **self.claims(**claims)}
        return token

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/.well-known/oauth-authorization-server", self._metadata),
                Route("/strict/.well-known/openid-configuration", self._strict),
                Route("/jwks", self._jwks),
                Route("/directory", self._directory),
                Route("/token", self._token, methods=["POST"]),
                Route("/introspect", self._introspect, methods=["POST"]),
            ],
        )

    async def _metadata(self, request: Request) -> Response:
        self.seen.append(request.url.path)
        return JSONResponse({"issuer": self.issuer_said or self.url, "jwks_uri": self.keys_at or f"{self.url}/jwks"})

    async def _strict(self, request: Request) -> Response:
        del request
        return JSONResponse({"issuer": f"{self.url}/strict", "jwks_uri": f"{self.url}/jwks"})

    async def _jwks(self, request: Request) -> Response:
        self.seen.append(request.url.path)
        answer = self.answer
        if answer is None:
            return JSONResponse(self.jwks())
        return answer if isinstance(answer, Response) else await answer()

    async def _directory(self, request: Request) -> Response:
        self.seen.append(request.url.path)
        return self.directory or Response(status_code=404)

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        claims: dict[str, Any] = {}
        if form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange":
            subject = jwt.decode(str(form["subject_token"]), self.keys[0]).claims
            claims = {"sub": subject["sub"], "act": {"sub": form["actor"]}}
        proof = request.headers.get("dpop")
        if proof is not None:
            key = ECKey.import_key(json.loads(base64.urlsafe_b64decode(proof.split(".")[0] + "=="))["jwk"])
            jwt.decode(proof, key)
            claims["cnf"] = {"jkt": key.thumbprint()}
        kind = "DPoP" if proof is not None else "Bearer"
        return JSONResponse({"access_token": self.mint(**claims), "token_type": kind, "expires_in": 300})

    async def _introspect(self, request: Request) -> Response:
        self.seen.append(request.url.path)
        answer = self.introspection
        if answer is not None:
            return answer if isinstance(answer, Response) else await answer()
        pair = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        if pair != ":".join(CLIENT):
            return JSONResponse({"error": "invalid_client"}, 401)
        form = await request.form()
        return JSONResponse(self.tokens.get(str(form["token"]), {"active": False}))


def encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
