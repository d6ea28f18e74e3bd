"""Orders: what a request for a browser or a session asks of the rentals."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import UUID

from fastapi import HTTPException
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from cdpbridge.api._models import CreateBrowserSessionRequest, CustomProxy
from cdpbridge.errors import ConfigurationError
from cdpbridge.server.proxy import HostLists, Rules, Upstream
from cdpbridge.server.rentals import Order
from cdpbridge.server.settings import DIRECT, SIMULATE, Plan, Settings, country_code, max_timeout_minutes

from ._fields import Unused
from ._problems import not_found, unprocessable
from ._services import Services, check_profiles_kept

if TYPE_CHECKING:
    from cdpbridge.api._task_models import CreateSessionRequest
    from cdpbridge.server.accounts import Program

__all__ = ["body_hash", "browser_order", "hosts_of", "session_order"]

_FREE_LIMIT_TEXT: Final = (
    "Session timeout limit exceeded for free users: at most {limit} minutes, not {asked}."
)
# As the cloud words it.
_LIMIT_TEXT: Final = "Maximum session timeout is {hours} hours ({limit} minutes)."
# When only one side of the screen is asked for.
_SCREEN: Final = (1280, 800)


def body_hash(path: str, body: BaseModel) -> str:
    """Return what an `Idempotency-Key` stands for."""
    given = json.dumps(_given(body), sort_keys=True, default=str)
    return hashlib.sha256(f"{path}\n{given}".encode()).hexdigest()


def _given(model: BaseModel) -> dict[str, Any]:
    """Return the fields that the client has set, without those that are not the model's."""
    values = {name: getattr(model, name) for name in model.model_fields_set & type(model).model_fields.keys()}
    return {name: _given(value) if isinstance(value, BaseModel) else value for name, value in values.items()}


async def browser_order(
    services: Services,
    project_id: UUID,
    body: CreateBrowserSessionRequest,
    *,
    unused: Unused,
    key_id: UUID | None,
    program: Program | None = None,
) -> Order:
    """Return the order for a browser by itself.

    Args:
        services: The open parts of the server.
        project_id: Who orders.
        body: What is ordered.
        unused: Gets the fields that have no effect beside others.
        key_id: Of the key that it is ordered with.
        program: Whose key it is, on a server that programs share.

    Raises:
        AccountRefused: Several projects use this server, and may not.
        HTTPException: 403 above the plan's time or the project's files, 404 without such a profile, 400 when it cannot be recorded here.
        RequestValidationError: What only the server can judge.
    """
    _note_overruled(body, unused)
    timeout = _timeout(services.plan(project_id), body)
    order = await _order(services, project_id, body, timeout, program=program)
    return replace(order, ignored_fields=unused.record, key_id=key_id)


async def session_order(
    services: Services,
    project_id: UUID,
    body: CreateSessionRequest,
    *,
    unused: Unused,
    key_id: UUID | None,
    program: Program | None = None,
    within: str = "",
) -> Order:
    """Return the order for an agent session: as long as the plan allows. Arguments and errors as `browser_order`.

    Args:
        within: The field that `body` is in, if it is not the whole body.
    """
    _note_overruled(body, unused, within)
    timeout = timedelta(minutes=max_timeout_minutes(services.plan(project_id)))
    order = await _order(services, project_id, body, timeout, program=program, start_url=body.start_url)
    ignored = unused.below(within) if within else unused.record
    return replace(order, ignored_fields=ignored, key_id=key_id)


def _blocks_ads(services: Services, body: CreateBrowserSessionRequest | CreateSessionRequest) -> bool:
    """Block lists apply unless the request says no; a request that says yes to lists that are not there is refused."""
    if body.block_ads and not services.settings.block_lists:
        raise unprocessable("blockAds", "this server has no block lists; its operator sets `block_lists`")
    return body.block_ads is not False


def hosts_of(body: BaseModel) -> HostLists:
    """Return the lists of hosts of a request.

    Raises:
        RequestValidationError: A pattern is not valid.
    """
    found: dict[str, Any] = {name: getattr(body, name) for name in ("allowed_hosts", "denied_hosts")}
    for name, patterns in found.items():
        try:
            HostLists(**{name: patterns or ()})
        except ConfigurationError as error:
            raise unprocessable(to_camel(name), str(error).removeprefix(f"{name}: ")) from None
    return HostLists(found["allowed_hosts"], found["denied_hosts"] or ())


def _note_overruled(
    body: CreateBrowserSessionRequest | CreateSessionRequest, unused: Unused, *within: str
) -> None:
    """Note the country as ignored when the request names a proxy of its own."""
    if body.custom_proxy is not None and body.proxy_country_code is not None:
        unused.add(*filter(None, within), "proxyCountryCode")


