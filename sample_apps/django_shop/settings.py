"""The settings of the shop: no database, and the fence as first middleware."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

ROOT_URLCONF = "django_shop.urls"
INSTALLED_APPS = ["afmiddleware_django"]
MIDDLEWARE = [
    "afmiddleware_django.middleware.FenceMiddleware",
    "django.middleware.common.CommonMiddleware",
]
# AFM_POLICY stands above this; the three shops share one policy.
AFMIDDLEWARE = {"policy": Path(__file__).parents[1] / "fastapi_shop" / "fence.yaml"}

ALLOWED_HOSTS = ["*"]
SECRET_KEY = os.environ.get("SHOP_SECRET_KEY") or secrets.token_urlsafe(50)
USE_TZ = True
