"""The same servers and tenants as the tests of the API's nouns."""

from tests.app.conftest import server, stranger, tenant

__all__ = ["server", "stranger", "tenant"]
