"""Calls of `/files`: where files may be uploaded and downloaded."""

from __future__ import annotations

from uuid import UUID

from cdpbridge.api._task_models import PresignedUpload, TaskOutputFile

from ._base import Call, id_text

__all__ = ["create_browser_upload", "create_session_upload", "get_output_file"]


def create_session_upload(
    session_id: UUID | str, *, file_name: str, content_type: str, size_bytes: int
) -> Call[PresignedUpload]:
    """Build `POST /files/sessions/{id}/presigned-url`."""
    return _upload("sessions", session_id, file_name, content_type, size_bytes)


def create_browser_upload(
    browser_id: UUID | str, *, file_name: str, content_type: str, size_bytes: int
) -> Call[PresignedUpload]:
    """Build `POST /files/browsers/{id}/presigned-url`."""
    return _upload("browsers", browser_id, file_name, content_type, size_bytes)


def _upload(
    group: str, owner: UUID | str, file_name: str, content_type: str, size_bytes: int
) -> Call[PresignedUpload]:
    """Build the request for a signed form. Repeatable: a form that is not used has no effect."""
    body = {"fileName": file_name, "contentType": content_type, "sizeBytes": size_bytes}
    return Call("POST", f"/files/{group}/{id_text(owner)}/presigned-url", PresignedUpload, body=body)


def get_output_file(task_id: UUID | str, file_id: UUID | str) -> Call[TaskOutputFile]:
    """Build `GET /files/tasks/{id}/output-files/{id}`."""
    path = f"/files/tasks/{id_text(task_id)}/output-files/{id_text(file_id)}"
    return Call("GET", path, TaskOutputFile)
