"""Messages from and to viewers. Text frames are JSON both ways; a binary frame is a picture.

A picture is 12 bytes, big-endian, and a JPEG: its number (uint32), and width and height of the page's window in CSS pixels
(float32 each), which is the space that positions of the mouse are in.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

__all__ = [
    "Ack",
    "Compose",
    "Copy",
    "Dialog",
    "Drive",
    "Fetch",
    "Files",
    "Go",
    "Hello",
    "Key",
    "Message",
    "Mouse",
    "Paste",
    "Reload",
    "Tab",
    "Text",
    "Touch",
    "View",
    "Wheel",
    "picture_head",
    "read_message",
]

MAX_FILES_BYTES: Final = 10 * 1024 * 1024
"""Files that a viewer gives to a page, together; they travel in one message."""
MAX_TEXT: Final = 1_000_000
"""Characters of a paste."""

_head: Final = struct.Struct("!Iff")

Coordinate = Annotated[float, Field(ge=-100_000, le=100_000, allow_inf_nan=False)]
Modifiers = Annotated[int, Field(ge=0, le=15)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Hello(_Message):
    """The first message: the credential, which therefore is in no address, and in no log."""

    type: Literal["hello"]
    token: str = Field(max_length=500, repr=False)
    share: bool = False


class Ack(_Message):
    """A picture is on the screen."""

    type: Literal["ack"]
    number: int


class View(_Message):
    """Look at this tab, or at the active one, whichever that is."""

    type: Literal["view"]
    tab: str | None = Field(max_length=100)


class Drive(_Message):
    """Take over, or give back."""

    type: Literal["drive"]
    on: bool


class Mouse(_Message):
    """As `Input.dispatchMouseEvent`."""

    type: Literal["mouse"]
    kind: Literal["move", "down", "up"]
    x: Coordinate
    y: Coordinate
    button: Literal["none", "left", "middle", "right", "back", "forward"] = "none"
    buttons: int = Field(default=0, ge=0, le=31)
    clicks: int = Field(default=0, ge=0, le=100)
    modifiers: Modifiers = 0


class Wheel(_Message):
    """Pixels to scroll, positive for down and right."""

    type: Literal["wheel"]
    x: Coordinate
    y: Coordinate
    dx: Coordinate
    dy: Coordinate
    modifiers: Modifiers = 0


class Point(_Message):
    """A finger."""

    id: int = Field(ge=0, le=1_000_000)
    x: Coordinate
    y: Coordinate


class Touch(_Message):
    """Fingers that are on the picture; none at the end."""

    type: Literal["touch"]
    kind: Literal["start", "move", "end", "cancel"]
    points: list[Point] = Field(max_length=16)
    modifiers: Modifiers = 0


class Key(_Message):
    """A key as `KeyboardEvent` has it; `text` is what it writes, empty for a key that writes nothing."""

    type: Literal["key"]
    kind: Literal["down", "up"]
    key: str = Field(max_length=50)
    code: str = Field(max_length=50)
    key_code: int = Field(alias="keyCode", ge=0, le=65535)
    text: str = Field(default="", max_length=50)
    location: int = Field(default=0, ge=0, le=3)
    repeat: bool = False
    modifiers: Modifiers = 0


class Text(_Message):
    """Finished text, from a dead key, an input method, or a phone's keyboard."""

    type: Literal["text"]
    text: str = Field(max_length=MAX_TEXT)


class Compose(_Message):
    """Text in an input method that is not finished; `start` and `end` are its selection."""

    type: Literal["compose"]
    text: str = Field(max_length=10_000)
    start: int = Field(ge=0)
    end: int = Field(ge=0)


class Paste(_Message):
    """Text of the viewer's clipboard."""

    type: Literal["paste"]
    text: str = Field(max_length=MAX_TEXT, repr=False)


class Copy(_Message):
    """Give me what is selected; the answer is a `clipboard` message."""

    type: Literal["copy"]


class Go(_Message):
    """Navigate: to an address, or by steps of the history."""

    type: Literal["go"]
    url: str | None = Field(default=None, max_length=100_000)
    steps: Literal[-1, 1] | None = None


class Reload(_Message):
    """Load the page anew, also after a crash."""

    type: Literal["reload"]


class Tab(_Message):
    """Open a tab (`id` None) or close one."""

    type: Literal["tab"]
    id: str | None = Field(default=None, max_length=100)


class Dialog(_Message):
    """The answer to an alert, confirm, prompt or beforeunload."""

    type: Literal["dialog"]
    accept: bool
    text: str = Field(default="", max_length=100_000)


class File(_Message):
    """A file for a file chooser; `data` is base64."""

    name: str = Field(min_length=1, max_length=255)
    kind: str = Field(default="", max_length=200)
    data: str = Field(max_length=MAX_FILES_BYTES * 4 // 3 + 4, repr=False)


class Files(_Message):
    """The choice in a file chooser; none cancels."""

    type: Literal["files"]
    files: list[File] = Field(max_length=50)


class Fetch(_Message):
    """Give me a file that the browser has saved; the answer is a `file` message with its address."""

    type: Literal["fetch"]
    name: str = Field(min_length=1, max_length=255)


Message = Annotated[
    Hello
    | Ack
    | View
    | Drive
    | Mouse
    | Wheel
    | Touch
    | Key
    | Text
    | Compose
    | Paste
    | Copy
    | Go
    | Reload
    | Tab
    | Dialog
    | Files
    | Fetch,
    Field(discriminator="type"),
]

_adapter: Final[TypeAdapter[Any]] = TypeAdapter(Message)


def read_message(text: str) -> Message | str:
    """Return a viewer's message, or in a few words why it is none."""
    try:
        message: Message = _adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'message'}: {first['msg']}"
    return message


def picture_head(number: int, width: float, height: float) -> bytes:
    """Return the bytes in front of the JPEG."""
    return _head.pack(number & 0xFFFFFFFF, width, height)
