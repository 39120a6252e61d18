"""`/v1/signing-key`"""

from __future__ import annotations

from fastapi import APIRouter

from app.auth.dependencies import Reader
from app.provenance.schemas import SigningKeyResource
from app.runtime import RuntimeDep

router = APIRouter(tags=["artifacts"])


@router.get("/v1/signing-key")
async def get_signing_key(_caller: Reader, runtime: RuntimeDep) -> SigningKeyResource:
    """The public key that the `model.sig` of every job is verified with. Keep it: after a change of key, what was signed before
    needs the older one."""
    return SigningKeyResource.of(runtime.signing_key.public)
