#!/usr/bin/env python3
"""raw_peers: what strangers do at a port, below ZeroMQ. For test/process/faults_peers.sh.

    scan HOST PORT COUNT             connect and go, COUNT times
    idle HOST PORT COUNT             COUNT connections that say nothing; "open N" when they stand, then waits to be ended
    drip HOST PORT                   a right ZMTP greeting, a byte every 0.3 s; "cut after SECONDS" when the far end ends it
    record DIRECTORY HOST PORT PORT  forwards two ports (DIRECTORY/ports) and keeps what goes up of each connection: DIRECTORY/up.PORT.N
    replay DIRECTORY HOST PORT PORT  says all of it again, each connection's bytes to its own port; "replayed CONNECTIONS BYTES"
"""
import asyncio
import os
import resource
import socket
import sys
import time

GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01CURVE".ljust(64, b"\0")


def connect(host, port):
    return socket.create_connection((host, int(port)), timeout=10)


def scan(host, port, count):
    for _ in range(int(count)):
        connect(host, port).close()


def idle(host, port, count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = [connect(host, port) for _ in range(int(count))]
    print("open", len(crowd), flush=True)
    time.sleep(600)


def drip(host, port):
    began = time.monotonic()
    peer = connect(host, port)
    peer.settimeout(0.3)
    for byte in range(len(GREETING) * 2):
        try:
            peer.send(GREETING[byte % 64 : byte % 64 + 1])
            if peer.recv(1000) == b"":
                break
        except socket.timeout:
            continue
        except OSError:
            break
    print("cut after %.1f" % (time.monotonic() - began), flush=True)


async def pump(reader, writer, tape):
    try:
        while data := await reader.read(65536):
            if tape:
                tape.write(data)
                tape.flush()
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def record(directory, host, ports):
    served = 0

    async def serve(port, reader, writer):
        nonlocal served
        served += 1
        with open(os.path.join(directory, "up.%d.%d" % (ports.index(port), served)), "wb") as tape:
            far_reader, far_writer = await asyncio.open_connection(host, port)
            await asyncio.gather(pump(reader, far_writer, tape), pump(far_reader, writer, None))

    servers = []
    for port in ports:
        servers.append(await asyncio.start_server(lambda r, w, port=port: serve(port, r, w), "127.0.0.1", 0))
    with open(os.path.join(directory, "ports.new"), "w") as file:
        print(*(server.sockets[0].getsockname()[1] for server in servers), file=file)
    os.rename(os.path.join(directory, "ports.new"), os.path.join(directory, "ports"))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def replay(directory, host, ports):
    said = connections = 0
    for name in sorted(os.listdir(directory)):
        if not name.startswith("up."):
            continue
        with open(os.path.join(directory, name), "rb") as tape:
            data = tape.read()
        peer = connect(host, ports[int(name.split(".")[1])])
        peer.settimeout(1)
        connections += 1
        said += len(data)
        try:
            # The way it went: the greeting, the answer to it, the rest.
            peer.sendall(data[:64])
            peer.recv(1000)
            peer.sendall(data[64:])
            while peer.recv(65536):
                pass
        except OSError:
            pass
        peer.close()
    print("replayed", connections, said, flush=True)


if __name__ == "__main__":
    verb, rest = sys.argv[1], sys.argv[2:]
    if verb == "record":
        asyncio.run(record(rest[0], rest[1], [int(port) for port in rest[2:4]]))
    elif verb == "replay":
        replay(rest[0], rest[1], [int(port) for port in rest[2:4]])
    else:
        {"scan": scan, "idle": idle, "drip": drip}[verb](*rest)
