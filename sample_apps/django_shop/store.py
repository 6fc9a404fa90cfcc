"""What the shop sells, and the bookings of one process."""

from __future__ import annotations

import threading
from decimal import Decimal, InvalidOperation
from itertools import count
from typing import Any

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


def checked(asked: dict[str, Any]) -> dict[str, Any]:
    """A booking as the shop takes it. Raises `ValueError` without passengers, or for a price below nothing."""
    try:
        price = Decimal(str(asked["price"]))
        passengers = int(asked.get("passengers", 1))
        booking = {"flight_id": str(asked["flight_id"]), "airline": str(asked["airline"]), "price": price}
    except (KeyError, InvalidOperation, TypeError) as error:
        msg = "this is no booking"
        raise ValueError(msg) from error
    if price < 0 or passengers < 1:
        msg = "a booking has a price and at least one passenger"
        raise ValueError(msg)
    return booking
