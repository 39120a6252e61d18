"""Where a model or data set comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from app.schemas import Input
from app.sources.paths import check_relative_path


class SourceFile(Input):
    path: Annotated[str, Field(max_length=1024), AfterValidator(check_relative_path)] | None = Field(
        None, description="Where the file lies in the folder; null: the upload's own filename. A `.zip` is unpacked."
    )
    upload_id: str = Field(max_length=100, examples=["upl_019ab3…"])


class UploadSource(Input):
    """Completed uploads: every file of the folder, or one zip of it."""

    type: Literal["upload"]
    files: list[SourceFile] = Field(min_length=1, max_length=100_000)


class S3Source(Input):
    type: Literal["s3"]
    uri: str = Field(max_length=2048, pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?$", examples=["s3://bucket/folder/"])


class HuggingFaceSource(Input):
    type: Literal["huggingface"]
    repo_id: str = Field(max_length=200, pattern=r"^[\w.-]+/[\w.-]+$", examples=["GSAI-ML/LLaDA-V"])
    revision: str = Field("main", min_length=1, max_length=200)


class ArtifactSource(Input):
    """What a job left behind: a zip, or a file of a folder such as `model/`, which is then taken whole."""

    type: Literal["artifact"]
    artifact_id: str = Field(max_length=100, examples=["art_019ab3…"])


Source = Annotated[UploadSource | S3Source | HuggingFaceSource | ArtifactSource, Field(discriminator="type")]
