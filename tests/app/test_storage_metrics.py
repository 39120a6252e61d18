"""Failures of the object store are counted; what is merely missing is not."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from prometheus_client import REGISTRY

from app.storage import ObjectNotFound, open_store
from tests.app.test_storage import settings_for
from tests.servers.seaweedfs import SeaweedFS


def failures(operation: str) -> float:
    return REGISTRY.get_sample_value("lustral_storage_errors_total", {"operation": operation}) or 0.0


def test_counts_what_the_store_refuses_and_not_what_it_lacks(seaweedfs: SeaweedFS, bucket: str) -> None:
    url = f"s3://{bucket}?endpoint={seaweedfs.endpoint_url}"
    store = open_store(settings_for(url, s3_access_key_id=seaweedfs.access_key, s3_secret_access_key=seaweedfs.secret_key))
    stranger = open_store(settings_for(url, s3_access_key_id=seaweedfs.access_key, s3_secret_access_key="wrong"))
    before = failures("GetObject"), failures("PutObject")
    with pytest.raises(ObjectNotFound):
        store.open_range("nothing")
    assert (failures("GetObject"), failures("PutObject")) == before
    with pytest.raises(ClientError):
        stranger.put_bytes("x", b"x")
    assert failures("PutObject") == before[1] + 1
