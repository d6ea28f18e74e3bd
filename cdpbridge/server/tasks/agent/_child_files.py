"""The files that were given with a task, under the names they were uploaded with. Loaded by the agent's own process, see `_child`.

browser-use knows such files by their absolute paths on this machine alone, and reads few kinds of them.
"""

from __future__ import annotations

import asyncio
import base64
import io
import re
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from browser_use.agent.views import ActionResult
from PIL import Image

__all__ = ["Files"]

PART_CHARACTERS: Final = 50_000
"""Characters of a text that are shown at once: browser-use shows 60,000 characters of what an action has read."""

_FIRST_IMAGES: Final = 10
_FIRST_IMAGE_BYTES: Final = 8 * 1024 * 1024
"""All images of the first question together, before base64."""

_IMAGE_BYTES: Final = 1024 * 1024
_IMAGE_SIDE: Final = 2048
_READ_SECONDS: Final = 60.0
_GIVEN: Final = "uploads/"
_PART: Final = re.compile(r"(?P<name>.+)#(?P<part>[1-9]\d{0,5})")
_WRITES: Final = frozenset({"write_file", "replace_file"})


class Files:
    """The files that were given, and the agent's access to them.

    Args:
        given: On this machine; names are unique, since they are in one folder.
        documents: The module `_child_documents`.
    """

    def __init__(self, given: Sequence[Path], documents: Any) -> None:
        self._given = {_normal(path.name): path for path in given}
        self._paths = {str(path): path for path in given}
        self._documents = documents
        self._shown: list[str] = []
        self._downloads: Sequence[str] = ()

    async def first_images(self) -> list[dict[str, str]]:
        """Images of the first question, as browser-use takes them; what is too much is left to `read_file`."""
        images: list[dict[str, str]] = []
        left = _FIRST_IMAGE_BYTES
        for name, path in self._given.items():
            if len(images) == _FIRST_IMAGES or not self._documents.is_image(path):
                continue
            data = await asyncio.to_thread(_image, path)
            if data is not None and len(data) <= left:
                left -= len(data)
                images.append({"name": name, "data": base64.b64encode(data).decode()})
                self._shown.append(name)
        return images

    def words(self) -> str:
        """Return the text for the system prompt; empty when nothing was given."""
        if not self._given:
            return ""
        lines = [
            f"- {name} ({self._documents.kind(path)}, {path.stat().st_size} bytes"
            f"{', shown with the first question' if name in self._shown else ''})"
            for name, path in self._given.items()
        ]
        return (
            "Files that the user has given with the task. read_file and upload_file take them by these names:\n"
            + "\n".join(lines)
            + "\nThey are never changed. When you write a file with the name of one of them, that name means your own file from "
            f"then on, and the given one is {_GIVEN}NAME. Appending and replacing begin with what the given one holds."
        )

    async def act(
        self,
        action: str,
        params: dict[str, Any],
        files: Any,
        go_on: Callable[..., Awaitable[Any]],
    ) -> Any:
        """Do an action of files, or leave it to browser-use.

        Args:
            files: browser-use's own files, those that the agent has written.
            go_on: Lets browser-use do it, with these parameters, and with options of its own replaced by name.
        """
        if action == "read_file":
            name, part = str(params.get("file_name") or ""), 1
            path = self._find(name, files)
            if path is None and (match := _PART.fullmatch(name)):
                name, part = match["name"], int(match["part"])
                path = self._find(name, files)
            if path is not None:
                return await self._read(path, part, files)
        elif action == "upload_file":
            name = str(params.get("path") or "")
            path = self._find(name, files) or self._written(name, files)
            if path is None and name not in self._downloads:
                return ActionResult(
                    error=f"There is no file {name[:80]!r} to upload: take one that was given, that you have written or downloaded."
                )
            found = str(path or name)
            return await go_on(params | {"path": found}, available_file_paths=[found])
        elif action in _WRITES:
            return await self._write(action, params, files, go_on)
        return await go_on(params)

    def downloaded(self, paths: Sequence[str]) -> None:
        """Note what the browser has downloaded for the agent."""
        self._downloads = paths

    def _find(self, name: str, files: Any) -> Path | None:
        """Return the given file that the model means; its own ones go first."""
        if name in self._paths:
            return self._paths[name]
        if name.startswith(_GIVEN):
            return self._given.get(_normal(name.removeprefix(_GIVEN)))
        return None if files.get_file(name) is not None else self._given.get(_normal(name))

    def _written(self, name: str, files: Any) -> Path | None:
        found = files.get_file(name) if "/" not in name else None
        return None if found is None else Path(files.get_dir()) / found.full_name

    async def _read(self, path: Path, part: int, files: Any) -> Any:
        name = path.name
        if self._documents.is_image(path):
            data = await asyncio.to_thread(_image, path)
            if data is None:
                return ActionResult(
                    error=f"{name[:80]} cannot be shown: it is damaged, or too large a picture."
                )
            return ActionResult(
                extracted_content=f"Read image file {name}.",
                long_term_memory=f"Read image file {name}",
                images=[{"name": name, "data": base64.b64encode(data).decode()}],
                include_extracted_content_only_once=True,
            )
        try:
            async with asyncio.timeout(_READ_SECONDS):
                text = await asyncio.to_thread(self._documents.text, path)
        except TimeoutError:
            return ActionResult(error=f"{name[:80]} takes too long to read.")
        except self._documents.Unreadable as error:
            return ActionResult(
                error=f"{name[:60]} cannot be read: {error}. upload_file can give it to a page."
            )
        parts = max(1, -(-len(text) // PART_CHARACTERS))
        if part > parts:
            return ActionResult(error=f"{name[:80]} has {parts} parts.")
        content = text[(part - 1) * PART_CHARACTERS : part * PART_CHARACTERS]
        note = "" if parts == 1 else f" (part {part} of {parts}; the next is {name}#{part + 1})"
        if parts > 1 and part == parts:
            note = f" (part {part} of {parts}, the last)"
        memory = f"Read from file {name}{note}."
        return ActionResult(
            extracted_content=f"{memory}\n<content>\n{content}\n</content>",
            long_term_memory=memory if len(content) > 1000 else f"{memory}\n{content}",
            include_extracted_content_only_once=True,
        )

    async def _write(
        self,
        action: str,
        params: dict[str, Any],
        files: Any,
        go_on: Callable[..., Awaitable[Any]],
    ) -> Any:
        name = str(params.get("file_name") or "")
        if name in self._paths or name.startswith(_GIVEN):
            return ActionResult(
                error=f"{name[:80]} was given and is never changed; write to a name of your own."
            )
        given = self._given.get(_normal(name))
        clash = given is not None and files.get_file(name) is None
        if clash and given is not None and (action == "replace_file" or params.get("append")):
            try:
                text = await asyncio.to_thread(self._documents.text, given)
            except self._documents.Unreadable as error:
                return ActionResult(
                    error=f"{name[:60]} cannot be changed: {error}; write a file of another name."
                )
            await files.write_file(name, text)
        result = await go_on(params)
        if clash and result is not None and not result.error and files.get_file(name) is not None:
            note = f" {name} is your own file now; the one that was given is {_GIVEN}{name}."
            for field in ("extracted_content", "long_term_memory"):
                if getattr(result, field):
                    setattr(result, field, getattr(result, field) + note)
        return result


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _image(path: Path) -> bytes | None:
    """Return a picture as models take it: no larger than needed, and of the type that browser-use takes it for by its name."""
    wanted = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    try:
        with Image.open(path) as picture:
            size = path.stat().st_size
            if picture.format == wanted and size <= _IMAGE_BYTES and max(picture.size) <= _IMAGE_SIDE:
                picture.verify()
                return path.read_bytes()
            picture.thumbnail((_IMAGE_SIDE, _IMAGE_SIDE))
            return _encoded(_on_white(picture.convert("RGBA")) if wanted == "JPEG" else picture, wanted)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _on_white(picture: Any) -> Any:
    ground = Image.new("RGB", picture.size, "white")
    ground.paste(picture, mask=picture.getchannel("A"))
    return ground


def _encoded(picture: Any, wanted: str) -> bytes:
    while True:
        out = io.BytesIO()
        picture.save(out, wanted, **({"quality": 85} if wanted == "JPEG" else {"optimize": True}))
        if out.tell() <= _IMAGE_BYTES or max(picture.size) <= 256:
            return out.getvalue()
        picture.thumbnail((picture.width * 3 // 4, picture.height * 3 // 4))
