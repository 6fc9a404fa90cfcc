"""Starter rules for common kinds of services: lines of a policy, by section."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PACKS: Final[Mapping[str, Mapping[str, Sequence[str]]]] = MappingProxyType(
    {
        "payments": {
            "proven": ("payments.",),
            "spends": ("payments.",),
            "deny": (
                "    # pack payments: who pays has proven who it is (identity: jwt), and payments stay",
                "    - {id: payments-known, capability: payments.**, when: {actor.tier: {lt: verified}}}",
                "    - {id: payments-kept, capability: payments.**, when: {method: DELETE}, reason: Payments stay.}",
            ),
            "require_approval": (
                "    - {id: payments-large, capability: payments.**, when: {amount: {gte: 1000 USD}}}      # REVIEW",
            ),
            "allow": (
                "    - {id: payments-pay, capability: payments.**, identity: verified, scopes: [payments]}",
                "    - {id: refunds, capability: refunds.*, identity: verified, scopes: [refunds], max_amount: 99 USD}",
            ),
            "limits": (
                "    - {name: payments-rate, rate: 10/minute, per: actor, capability: payments.**}",
                "    - {name: payments-hour, spend: 500 USD, window: rolling 60m, per: actor, capability: payments.**}",
                "    - {name: payments-day, spend: 2000 USD, window: day, per: actor, capability: payments.**}",
                "    - {name: all, spend: 9000 USD, window: day, per: global, capability: payments.*, on_exceed: trip}",
            ),
        },
        "bookings": {
            "spends": ("bookings.",),
            "require_approval": (
                "    # pack bookings",
                "    - {id: bookings-large, capability: bookings.**, when: {amount: {gte: 500 USD}}}      # REVIEW",
            ),
            "allow": (
                "    - {id: bookings-read, capability: bookings.read, identity: token}",
                "    - {id: bookings-book, capability: bookings.create, identity: verified, scopes: [bookings]}",
                "    - {id: bookings-cancel, capability: bookings.delete, identity: verified, scopes: [bookings]}",
            ),
            "limits": (
                "    - {name: bookings-a-day, rate: 5/day, per: actor, capability: bookings.create, counts: admitted}",
                "    - {name: bookings-spend, spend: 1000 USD, window: day, per: actor, capability: bookings.**}",
            ),
        },
        "admin": {
            "deny": (
                "    # pack admin: agents that act for others stay out, and nothing is deleted by them at all",
                "    - {id: admin-no-delegates, capability: admin.**, when: {actor.depth: {gt: 0}}}",
                "    - {id: admin-no-delete, capability: admin.**, when: {method: DELETE}, reason: People delete.}",
            ),
            "require_approval": (
                "    - {id: admin-change, capability: admin.**, when: {method: {in: [POST, PUT, PATCH]}}}",
            ),
            "allow": ("    - {id: admin-staff, capability: admin.**, identity: verified, roles: [admin]}",),
            "limits": ("    - {name: admin-rate, rate: 20/minute, per: actor, capability: admin.**}",),
        },
        "mcp": {
            "deny": (
                "    # pack mcp: tools by their names; what deletes or runs code is closed",
                "    - {id: mcp-no-delete, capability: mcp.*delete*}",
                "    - {id: mcp-no-exec, capability: mcp.*exec*}",
                "    - {id: mcp-no-shell, capability: mcp.*shell*}",
            ),
            "allow": (
                "    - {id: mcp-get, capability: mcp.get_*, identity: token}",
                "    - {id: mcp-list, capability: mcp.list_*, identity: token}",
                "    - {id: mcp-search, capability: mcp.search_*, identity: token}",
                "    # - {id: mcp-all, capability: mcp.*, identity: verified}      # REVIEW: opens every other tool",
            ),
            "limits": (
                "    - {name: mcp-rate, rate: 30/minute, per: actor, capability: mcp.*}",
                "    - {name: mcp-at-once, concurrent: 4, per: actor, capability: mcp.*}",
            ),
        },
        "readonly": {
            "deny": (
                "    # pack readonly: nothing is changed over HTTP, whatever else is allowed",
                "    - {id: readonly, capability: '**', when: {method: {not_in: [GET, HEAD, QUERY]}}}",
            ),
        },
    },
)
"""By the name of the pack. `proven` and `spends` are beginnings of capabilities: those that it denies to whoever is not
`verified`, and those whose money it limits for each actor by itself."""
