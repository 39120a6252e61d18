"""Files come in by parts, and only whole ones count."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.auth.service import authenticate
from app.errors import TooManyRequests
from app.uploads.schemas import UploadCreate
from app.uploads.service import create_upload
from tests.worlds.api import PART, Tenant, expect, expect_problem

THREE_PARTS = b"ab" * PART + b"the end"
DIGEST = "0" * 64


def put(part: dict[str, Any], data: bytes, **headers: str) -> int:
    """The status that the store, or the API in its place, answers with."""
    return httpx.put(part["url"], content=data, headers={**part["headers"], **headers}, timeout=30).status_code


class TestCreateUpload:
    def test_cuts_the_file_into_parts(self, tenant: Tenant) -> None:
        upload = tenant.announce(THREE_PARTS)
        assert [part["bytes"] for part in upload["parts"]] == [PART, PART, 7]
        assert upload["part_size"] == PART
        assert not any(part["received"] for part in upload["parts"])

    def test_keeps_the_number_of_parts_bounded(self, tenant: Tenant) -> None:
        upload = expect(tenant.post("/v1/uploads", json={"filename": "large.safetensors", "bytes": 100 * 2**30}), 201)
        assert len(upload["parts"]) <= 1000
        assert sum(part["bytes"] for part in upload["parts"]) == 100 * 2**30

    def test_refuses_a_file_that_is_too_large(self, tenant: Tenant) -> None:
        expect_problem(tenant.post("/v1/uploads", json={"filename": "x", "bytes": 2**49}), 413)

    def test_refuses_names_that_lead_out_of_the_folder(self, tenant: Tenant) -> None:
        for name in ("../x", "/etc/passwd", "a//b", "a\\b", "a/./b", "", "a\nb", "x" * 300):
            expect_problem(tenant.post("/v1/uploads", json={"filename": name, "bytes": 1}), 422, "/filename")

    @pytest.mark.parametrize(
        ("sizes", "pointer"),
        [
            ([PART, PART, 8], "/parts"),
            ([PART, 7, PART], "/parts/1/bytes"),
            ([7, PART, PART], "/parts/1/bytes"),
            ([7, 7, 7], "/parts/0/bytes"),
        ],
    )
    def test_refuses_parts_that_are_not_those_of_the_file(self, tenant: Tenant, sizes: list[int], pointer: str) -> None:
        total = 21 if max(sizes) == 7 else 2 * PART + 7
        parts = [{"bytes": size, "sha256": DIGEST} for size in sizes]
        expect_problem(tenant.post("/v1/uploads", json={"filename": "x", "bytes": total, "parts": parts}), 422, pointer)

    def test_asks_for_no_bytes_that_the_tenant_has(self, tenant: Tenant, stranger: Tenant) -> None:
        tenant.upload(b"the same")
        again = tenant.announce_parts(b"the same", filename="another name")
        assert (again["status"], again["parts"]) == ("completed", [])
        expect(tenant.post(f"/v1/uploads/{again['id']}/complete"), 200)
        tenant.register("models", again["id"])
        assert stranger.announce_parts(b"the same")["status"] == "open"

    def test_grants_what_is_left_of_the_quota_once(self, tenant: Tenant) -> None:
        """Open uploads count, and those that are announced at the same moment count as well."""
        runtime = tenant.server.runtime
        limited = replace(runtime, settings=runtime.settings.model_copy(update={"max_stored_bytes": 3 * 100 + 50}))
        caller = authenticate(runtime, tenant.key)

        def announce(number: int) -> bool:
            try:
                with runtime.write.begin() as session:
                    create_upload(session, limited, caller, UploadCreate(filename=f"{number}.bin", bytes=100))
            except TooManyRequests:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(announce, range(8))) == 3

    def test_points_at_every_wrong_value(self, tenant: Tenant) -> None:
        body = {"filename": "x", "bytes": -1, "sha256": "ABC", "colour": "red"}
        expect_problem(tenant.post("/v1/uploads", json=body), 422, "/bytes", "/sha256", "/colour")


class TestGetUpload:
    def test_shows_which_parts_arrived(self, tenant: Tenant) -> None:
        upload = tenant.announce(THREE_PARTS)
        httpx.put(upload["parts"][1]["url"], content=THREE_PARTS[PART : 2 * PART], timeout=30).raise_for_status()
        parts = expect(tenant.get(f"/v1/uploads/{upload['id']}"), 200)["parts"]
        assert [part["received"] for part in parts] == [False, True, False]
        assert [part["url"] is None for part in parts] == [False, True, False]

    def test_is_another_tenants_secret(self, tenant: Tenant, stranger: Tenant) -> None:
        upload = tenant.announce(b"mine")
        expect_problem(stranger.get(f"/v1/uploads/{upload['id']}"), 404)


class TestListUploads:
    def test_finds_what_broke_off_by_its_digest(self, tenant: Tenant, stranger: Tenant) -> None:
        tenant.upload(b"done")
        upload = tenant.announce(b"broken off")
        query = {"status": "open", "sha256": hashlib.sha256(b"broken off").hexdigest()}
        assert [found["id"] for found in expect(tenant.get("/v1/uploads", params=query), 200)["data"]] == [upload["id"]]
        assert [found["status"] for found in expect(tenant.get("/v1/uploads"), 200)["data"]] == ["open", "completed"]
        assert expect(stranger.get("/v1/uploads", params=query), 200)["data"] == []


class TestPutPart:
    def test_takes_no_other_bytes_than_were_stated(self, tenant: Tenant) -> None:
        upload = tenant.announce_parts(b"good bytes")
        [part] = upload["parts"]
        for other in (b"evil bytes", b"good byte", b"good bytes!", b""):
            assert 400 <= put(part, other) < 500, other
        assert not expect(tenant.get(f"/v1/uploads/{upload['id']}"), 200)["parts"][0]["received"]
        assert put(part, b"good bytes") == 200
        expect(tenant.post(f"/v1/uploads/{upload['id']}/complete"), 200)

    @pytest.mark.parametrize("server", ["production"], indirect=True)
    def test_signs_the_digest_so_that_no_other_can_be_sent_along(self, tenant: Tenant) -> None:
        [part] = tenant.announce_parts(b"good bytes")["parts"]
        [header] = part["headers"]
        _, [of_evil] = (one["headers"].items() for one in tenant.announce_parts(b"evil bytes")["parts"] * 2)
        assert put(part, b"evil bytes", **dict([of_evil])) == 403
        assert put({**part, "headers": {}}, b"good bytes") == 403
        assert header in part["url"]

    def test_takes_parts_in_any_order_and_in_parallel(self, tenant: Tenant) -> None:
        upload = tenant.announce(THREE_PARTS)

        def send(part: dict[str, Any]) -> int:
            start = (part["number"] - 1) * PART
            return put(part, THREE_PARTS[start : start + part["bytes"]])

        with ThreadPoolExecutor(3) as pool:
            assert set(pool.map(send, reversed(upload["parts"]))) == {200}
        completed = expect(tenant.post(f"/v1/uploads/{upload['id']}/complete"), 200)
        assert completed["sha256"] == hashlib.sha256(THREE_PARTS).hexdigest()

    def test_lets_a_part_be_sent_again(self, tenant: Tenant) -> None:
        """As a client does whose first answer was lost."""
        upload = tenant.announce(b"data")
        for _ in range(3):
            httpx.put(upload["parts"][0]["url"], content=b"data").raise_for_status()
        expect(tenant.post(f"/v1/uploads/{upload['id']}/complete"), 200)

    def test_refuses_a_link_of_somebody_elses_making(self, tenant: Tenant) -> None:
        url = tenant.announce(b"data")["parts"][0]["url"]
        flipped = url[:-1] + ("0" if url[-1] != "0" else "1")
        assert httpx.put(flipped, content=b"data").status_code == 403

    def test_takes_no_part_of_another_size(self, tenant: Tenant) -> None:
        upload = tenant.announce(b"four")
        for wrong in (b"fiver", b"two"):
            assert 400 <= put(upload["parts"][0], wrong) < 500
            problem = expect_problem(tenant.post(f"/v1/uploads/{upload['id']}/complete"), 409)
            assert "1" in problem["detail"]


class TestCompleteUpload:
    def test_verifies_size_and_digest(self, tenant: Tenant) -> None:
        upload = tenant.announce(THREE_PARTS)
        tenant.send_parts(upload, THREE_PARTS)
        completed = expect(tenant.post(f"/v1/uploads/{upload['id']}/complete"), 200)
        assert completed["status"] == "completed"
        assert completed["parts"] == []
        assert completed["completed_at"] is not None

    def test_tells_the_digest_where_none_was_announced(self, tenant: Tenant) -> None:
        upload = tenant.announce(b"data", sha256=None)
        tenant.send_parts(upload, b"data")
        assert expect(tenant.post(f"/v1/uploads/{upload['id']}/complete"), 200)["sha256"] == hashlib.sha256(b"data").hexdigest()

    def test_takes_an_empty_file(self, tenant: Tenant) -> None:
        assert tenant.upload(b"").startswith("upl_")

    def test_is_no_error_twice(self, tenant: Tenant) -> None:
        upload_id = tenant.upload(b"data")
        assert expect(tenant.post(f"/v1/uploads/{upload_id}/complete"), 200)["status"] == "completed"

    def test_names_the_missing_parts(self, tenant: Tenant) -> None:
        upload = tenant.announce(THREE_PARTS)
        httpx.put(upload["parts"][0]["url"], content=THREE_PARTS[:PART], timeout=30).raise_for_status()
        assert "2, 3" in expect_problem(tenant.post(f"/v1/uploads/{upload['id']}/complete"), 409)["detail"]

    def test_of_wrong_bytes_opens_the_upload_again(self, tenant: Tenant) -> None:
        upload = tenant.announce(b"right")
        tenant.send_parts(upload, b"wrong")
        problem = expect_problem(tenant.post(f"/v1/uploads/{upload['id']}/complete"), 422, "/sha256")
        assert hashlib.sha256(b"wrong").hexdigest() in problem["detail"]
        assert tenant.stored() == set()
        again = expect(tenant.get(f"/v1/uploads/{upload['id']}"), 200)
        assert again["status"] == "open"
        tenant.send_parts(again, b"right")
        expect(tenant.post(f"/v1/uploads/{upload['id']}/complete"), 200)

    def test_keeps_equal_bytes_once(self, tenant: Tenant) -> None:
        tenant.upload(b"the same")
        tenant.upload(b"the same")
        assert len(tenant.stored()) == 1

    def test_shares_no_bytes_between_tenants(self, tenant: Tenant, stranger: Tenant) -> None:
        tenant.upload(b"the same")
        stranger.upload(b"the same")
        assert len(tenant.stored()) == len(stranger.stored()) == 1

    def test_lets_one_of_many_at_once_do_the_work(self, tenant: Tenant) -> None:
        upload = tenant.announce(THREE_PARTS)
        tenant.send_parts(upload, THREE_PARTS)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: tenant.post(f"/v1/uploads/{upload['id']}/complete").status_code, range(4)))
        assert set(answers) == {200}
        assert len(tenant.stored()) == 1


class TestDeleteUpload:
    def test_aborts_an_open_one(self, tenant: Tenant) -> None:
        upload = tenant.announce(b"data")
        tenant.send_parts(upload, b"data")
        assert tenant.delete(f"/v1/uploads/{upload['id']}").status_code == 204
        expect_problem(tenant.get(f"/v1/uploads/{upload['id']}"), 404)
        assert httpx.put(upload["parts"][0]["url"], content=b"data").status_code == 404
        assert tenant.stored() == set()

    def test_removes_the_bytes_of_a_completed_one(self, tenant: Tenant) -> None:
        assert tenant.delete(f"/v1/uploads/{tenant.upload(b'data')}").status_code == 204
        assert tenant.stored() == set()

    def test_leaves_bytes_that_a_model_uses(self, tenant: Tenant) -> None:
        upload_id = tenant.upload(b"data")
        tenant.register("models", upload_id)
        tenant.delete(f"/v1/uploads/{upload_id}")
        assert len(tenant.stored()) == 1
