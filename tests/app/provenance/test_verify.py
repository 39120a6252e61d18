"""A download is genuine as it was handed out, and in no other state: `lustral verify` against real files and a real server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import model_signing
import pytest

from app.provenance.bundle import SIGNATURE, NotGenuine, sign_files, verify_bundle
from app.provenance.folder import verify_folder
from app.provenance.keys import SigningKey
from tests.worlds.api import Tenant

WEIGHTS = "model/model.safetensors"


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def key_file(key: SigningKey, tmp_path: Path) -> Path:
    path = tmp_path / "lustral.pub"
    path.write_bytes(key.public.pem)
    return path


@pytest.fixture
def download(key: SigningKey, tmp_path: Path) -> Path:
    """What `lustral defend --output` leaves."""
    return make_download(tmp_path / "purified", key)


def make_download(folder: Path, key: SigningKey) -> Path:
    contents = {
        WEIGHTS: bytes(range(256)) * 64,
        "model/config.json": b"{}",
        "report.html": "ä".encode(),
        "saliency/000.png": b"",
        "manifest.json": json.dumps({"object": "manifest", "about": {"job_id": "job_1"}}).encode(),
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    signature = sign_files(key, "job_1", {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()})
    (folder / SIGNATURE).write_bytes(signature)
    return folder


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def lustral_verify(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


class TestFolder:
    def test_is_genuine_as_handed_out(self, download: Path, key: SigningKey) -> None:
        verified = verify_folder(download, key.public)
        assert (verified.job_id, verified.files) == ("job_1", 5)

    @pytest.mark.parametrize("name", [WEIGHTS, "manifest.json", "report.html"])
    def test_one_byte_changed(self, download: Path, key: SigningKey, name: str) -> None:
        flip(download / name, 0)
        with pytest.raises(NotGenuine, match=f"^{name} was changed: its SHA-256 is [0-9a-f]{{64}}, and [0-9a-f]{{64}} was signed"):
            verify_folder(download, key.public)

    def test_one_byte_added(self, download: Path, key: SigningKey) -> None:
        (download / "saliency/000.png").write_bytes(b"\0")
        with pytest.raises(NotGenuine, match=r"saliency/000\.png was changed"):
            verify_folder(download, key.public)

    @pytest.mark.parametrize("name", [WEIGHTS, "manifest.json"])
    def test_a_missing_file(self, download: Path, key: SigningKey, name: str) -> None:
        (download / name).unlink()
        with pytest.raises(NotGenuine, match=f"{name} was signed and is missing"):
            verify_folder(download, key.public)

    @pytest.mark.parametrize("name", ["model/extra.safetensors", ".hidden", "model/model.sig"])
    def test_an_extra_file(self, download: Path, key: SigningKey, name: str) -> None:
        (download / name).write_bytes(b"x")
        with pytest.raises(NotGenuine, match=f"{name} is there and was not signed"):
            verify_folder(download, key.public)

    def test_a_link_in_place_of_a_file(self, download: Path, key: SigningKey, tmp_path: Path) -> None:
        (download / WEIGHTS).rename(tmp_path / "weights")
        (download / WEIGHTS).symlink_to(tmp_path / "weights")
        with pytest.raises(NotGenuine, match=f"{WEIGHTS} is not a plain file"):
            verify_folder(download, key.public)

    def test_the_first_thing_wrong_is_named_the_manifest_before_other_files(self, download: Path, key: SigningKey) -> None:
        (download / "another").touch()
        flip(download / WEIGHTS, 9)
        flip(download / "manifest.json", 9)
        with pytest.raises(NotGenuine, match=r"manifest\.json was changed"):
            verify_folder(download, key.public)

    def test_a_missing_signature(self, download: Path, key: SigningKey) -> None:
        (download / SIGNATURE).unlink()
        with pytest.raises(NotGenuine, match=r"model\.sig is missing"):
            verify_folder(download, key.public)

    def test_a_signature_by_somebody_else(self, download: Path) -> None:
        with pytest.raises(NotGenuine, match=r"model\.sig was made with another key"):
            verify_folder(download, SigningKey.generate().public)


class TestSignature:
    def test_no_byte_of_it_can_be_changed(self, download: Path, key: SigningKey) -> None:
        content = (download / SIGNATURE).read_bytes()
        assert verify_bundle(content, key.public)
        for position in range(len(content)):
            changed = bytearray(content)
            changed[position] ^= 1
            with pytest.raises(NotGenuine):
                verify_bundle(bytes(changed), key.public)

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[" * 100_000], ids=["empty", "no fields", "no text", "nested too deep"])
    def test_that_is_none_is_damaged(self, key: SigningKey, content: bytes) -> None:
        with pytest.raises(NotGenuine, match="damaged"):
            verify_bundle(content, key.public)

    def test_of_another_set_of_files_proves_nothing(self, download: Path, key: SigningKey) -> None:
        (download / SIGNATURE).write_bytes(sign_files(key, "job_2", {"manifest.json": "0" * 64}))
        with pytest.raises(NotGenuine, match=r"manifest\.json was changed"):
            verify_folder(download, key.public)


class TestModelSigning:
    """The OpenSSF's own tool agrees with ours."""

    def check(self, download: Path, key_file: Path) -> None:
        verifier = model_signing.verifying.Config()  # type: ignore[no-untyped-call]
        verifier.use_elliptic_key_verifier(public_key=key_file).verify(download, download / SIGNATURE)

    def test_verifies_what_we_sign(self, download: Path, key_file: Path) -> None:
        self.check(download, key_file)

    def test_finds_the_same_faults(self, download: Path, key_file: Path) -> None:
        flip(download / WEIGHTS, 3)
        with pytest.raises(ValueError, match=f"Hash mismatch for '{WEIGHTS}'"):
            self.check(download, key_file)
        flip(download / WEIGHTS, 3)
        (download / "extra").touch()
        with pytest.raises(ValueError, match="Extra files found"):
            self.check(download, key_file)


