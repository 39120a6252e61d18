"""What Prometheus is told about the API."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter("lustral_http_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "lustral_http_request_seconds",
    "Time until the answer began.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
