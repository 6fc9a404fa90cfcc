"""`manage.py fence_check`: every view with its capability, and all that is wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
from django.core.management.base import BaseCommand

from afmiddleware.errors import ConfigError
from afmiddleware_django.audit import examine
from afmiddleware_django.layers import misplaced

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Exit 0 when nothing is wrong, 1 for findings, 2 when the policy cannot be read."""

    help = "Show every view of the project with its capability, and what is wrong between project and policy."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--json`."""
        parser.add_argument("--json", action="store_true", dest="as_json", help="Print JSON.")

    def handle(self, *_args: Any, as_json: bool = False, **_options: Any) -> None:
        """Print the views and the findings."""
        try:
            examined = examine()
        except ConfigError as error:
            if as_json:
                self.stdout.write(msgspec.json.encode({"ok": False, "problems": error.problems}).decode())
            for problem in () if as_json else error.problems:
                self.stderr.write(problem)
            sys.exit(2)
        report = examined.report
        wrong = [{"id": one.id, "text": one.text, "where": one.where} for one in report.findings]
        wrong += [{"id": one.id, "text": one.text, "where": ""} for one in misplaced()]
        if as_json:
            told = {"ok": not wrong, "endpoints": report.endpoints, "findings": wrong}
            self.stdout.write(msgspec.json.encode(told).decode())
        else:
            width = max((len(one.endpoint) for one in report.endpoints), default=0)
            wide = max((len(one.capability) for one in report.endpoints), default=0)
            for one in report.endpoints:
                self.stdout.write(f"{one.endpoint:{width}}  {one.capability:{wide}}  {one.handler}")
            for found in wrong:
                self.stderr.write(f"{found['where']}: {found['text']}" if found["where"] else found["text"])
        if wrong:
            sys.exit(1)