class TestCommand:
    def test_says_what_it_checked(self, download: Path, key_file: Path, key: SigningKey) -> None:
        run = lustral_verify(download, "--key", key_file)
        assert (run.returncode, run.stderr) == (0, "")
        assert "is genuine: 5 files, " in run.stdout
        assert f"of job_1, signed with {key.public.fingerprint}" in run.stdout

    def test_exits_with_1_on_a_changed_weight(self, download: Path, key_file: Path) -> None:
        flip(download / WEIGHTS, 100)
        run = lustral_verify(download, "--key", key_file)
        assert (run.returncode, run.stdout) == (1, "")
        assert f"is not genuine. {WEIGHTS} was changed" in run.stderr

    def test_tells_machines_as_well(self, download: Path, key_file: Path, key: SigningKey) -> None:
        run = lustral_verify(download, "--key", key_file, "--json")
        told = json.loads(run.stdout)
        assert (told["genuine"], told["files"], told["job_id"], told["key"]) == (True, 5, "job_1", key.public.fingerprint)
        flip(download / WEIGHTS, 100)
        run = lustral_verify(download, "--key", key_file, "--json")
        told = json.loads(run.stdout)
        assert (run.returncode, told["genuine"], told["detail"].startswith(f"{WEIGHTS} was changed")) == (1, False, True)

    def test_exits_with_2_where_nothing_can_be_checked(self, download: Path, key_file: Path, tmp_path: Path) -> None:
        for arguments, words in (
            ((tmp_path / "nowhere", "--key", key_file), "is not a folder"),
            ((download, "--key", tmp_path / "no.pub"), "No such file"),
            ((download, "--key", download / "report.html"), "holds no public key"),
            ((download,), "No key to check with"),
        ):
            run = lustral_verify(*arguments, LUSTRAL_DATA_DIR=str(tmp_path / "data"))
            assert run.returncode == 2, run.stderr
            assert words in run.stderr
            assert "Traceback" not in run.stderr

    def test_asks_the_server_for_its_key(self, tenant: Tenant, tmp_path: Path) -> None:
        folder = make_download(tmp_path / "purified", tenant.server.runtime.signing_key)
        run = lustral_verify(folder, LUSTRAL_SERVER=tenant.server.url, LUSTRAL_API_KEY=tenant.key)
        assert run.returncode == 0, run.stderr

    def test_takes_the_key_of_this_machine_s_service(self, tmp_path: Path) -> None:
        data = tmp_path / "data"
        data.mkdir()
        key = SigningKey.generate()
        (data / "signing-key.pem").write_bytes(key.pem)
        run = lustral_verify(make_download(tmp_path / "purified", key), LUSTRAL_DATA_DIR=str(data))
        assert run.returncode == 0, run.stderr
