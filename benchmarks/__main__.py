"""`python -m benchmarks overhead`, `throughput`, `routes`, `policy`, `receipts` and `ledger`."""

from __future__ import annotations

import argparse

from benchmarks.django_stack import django_overhead
from benchmarks.identity import identity
from benchmarks.ledger import ledger
from benchmarks.overhead import overhead
from benchmarks.policy import policy
from benchmarks.receipts import receipts
from benchmarks.routes import routes
from benchmarks.throughput import throughput
from benchmarks.wsgi import wsgi_overhead


def main() -> None:
    """Run the measurement named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("overhead", help="CPU time per request, in process, interleaved")
    one.add_argument("--rounds", type=int, default=15)
    one.add_argument("--requests", type=int, default=400, help="requests per variant and round")
    one.add_argument("--profile", action="store_true", help="show where the time of the fenced app goes")
    one.add_argument("--wsgi", action="store_true", help="Flask and WSGI alone")
    one.add_argument("--django", action="store_true", help="Django alone, under WSGI and ASGI")
    two = commands.add_parser("throughput", help="requests per second under uvicorn with 64 connections")
    two.add_argument("--seconds", type=float, default=4.0)
    two.add_argument("--connections", type=int, default=64)
    three = commands.add_parser("routes", help="the decision at 10 000 routes and rules against 10")
    three.add_argument("--rounds", type=int, default=9)
    three.add_argument("--requests", type=int, default=300, help="requests per variant and round")
    four = commands.add_parser("policy", help="the policy alone at 10 000 rules against 10")
    four.add_argument("--rounds", type=int, default=15)
    four.add_argument("--requests", type=int, default=4000, help="decisions per variant and round")
    seven = commands.add_parser("identity", help="a caller that was known a moment ago against a hash and a cache")
    seven.add_argument("--rounds", type=int, default=15)
    seven.add_argument("--requests", type=int, default=5000, help="callers per variant and round")
    five = commands.add_parser("receipts", help="checking a log against re-encoding it")
    five.add_argument("--rounds", type=int, default=3)
    five.add_argument("--size", type=int, default=100_000, help="receipts in the log")
    six = commands.add_parser("ledger", help="commits a second on every ledger, and what many actors cost")
    six.add_argument("--seconds", type=float, default=6.0, help="for each ledger")
    six.add_argument("--actors", type=int, default=100_000)
    six.add_argument("--stored", type=int, default=1_000_000, help="receipts in the full SQLite ledger (4 minutes)")
    chosen = parser.parse_args()
    if chosen.command == "overhead":
        whole = not (chosen.wsgi or chosen.django)
        if whole:
            overhead(chosen.rounds, chosen.requests, profile=chosen.profile)
        if whole or chosen.wsgi:
            wsgi_overhead(chosen.rounds, chosen.requests, profile=chosen.profile and chosen.wsgi)
        if whole or chosen.django:
            django_overhead(chosen.rounds, chosen.requests, profile=chosen.profile and chosen.django)
    elif chosen.command == "routes":
        routes(chosen.rounds, chosen.requests)
    elif chosen.command == "receipts":
        receipts(chosen.size, chosen.rounds)
    elif chosen.command == "ledger":
        ledger(chosen.seconds, chosen.actors, chosen.stored)
    elif chosen.command == "identity":
        identity(chosen.rounds, chosen.requests)
    elif chosen.command == "policy":
        policy(chosen.rounds, chosen.requests)
    else:
        throughput(chosen.seconds, chosen.connections)


if __name__ == "__main__":
    main()
