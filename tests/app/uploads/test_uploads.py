"""Files come in by parts, and only whole ones count."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.worlds.api import PART, Tenant, expect, expect_problem

THREE_PARTS = b"ab" * PART + b"the end"


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


class TestPutPart:
    def test_takes_parts_in_any_order_and_in_parallel(self, tenant: Tenant) -> None:
        upload = tenant.announce(THREE_PARTS)

        def put(part: dict[str, object]) -> int:
            start = (int(str(part["number"])) - 1) * PART
            return httpx.put(str(part["url"]), content=THREE_PARTS[start : start + int(str(part["bytes"]))], timeout=30).status_code

        with ThreadPoolExecutor(3) as pool:
            assert set(pool.map(put, reversed(upload["parts"]))) == {200}
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

    def test_counts_no_part_of_another_size(self, tenant: Tenant) -> None:
        upload = tenant.announce(b"four")
        for wrong in (b"fiver", b"two"):
            httpx.put(upload["parts"][0]["url"], content=wrong)
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
        assert set(answers) <= {200, 409}
        assert expect(tenant.post(f"/v1/uploads/{upload['id']}/complete"), 200)["status"] == "completed"
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
