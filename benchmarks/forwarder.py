"""What a browser's forwarder costs: CPU of its process for each MB that it carries, and for a tunnel.

    python benchmarks/forwarder.py [--mb 64] [--tunnels 300] [--rounds 3]

Rows: a tunnel (CONNECT) as the forwarder carries it, the same by asyncio's streams with a task for each direction, and plain HTTP.
Each round measures all rows one after another, and each row runs in a process of its own, on the event loop that a server has. The
ratio is the median of the rounds'.
"""

import argparse
import asyncio
import multiprocessing
import os
import socket
import statistics
import threading
import time

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop

CHUNK = bytes(64 * 1024)


# --- the forwarder's process ------------------------------------------------------------------------------------------


async def relayed(reader, writer):
    """A tunnel as asyncio's streams make it."""

    async def carry(source, sink):
        while data := await source.read(len(CHUNK)):
            sink.write(data)
            await sink.drain()
        sink.write_eof()

    head = await reader.readuntil(b"\r\n\r\n")
    host, _, port = head.split()[1].decode().rpartition(":")
    far_reader, far_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    try:
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
    except OSError:
        pass
    finally:
        far_writer.close()
        writer.close()


async def forward(kind, pipe):
    """Serve until the pipe says so, and answer each line with the CPU seconds so far."""
    from cdpbridge.server.proxy import ForwardingProxy

    if kind == "streams":
        server = await asyncio.start_server(relayed, "127.0.0.1", 0, limit=len(CHUNK))
        port = server.sockets[0].getsockname()[1]
    else:
        server = await ForwardingProxy.start(None)
        port = int(server.address.rpartition(":")[2])
    pipe.send(port)
    while await asyncio.to_thread(pipe.recv):
        pipe.send(time.process_time())


def run_forwarder(kind, pipe):
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(forward(kind, pipe))
    os._exit(0)  # connections may be open


# --- the load ---------------------------------------------------------------------------------------------------------


def serve_bytes(listening):
    """Answer each line with as many bytes as it says, raw or as HTTP."""

    def answer(peer):
        with peer:
            head = b""
            while not head.endswith(b"\n\r\n" if head.startswith(b"GET") else b"\n"):
                if not (data := peer.recv(4096)):
                    return
                head += data
            http = head.startswith(b"GET")
            count = int(head.split()[1].removeprefix(b"/") if http else head)
            if http:
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count)
            while count > 0:
                peer.sendall(CHUNK[:count])
                count -= len(CHUNK)

    while True:
        try:
            peer, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(peer,), daemon=True).start()


def fetch(port, source, count, *, tunnel):
    """Get bytes through the forwarder; how many came."""
    with socket.create_connection(("127.0.0.1", port)) as peer:
        if tunnel:
            peer.sendall(f"CONNECT 127.0.0.1:{source} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b" 200 " in peer.recv(4096)
            peer.sendall(b"%d\n" % count)
        else:
            url = f"http://127.0.0.1:{source}/{count}"
            peer.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got = 0
        buffer = bytearray(1 << 20)
        while size := peer.recv_into(buffer):
            got += size
        return got


def measure(kind, source, options):
    """CPU milliseconds a MB, and a tunnel or request."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=run_forwarder, args=(kind, theirs))
    process.start()
    port = ours.recv()

    def cpu():
        ours.send(True)
        return ours.recv()

    tunnel = kind != "http"
    fetch(port, source, 1 << 20, tunnel=tunnel)
    before = cpu()
    assert fetch(port, source, options.mb << 20, tunnel=tunnel) >= options.mb << 20
    between = cpu()
    for _ in range(options.tunnels):
        fetch(port, source, 1000, tunnel=tunnel)
    after = cpu()
    ours.send(False)
    process.join()
    return 1e3 * (between - before) / options.mb, 1e3 * (after - between) / options.tunnels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=64)
    parser.add_argument("--tunnels", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    kinds = {"tunnel": "tunnel", "streams": "tunnel, asyncio's streams", "http": "plain HTTP"}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve_bytes, args=(listening,), daemon=True).start()
        source = listening.getsockname()[1]
        rounds = [{kind: measure(kind, source, options) for kind in kinds} for _ in range(options.rounds)]
    print(
        f"forwarder: CPU of its process, {options.mb} MB and {options.tunnels} connections of 1 kB; load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':26}{'ms a MB':>9}{'ratio':>8}{'ms each':>10}{'ratio':>8}")
    for kind, name in kinds.items():
        figures = []
        for column in (0, 1):
            figures.append(statistics.median(each[kind][column] for each in rounds))
            figures.append(statistics.median(each[kind][column] / each["tunnel"][column] for each in rounds))
        print(f"{name:26}{figures[0]:>9.2f}{figures[1]:>8.2f}{figures[2]:>10.3f}{figures[3]:>8.2f}")


if __name__ == "__main__":
    main()
