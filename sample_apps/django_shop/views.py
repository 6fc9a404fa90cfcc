"""What customers and their agents use."""

from __future__ import annotations

import json
from collections.abc import Iterator

from django.http import Http404, HttpRequest, JsonResponse, StreamingHttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from afmiddleware import current_action
from django_shop.store import FLIGHTS, Shop, checked

shop = Shop()


@require_GET
def health(_request: HttpRequest) -> JsonResponse:
    """Whether the shop is open."""
    return JsonResponse({"status": "ok"})


@require_GET
def search(_request: HttpRequest) -> JsonResponse:
    """The flights."""
    return JsonResponse(FLIGHTS)


@method_decorator(csrf_exempt, name="dispatch")
class Bookings(View):
    """All bookings."""

    def post(self, request: HttpRequest) -> JsonResponse:
        """Book a flight."""
        try:
            booking = checked(json.loads(request.body))
        except ValueError as error:
            return JsonResponse({"error": str(error)}, status=422)
        if booking["flight_id"] not in FLIGHTS:
            msg = "no such flight"
            raise Http404(msg)
        number = shop.book(booking)
        told = {"id": number, "total": str(booking["price"]), "booked_for": current_action().actor.account}
        return JsonResponse(told)


@method_decorator(csrf_exempt, name="dispatch")
class Booking(View):
    """One booking."""

    async def delete(self, _request: HttpRequest, booking_id: int) -> JsonResponse:
        """Cancel it."""
        if shop.bookings.pop(booking_id, None) is None:
            msg = "no such booking"
            raise Http404(msg)
        return JsonResponse({"cancelled": booking_id})


@csrf_exempt
@require_POST
def refund(request: HttpRequest) -> JsonResponse:
    """Money back for a booking."""
    asked = json.loads(request.body)
    return JsonResponse({"booking": str(asked["booking_id"]), "refunded": str(asked["amount"])})


@require_GET
def export(_request: HttpRequest) -> StreamingHttpResponse:
    """All bookings, row by row."""

    def rows() -> Iterator[str]:
        yield "id,flight,price\n"
        for number, booking in list(shop.bookings.items()):
            yield f"{number},{booking['flight_id']},{booking['price']}\n"

    return StreamingHttpResponse(rows(), content_type="text/csv")


@csrf_exempt
@require_POST
def reset(_request: HttpRequest) -> JsonResponse:
    """Nobody mapped this route, so the fence denies it."""
    shop.bookings.clear()
    return JsonResponse({"status": "all bookings are gone"})


@require_GET
def stats(_request: HttpRequest) -> JsonResponse:
    """For the back office."""
    return JsonResponse({"bookings": len(shop.bookings)})
