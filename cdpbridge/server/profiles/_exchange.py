"""Versions of profiles on their way to and from the machines that run browsers: each as the archive that object storage has, too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO
from uuid import UUID, uuid4

from ._archives import folder_name, is_archive, new_name, writer_of
from ._store import ProfileStore
from ._versions import ProfileRefused, ProfileVersion, SavedProfile

__all__ = ["receive_version", "send_version"]


def send_version(
    profiles: ProfileStore, profile_id: UUID, version: ProfileVersion, sink: IO[bytes]
) -> ProfileVersion | None:
    """Write the archive of a version, and return how another machine calls it; None when there is no version.

    A version without an archive of its own gets a name that is used once, so that no machine takes an older one for it.

    Raises:
        ProfileNotRestored: It is in object storage, and cannot be fetched.
        OSError: From the disk.
    """
    if version.archive is not None:
        profiles.read_archive(profile_id, version, sink)
        return version
    if not profiles.pack_newest(profile_id, version, sink):
        return None
    return ProfileVersion(version.number, new_name(profile_id, version.number, uuid4()))


def receive_version(
    profiles: ProfileStore,
    profile_id: UUID,
    source: Path,
    *,
    archive: str,
    base: ProfileVersion,
    named_after: ProfileVersion,
    writer: UUID,
    cookie_domains: Sequence[str],
) -> SavedProfile:
    """Take a version that another machine has packed, all of it or nothing.

    Args:
        profiles: Of this server.
        profile_id: Whose.
        source: The archive; not trusted.
        archive: The name that the machine has given it.
        base: The version that the browser began with.
        named_after: The same, as the machine knows it.
        writer: The browser.
        cookie_domains: Hosts of its cookies, as the machine says.

    Raises:
        ProfileRefused: It is not what a machine may save.
        ObjectStorageError: It cannot be uploaded.
        OSError: From the disk.
    """
    if (
        not is_archive(archive, profile_id)
        or writer_of(archive) != writer
        or int(folder_name(archive).partition("-")[0]) != named_after.number + 1
    ):
        raise ProfileRefused(
            f"profile {profile_id} is not saved: its archive has the name of another version"
        )
    if profiles.in_object_storage:
        profiles.put_archive(profile_id, archive, source)
        return SavedProfile(base.number + 1, sorted(cookie_domains), archive)
    return profiles.unpack_newest(profile_id, source, base)