async def _order(
    services: Services,
    project_id: UUID,
    body: CreateBrowserSessionRequest | CreateSessionRequest,
    timeout: timedelta,
    *,
    program: Program | None,
    start_url: str | None = None,
) -> Order:
    settings = services.settings
    await services.accounts.check_alone(services.sharing_refusal)
    country, proxy = _proxy(services, body, settings if program is None else program.settings)
    simulated = proxy == SIMULATE
    if body.profile_id is not None:
        check_profiles_kept(services)
    profile = None
    if body.profile_id is not None:
        profile = await services.store.profile(project_id, body.profile_id)
        if profile is None:
            raise not_found("Profile")
    if (why := await services.quota.refusal(project_id)) is not None:
        raise HTTPException(403, why)
    if body.enable_recording and (refusal := await services.recordings.refusal()) is not None:
        raise HTTPException(400, refusal)
    screen = None
    if body.browser_screen_width is not None or body.browser_screen_height is not None:
        screen = body.browser_screen_width or _SCREEN[0], body.browser_screen_height or _SCREEN[1]
    return Order(
        timeout=timeout,
        tariff=settings.tariff,
        top_up=settings.top_up_usd,
        limit=services.accounts.limit(project_id),
        orderer_left=bool if program is None else lambda: program.left,
        readable=None if program is None else program.readable,
        profile_id=body.profile_id,
        proxy_country=country,
        own_proxy=body.custom_proxy is not None,
        proxy=DIRECT if simulated else proxy,
        proxy_simulated=simulated,
        labels=body.metadata if isinstance(body, CreateBrowserSessionRequest) else None,
        start_url=start_url,
        screen=screen,
        ignore_certificate_errors=body.custom_proxy is not None and body.custom_proxy.ignore_cert_errors,
        recording=body.enable_recording,
        block_ads=_blocks_ads(services, body),
        hosts=hosts_of(body),
        profile_hosts=HostLists()
        if profile is None
        else HostLists(profile.allowed_hosts, profile.denied_hosts or ()),
    )


def _timeout(plan: Plan, body: CreateBrowserSessionRequest) -> timedelta:
    limit = max_timeout_minutes(plan)
    if "timeout" not in body.model_fields_set:
        return timedelta(minutes=min(body.timeout, limit))
    if body.timeout > limit:
        if plan == "free":
            raise HTTPException(403, _FREE_LIMIT_TEXT.format(limit=limit, asked=body.timeout))
        raise unprocessable("timeout", _LIMIT_TEXT.format(hours=limit // 60, limit=limit))
    return timedelta(minutes=body.timeout)


def _proxy(
    services: Services, body: CreateBrowserSessionRequest | CreateSessionRequest, settings: Settings
) -> tuple[str | None, str | None]:
    """Return the country, and the upstream that is used: the caller's own goes before the country's.

    Args:
        settings: Whose table of countries counts: the server's, or that of a program which shares it.
    """
    if body.custom_proxy is not None:
        return None, _custom_proxy(services.accounts.network_rules, body.custom_proxy)
    asked = body.proxy_country_code
    if "proxy_country_code" not in body.model_fields_set:
        asked = settings.default_proxy_country
    if asked is None:
        return None, None
    country = country_code(asked)
    if country not in settings.known_countries:
        known = ", ".join(settings.known_countries)
        raise unprocessable("proxyCountryCode", f"unknown country; one of: {known}")
    upstream = settings.proxies.get(country)
    if upstream is None:
        raise unprocessable(
            "proxyCountryCode",
            f"this server has no proxy for {country!r}; add it to the setting `proxies`, "
            f'e.g. {country} = "http://user:password@host:port", "direct" or "simulate"',
        )
    return country, upstream.get_secret_value()


def _custom_proxy(rules: Rules, proxy: CustomProxy) -> str:
    """Return the address of the client's own proxy. A private one is refused here if it is written as an address, else when it is dialled."""
    scheme, separator, host = proxy.host.rpartition("://")
    userinfo = ""
    try:
        if proxy.username is not None:
            userinfo = f"{quote(proxy.username, safe='')}:{quote(proxy.password or '', safe='')}@"
        elif proxy.password is not None:
            raise unprocessable("customProxy", "a password needs a username")
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        address = f"{scheme if separator else 'http'}://{userinfo}{host}:{proxy.port}"
        upstream = Upstream.parse(address)
    except (ConfigurationError, UnicodeEncodeError) as error:
        text = (
            str(error) if isinstance(error, ConfigurationError) else "the credentials are not valid Unicode"
        )
        raise unprocessable("customProxy", text) from None
    refusal = rules.refuse_host(upstream.host, upstream.port)
    if refusal is not None and refusal.error == "http_request_denied":
        raise unprocessable("customProxy", refusal.text)
    if refusal is not None:
        raise unprocessable(
            "customProxy",
            f"{upstream.host} is a private address; the server's operator can open it with the setting `private_allowed`",
        )
    return address
