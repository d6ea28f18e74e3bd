"""Profiles: the record of saved state; the state itself is in the profile store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Select, func, select, update

from ._database import Database, changed
from ._models import Profile
from ._refusals import TooManyProfiles

__all__ = ["Profiles"]


class Profiles(Database):
    """Queries and transactions of profiles."""

    async def create_profile(
        self,
        project_id: UUID,
        name: str | None,
        *,
        limit: int | None,
        now: datetime,
        allowed_hosts: Sequence[str] | None = None,
        denied_hosts: Sequence[str] | None = None,
    ) -> Profile:
        """Insert a profile.

        Raises:
            TooManyProfiles: The project has `limit` profiles already.
        """
        async with self._write() as session:
            await self._lock(session, project_id)
            if limit is not None:
                rows = select(func.count()).select_from(Profile).where(Profile.project_id == project_id)
                if (await session.scalar(rows) or 0) >= limit:
                    raise TooManyProfiles(limit)
            profile = Profile(
                id=uuid4(),
                project_id=project_id,
                name=name,
                created_at=now,
                updated_at=now,
                allowed_hosts=None if allowed_hosts is None else list(allowed_hosts),
                denied_hosts=None if denied_hosts is None else list(denied_hosts),
            )
            session.add(profile)
        return profile

    async def profile(self, project_id: UUID, profile_id: UUID) -> Profile | None:
        async with self._read() as session:
            profile: Profile | None = await session.scalar(_profile(project_id, profile_id))
            return profile

    async def profiles(
        self, project_id: UUID, *, offset: int, limit: int, query: str | None = None
    ) -> tuple[Sequence[Profile], int]:
        """Return one page, newest first, and how many there are.

        Args:
            query: Only those with this in their name, in whatever case.
        """
        rows = select(Profile).where(Profile.project_id == project_id)
        if query:
            rows = rows.where(Profile.name.icontains(query, autoescape=True))
        return await self._page(rows, (Profile.created_at.desc(), Profile.id), offset, limit)

    async def update_profile(
        self, project_id: UUID, profile_id: UUID, changes: Mapping[str, Any], *, now: datetime
    ) -> Profile | None:
        """Change a profile, by the names of its columns; None if there is none."""
        async with self._write() as session:
            profile: Profile | None = await session.scalar(_profile(project_id, profile_id))
            if profile is not None:
                for name, value in changes.items():
                    setattr(profile, name, value)
                profile.updated_at = now
        return profile

    async def delete_profile(self, project_id: UUID, profile_id: UUID) -> bool:
        """Delete a profile; True if there was one."""
        async with self._write() as session:
            profile = await session.scalar(_profile(project_id, profile_id))
            if profile is not None:
                await session.delete(profile)
        return profile is not None

    async def profile_exists(self, profile_id: UUID) -> bool:
        async with self._read() as session:
            return await session.get(Profile, profile_id) is not None

    async def profile_version(self, profile_id: UUID) -> tuple[int, str | None]:
        """Return the number of the version that counts, and the name of its archive; `(0, None)` when there is none."""
        async with self._read() as session:
            rows = select(Profile.version, Profile.archive).where(Profile.id == profile_id)
            found = (await session.execute(rows)).one_or_none()
            return (0, None) if found is None else (found.version, found.archive)

    async def profile_saved(
        self,
        profile_id: UUID,
        writer: UUID,
        *,
        base: int,
        version: int,
        archive: str | None,
        cookie_domains: list[str],
        now: datetime,
    ) -> bool:
        """Make a version the one that counts, but only after the version that its browser began with. May be repeated.

        Args:
            profile_id: Whose.
            writer: The browser that has saved it.
            base: The number of the version that it began with.
            version: The number of the new one.
            archive: Its name in object storage; None when it is in the server's folder.
            cookie_domains: Hosts of its cookies.
            now: Of the change.

        Returns:
            False when the profile was deleted meanwhile, when another browser may save it now, or when another version counts.
        """
        values = {
            "version": version,
            "archive": archive,
            "cookie_domains": cookie_domains,
            "updated_at": now,
        }
        # When it is repeated, it has happened already.
        same = (Profile.version == version) & Profile.archive.is_not_distinct_from(archive)
        where = (
            Profile.id == profile_id,
            (Profile.version == base) | same,
            # Null: the browser was started by a server that did not note it.
            (Profile.writer == writer) | Profile.writer.is_(None),
        )
        async with self._write() as session:
            return await changed(session, update(Profile).where(*where).values(values))

    async def profile_archives(self) -> set[str]:
        """Return the name of every archive that counts."""
        async with self._read() as session:
            rows = select(Profile.archive).where(Profile.archive.is_not(None))
            return {name for name in (await session.scalars(rows)).all() if name is not None}


def _profile(project_id: UUID, profile_id: UUID) -> Select[Any]:
    return select(Profile).where(Profile.id == profile_id, Profile.project_id == project_id)
