"""What a page's window and its browser context have: the viewport, cookies, and a portable state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cdpbridge.errors import CommandError, ConfigurationError
from cdpbridge.protocol import Emulation, Network, Page, Target

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["set_cookies", "set_viewport", "storage_state"]

_LARGEST: Final = 10_000_000  # Chromium's limit of `Emulation.setDeviceMetricsOverride`
# Playwright's names, and those of `Network.CookieParam`.
_COOKIE_NAMES: Final = {
    "name": "name",
    "value": "value",
    "url": "url",
    "domain": "domain",
    "path": "path",
    "expires": "expires",
    "httpOnly": "http_only",
    "http_only": "http_only",
    "secure": "secure",
    "sameSite": "same_site",
    "same_site": "same_site",
    "partitionKey": "partition_key",
    "partition_key": "partition_key",
}
_IGNORED: Final = frozenset({"_crHasCrossSiteAncestor"})
_SAME_SITE: Final = {"strict": "Strict", "lax": "Lax", "none": "None"}


async def set_viewport(
    session: CDPSession, width: int, height: int, *, device_scale_factor: float, mobile: bool
) -> None:
    """See `Tab.set_viewport`."""
    for name, value in (("width", width), ("height", height)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:  # type: ignore[redundant-expr]
            raise ConfigurationError(f"{name} must be a whole number of pixels, 1 or more, not {value!r}")
    if not device_scale_factor > 0:
        raise ConfigurationError(f"device_scale_factor must be positive, not {device_scale_factor!r}")
    await session.send(
        Emulation.set_device_metrics_override(
            width=width, height=height, device_scale_factor=device_scale_factor, mobile=mobile
        )
    )


async def set_cookies(session: CDPSession, cookies: Iterable[Mapping[str, Any] | Network.Cookie]) -> None:
    """See `Tab.set_cookies`."""
    given = list(cookies)
    params = [_param(each) for each in given]
    if any(each.url is None and each.domain is None for each in params):
        url = (await session.send(Page.get_frame_tree())).frame_tree.frame.url
        for each in params:
            if each.domain is None and each.url is None:
                if urlsplit(url).scheme not in {"http", "https"}:
                    raise ConfigurationError(
                        f"the cookie {each.name!r} has neither url nor domain, and the page is at no site: give one of them"
                    )
                each.url = url
    if not params:
        return
    try:
        await session.send(Network.set_cookies(params))
    except CommandError:  # all or none; say which
        refused = [each.name for each in params if not await _is_taken(session, each)]
        raise ConfigurationError(
            f"the browser refuses the cookies {', '.join(map(repr, refused))}: their domain, path, prefix or secure does not fit"
        ) from None


async def _is_taken(session: CDPSession, param: Network.CookieParam) -> bool:
    try:
        await session.send(Network.set_cookies([param]))
    except CommandError:
        return False
    return True


def _param(cookie: Mapping[str, Any] | Network.Cookie) -> Network.CookieParam:
    if isinstance(cookie, Network.Cookie):
        return Network.CookieParam(
            name=cookie.name,
            value=cookie.value,
            domain=cookie.domain,
            path=cookie.path,
            secure=cookie.secure,
            http_only=cookie.http_only,
            same_site=cookie.same_site,
            expires=None if cookie.session else cookie.expires,
            partition_key=cookie.partition_key,
        )
    if not isinstance(cookie, Mapping):
        raise ConfigurationError(
            "a cookie is a dict like {'name': 'a', 'value': '1', 'domain': 'example.com'}"
        )
    fields: dict[str, Any] = {}
    for name, value in cookie.items():
        if name in _IGNORED:
            continue
        if name not in _COOKIE_NAMES:
            raise ConfigurationError(
                f"a cookie has no field {name!r}; it has {', '.join(each for each in _COOKIE_NAMES if '_' not in each)}"
            )
        fields[_COOKIE_NAMES[name]] = value
    if not isinstance(fields.get("name"), str) or not isinstance(fields.get("value"), str):
        raise ConfigurationError(f"a cookie needs name and value, both texts; this one has {sorted(cookie)}")
    if fields.get("expires") in {-1, None}:  # a session cookie, as Playwright writes it
        fields.pop("expires", None)
    if (site := fields.get("same_site")) is not None:
        if str(site).lower() not in _SAME_SITE:
            raise ConfigurationError(
                f"the cookie {fields['name']!r}: sameSite must be Strict, Lax or None, not {site!r}"
            )
        fields["same_site"] = _SAME_SITE[str(site).lower()]
    if isinstance(key := fields.get("partition_key"), str):
        fields["partition_key"] = Network.CookiePartitionKey(
            top_level_site=key, has_cross_site_ancestor=bool(cookie.get("_crHasCrossSiteAncestor"))
        )
    if fields.get("url") is None and fields.get("domain") is not None:
        fields.setdefault("path", "/")
    return Network.CookieParam(**fields)


async def storage_state(session: CDPSession, origins: Iterable[str]) -> dict[str, Any]:
    """See `Tab.storage_state`."""
    from cdpbridge.profile_sync._state import state_of  # noqa: PLC0415  # it opens tabs itself

    info = (await session.send(Target.get_target_info())).target_info
    tree = (await session.send(Page.get_frame_tree())).frame_tree
    here = [each for each in _origins(tree) if urlsplit(each).scheme in {"http", "https"}]
    return await state_of(session.connection, [*here, *origins], context_id=info.browser_context_id)


def _origins(tree: Page.FrameTree) -> Iterable[str]:
    yield tree.frame.security_origin
    for child in tree.child_frames or ():
        yield from _origins(child)
