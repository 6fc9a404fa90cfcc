"""An action firewall for HTTP APIs that AI agents call: capabilities, limits, and receipts that can be checked."""

from afmiddleware.current import Action, current_action
from afmiddleware.declare import body, capability, cookie, fixed, form, header, path, query
from afmiddleware.errors import ActionRefusedError, AFError, ConfigError, CredentialError, IdentityUnavailableError
from afmiddleware.fence import Fence
from afmiddleware.mapping.view import RequestView
from afmiddleware.model import ActionEvent, Actor, Money, Receipt, Tier, Verdict

ActionRefused = ActionRefusedError

__all__ = [
    "AFError",
    "Action",
    "ActionEvent",
    "ActionRefused",
    "Actor",
    "ConfigError",
    "CredentialError",
    "Fence",
    "IdentityUnavailableError",
    "Money",
    "Receipt",
    "RequestView",
    "Tier",
    "Verdict",
    "body",
    "capability",
    "cookie",
    "current_action",
    "fixed",
    "form",
    "header",
    "path",
    "query",
]
