"""`manage.py fence_verify`: check the receipts of the project's fence."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
from django.core.management.base import BaseCommand

from afmiddleware.anchoring import anchors_of
from afmiddleware.errors import AFError, ConfigError
from afmiddleware.ledger.verification import verify_ledger
from afmiddleware_django.audit import policy_in_use

if TYPE_CHECKING:
    from argparse import ArgumentParser

_UNREADABLE = 5


class Command(BaseCommand):
    """Exit 0 whole, 2 the policy cannot be read, 3 tampered, 4 tail unanchored, 5 the log cannot be read."""

    help = "Check every receipt of the fence's log: whole, tampered, or with a tail that nothing anchors."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--json` and `--anchor`."""
        parser.add_argument("--json", action="store_true", dest="as_json", help="Print JSON.")
        parser.add_argument("--anchor", help="The anchor file, when it is not the policy's.")

    def handle(self, *_args: Any, as_json: bool = False, anchor: str | None = None, **_options: Any) -> None:
        """Print the report."""
        try:
            config, base = policy_in_use()
            report = verify_ledger(config, base, anchor, anchors=anchors_of(config.receipts, base))
        except ConfigError as error:
            for problem in error.problems:
                self.stderr.write(problem)
            sys.exit(2)
        except AFError as error:
            if as_json:
                told = {"status": "unreadable", "reason": str(error)}
                self.stdout.write(msgspec.json.encode(told).decode())
            else:
                self.stderr.write(f"unreadable: {error}")
            sys.exit(_UNREADABLE)
        self.stdout.write(msgspec.json.encode(report).decode() if as_json else "\n".join(report.lines()))
        sys.exit(report.exit_code)
