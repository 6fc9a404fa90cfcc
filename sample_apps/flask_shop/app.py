"""The flight shop as a Flask application, fenced by one line and the policy file that all three shops share.

Run it with `AFM_POLICY=fence.yaml flask --app app:create_from_env run`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from itertools import count
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, abort, request
from flask.views import MethodView
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from afmiddleware import current_action
from afmiddleware_flask import AgentFence

FLIGHTS = {
    "AF1": {"from": "AMS", "to": "LIS", "price": "120.00"},
    "KL7": {"from": "AMS", "to": "OSL", "price": "95.50"},
}


class Shop:
    """The bookings of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self.bookings: dict[int, dict[str, Any]] = {}

    def book(self, booking: dict[str, Any]) -> int:
        """Keep a booking; its number."""
        with self._lock:
            number = next(self._numbers)
            self.bookings[number] = booking
            return number


class Booking(MethodView):
    """One booking."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def delete(self, booking_id: int) -> dict[str, int]:
        """Cancel it."""
        if self._shop.bookings.pop(booking_id, None) is None:
            abort(404, "no such booking")
        return {"cancelled": booking_id}


def create_app(policy: str | os.PathLike[str]) -> Flask:
    """The shop behind the policy at `policy`."""
    shop = Shop()
    app = Flask(__name__, static_folder=None)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    app.register_blueprint(trips(shop))
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/admin": back_office(shop)})  # type: ignore[method-assign]
    AgentFence(app, policy=policy)
    return app


def trips(shop: Shop) -> Blueprint:
    """What customers and their agents use."""
    routes = Blueprint("trips", __name__, url_prefix="/v1")

    @routes.get("/flights")
    def search() -> dict[str, dict[str, str]]:
        return FLIGHTS

    @routes.post("/bookings")
    def book() -> dict[str, str | int]:
        booking = checked(request.get_json())
        if booking["flight_id"] not in FLIGHTS:
            abort(404, "no such flight")
        number = shop.book(booking)
        return {"id": number, "total": str(booking["price"]), "booked_for": current_action().actor.account}

    routes.add_url_rule("/bookings/<int:booking_id>", view_func=Booking.as_view("booking", shop))

    @routes.post("/refunds")
    def refund() -> dict[str, str]:
        asked = request.get_json()
        return {"booking": str(asked["booking_id"]), "refunded": str(asked["amount"])}

    @routes.get("/export")
    def export() -> Response:
        def rows() -> Iterator[str]:
            yield "id,flight,price\n"
            for number, booking in list(shop.bookings.items()):
                yield f"{number},{booking['flight_id']},{booking['price']}\n"

        return Response(rows(), mimetype="text/csv")

    @routes.post("/debug/reset")
    def reset() -> dict[str, str]:
        """Nobody mapped this route, so the fence denies it."""
        shop.bookings.clear()
        return {"status": "all bookings are gone"}

    return routes


def back_office(shop: Shop) -> Flask:
    """An application of its own, mounted into the shop."""
    admin = Flask("back_office", static_folder=None)

    @admin.get("/stats")
    def stats() -> dict[str, int]:
        return {"bookings": len(shop.bookings)}

    return admin


def checked(asked: dict[str, Any]) -> dict[str, Any]:
    """A booking without passengers, or at a price below nothing, is refused by the shop itself (422)."""
    try:
        price = Decimal(str(asked["price"]))
        passengers = int(asked.get("passengers", 1))
        booking = {"flight_id": str(asked["flight_id"]), "airline": str(asked["airline"]), "price": price}
    except (KeyError, InvalidOperation, ValueError, TypeError):
        abort(422, "this is no booking")
    if price < 0 or passengers < 1:
        abort(422, "a booking has a price and at least one passenger")
    return booking


def create_from_env() -> Flask:
    """The shop behind the policy that `AFM_POLICY` names, or the one that lies beside the FastAPI shop."""
    return create_app(os.environ.get("AFM_POLICY") or Path(__file__).parents[1] / "fastapi_shop" / "fence.yaml")
