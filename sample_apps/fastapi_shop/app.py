"""A small shop for flights, fenced by one line and one policy file.

Run it with `AFM_POLICY=fence.yaml uvicorn --factory app:create_from_env`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from afmiddleware import current_action
from afmiddleware_fastapi import FenceMiddleware

FLIGHTS = {
    "AF1": {"from": "AMS", "to": "LIS", "price": "120.00"},
    "KL7": {"from": "AMS", "to": "OSL", "price": "95.50"},
}


class BookingRequest(BaseModel):
    """What an agent asks for. A booking without passengers is refused by the shop itself (422)."""

    flight_id: str
    price: Decimal = Field(ge=0)
    currency: str = "USD"
    airline: str
    passengers: Annotated[int, Field(ge=1)] = 1


class RefundRequest(BaseModel):
    """Money back for a booking."""

    booking_id: int
    amount: Decimal = Field(ge=0)


def create_app(policy: str | os.PathLike[str]) -> FastAPI:  # noqa: C901 (one function a route)
    """The shop behind the policy at `policy`."""
    app = FastAPI(title="Flight shop")
    app.add_middleware(FenceMiddleware, policy=policy)

    bookings: dict[int, BookingRequest] = {}
    numbers = count(1)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/flights")
    def search() -> dict[str, dict[str, str]]:
        return FLIGHTS

    @app.post("/v1/bookings")
    def book(booking: BookingRequest) -> dict[str, str | int]:
        if booking.flight_id not in FLIGHTS:
            raise HTTPException(404, "no such flight")
        number = next(numbers)
        bookings[number] = booking
        return {"id": number, "total": str(booking.price), "booked_for": current_action().actor.account}

    @app.delete("/v1/bookings/{booking_id}")
    def cancel(booking_id: int) -> dict[str, int]:
        if bookings.pop(booking_id, None) is None:
            raise HTTPException(404, "no such booking")
        return {"cancelled": booking_id}

    @app.post("/v1/refunds")
    def refund(asked: RefundRequest) -> dict[str, str | int]:
        return {"booking": asked.booking_id, "refunded": str(asked.amount)}

    @app.get("/v1/export")
    def export() -> StreamingResponse:
        def rows() -> Iterator[str]:
            yield "id,flight,price\n"
            for number, booking in bookings.items():
                yield f"{number},{booking.flight_id},{booking.price}\n"

        return StreamingResponse(rows(), media_type="text/csv")

    @app.post("/v1/debug/reset")
    def reset() -> dict[str, str]:
        """Nobody mapped this route, so the fence denies it."""
        bookings.clear()
        return {"status": "all bookings are gone"}

    admin = FastAPI(title="Flight shop, back office")

    @admin.get("/stats")
    def stats() -> dict[str, int]:
        return {"bookings": len(bookings)}

    app.mount("/admin", admin)
    return app


def create_from_env() -> FastAPI:
    """The shop behind the policy that `AFM_POLICY` names, or the one beside this file."""
    return create_app(os.environ.get("AFM_POLICY") or Path(__file__).with_name("fence.yaml"))
