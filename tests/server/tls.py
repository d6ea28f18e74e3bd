"""A TLS terminator with a domain and a path prefix in front of a server: nginx where it is installed, or a small one."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

DOMAIN, PREFIX = "browsers.example.test", "/pool"

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  {documented}
}}
"""


def documented(folder, port, upstream):
    """The configuration of docs/deploy.md, for this port, certificate and server, and with the prefix."""
    page = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
    text = page.partition("```nginx\n")[2].partition("```")[0]
    for of_the_page, here in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("browsers.example.com;", f"{DOMAIN};"),
        ("/etc/ssl/browsers.example.com.pem", f"{folder}/cert.pem"),
        ("/etc/ssl/browsers.example.com.key", f"{folder}/cert.pem"),
        ("location / {", f"location {PREFIX}/ {{"),
        ("http://127.0.0.1:8700/;", f"{upstream}/;"),
    ):
        assert text.count(of_the_page) == 1, of_the_page
        text = text.replace(of_the_page, here)
    return text


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def certificate(folder):
    authority = trustme.CA()
    authority.issue_cert(DOMAIN).private_key_and_cert_chain_pem.write_to_path(folder / "cert.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return folder / "cert.pem"


@asynccontextmanager
async def nginx(folder, port, upstream):
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    certificate(folder)
    written = folder / "nginx.conf"
    written.write_text(NGINX.format(folder=folder, documented=documented(folder, port, upstream)))
    process = subprocess.Popen(["nginx", "-c", written], stderr=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(60):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                assert process.poll() is None, (folder / "error.log").read_text()
                await asyncio.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def small(folder, port, upstream):
    """One request for each connection; the prefix is cut off, and what follows is passed on as it comes."""
    there = urlsplit(upstream)
    connections = set()

    async def pump(reader, writer):
        with suppress(OSError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
            writer.write_eof()

    async def serve(reader, writer):
        connections.add(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            lines[0] = lines[0].replace(f" {PREFIX}/".encode(), b" /", 1)
            if not any(line.lower().startswith(b"upgrade:") for line in lines):
                lines = [line for line in lines if not line.lower().startswith(b"connection:")]
                lines.insert(1, b"Connection: close")
            inner_reader, inner_writer = await asyncio.open_connection(there.hostname, there.port)
            try:
                inner_writer.write(b"\r\n".join(lines))
                up = asyncio.create_task(pump(reader, inner_writer))
                with suppress(OSError, NotImplementedError):  # TLS has no half-closed connections
                    await pump(inner_reader, writer)
                up.cancel()
            finally:
                inner_writer.close()
        writer.close()
        connections.discard(asyncio.current_task())

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate(folder))
    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    try:
        yield
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
