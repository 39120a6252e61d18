"""One signature for each model family, by the `model_type` of its `config.json`."""

from gpu_jobs.inspection.signatures.base import Signature
from gpu_jobs.inspection.signatures.llada_v import LladaVSignature

SIGNATURES: dict[str, Signature] = {signature.model_type: signature for signature in (LladaVSignature(),)}
