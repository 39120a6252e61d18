from __future__ import annotations

import pytest

from app.jobs.negotiation import choose_media_type

OFFERED = ("application/json", "text/html")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/html", "text/html"),
        ("text/*", "text/html"),
        ("TEXT/HTML; charset=utf-8", "text/html"),
        ("text/html;q=0.5, application/json", "application/json"),
        ("text/html, */*;q=0.1", "text/html"),
        ("application/json;q=0, */*", "text/html"),
        ("application/sarif+json", None),
        ("text/html;q=0", None),
        ("text/html;q=nonsense", None),
    ],
)
def test_the_form_that_the_client_prefers_is_chosen(accept: str | None, chosen: str | None) -> None:
    assert choose_media_type(accept, OFFERED) == chosen
