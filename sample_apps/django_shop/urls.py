"""The routes of the shop, spelled as Django does; the policy is the one of the other shops."""

from __future__ import annotations

from django.urls import include, path, re_path

from django_shop import views

trips = [
    path("flights", views.search),
    path("bookings", views.Bookings.as_view()),
    path("bookings/<int:booking_id>", views.Booking.as_view()),
    path("refunds", views.refund),
    re_path(r"^export$", views.export),
    path("debug/reset", views.reset),
]
back_office = [path("stats", views.stats)]

urlpatterns = [
    path("health", views.health),
    path("v1/", include((trips, "trips"))),
    path("admin/", include((back_office, "back_office"))),
]
