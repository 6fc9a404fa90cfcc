"""The Django application: it holds the fence of the process, and registers the system checks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
from django.apps import AppConfig
from django.core.checks import register
from django.core.signals import setting_changed

from afmiddleware.errors import ConfigError
from afmiddleware_django import checks
from afmiddleware_django.audit import listed, resolver_for
from afmiddleware_django.settings import NAME, make_fence, read_settings

if TYPE_CHECKING:
    from afmiddleware.fence import Fence
    from afmiddleware_django.resolver import Resolver


class Started(msgspec.Struct, frozen=True):
    """A fence that fits the project. `watched` when middlewares stand inside that only the policy vouches for."""

    fence: Fence
    resolver: Resolver
    watched: bool


class FenceConfig(AppConfig):
    """`afmiddleware_django` in INSTALLED_APPS."""

    name = "afmiddleware_django"
    verbose_name = "Action firewall"

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        self._fence: Fence | None = None
        self._own = False
        self._lock = threading.Lock()

    def ready(self) -> None:
        """Register the system checks."""
        register(checks.settings_and_order, checks.TAG)
        register(checks.policy_and_project, checks.TAG)
        register(checks.coverage, checks.TAG, deploy=True)
        setting_changed.connect(self._changed)

    @property
    def fence(self) -> Fence:
        """The policy at work, one for the process. Raises `ConfigError` with every problem of settings and policy."""
        with self._lock:
            if self._fence is None:
                said = read_settings()
                self._fence = make_fence(said)
                self._own = said.fence is None
            return self._fence

    def start(self) -> Started:
        """Audit the project and fit the policy to it. Raises `ConfigError` with everything that must stop it."""
        fence = self.fence
        resolver, problem = resolver_for(read_settings().urlconfs)
        if resolver is None:
            raise ConfigError([problem])
        found = listed(resolver)
        try:
            fence.adopt(found)
        except ConfigError:
            # The next start reads the policy again, which may then be another.
            self._drop()
            raise
        return Started(fence=fence, resolver=resolver, watched=bool(found.layers))

    def _changed(self, *, setting: str, **_told: Any) -> None:
        """Tests override settings: the next middleware gets a new fence."""
        if setting == NAME:
            self._drop()

    def _drop(self) -> None:
        with self._lock:
            if self._fence is not None and self._own:
                self._fence.close()
            self._fence = None
