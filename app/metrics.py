"""What Prometheus is told of requests and of the object store. What waits: `app.backlog`; what workers do: `workers.metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter("lustral_http_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "lustral_http_request_seconds",
    "Time until the answer began.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
STORAGE_ERRORS = Counter(
    "lustral_storage_errors_total",
    "Calls to the object store that failed after their retries; what is merely missing does not count.",
    ["operation"],
)
