#!/usr/bin/env python3
"""proxy_peers.py PROXY DIRECTORY: both ends of a process_proxy in one process, so that one clock sees both. Each function below makes
one measurement through a proxy of its own and prints `NAME VALUE` lines; proxy.sh says what they have to be."""
import json
import os
import random
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time

PROXY, DIRECTORY = sys.argv[1], sys.argv[2]
SILENCE_S = 0.4  # "nothing came": far longer than anything takes that is not held back
PATIENCE_S = 10.0


def report(name, value):
    print(name, f"{value:.3f}" if isinstance(value, float) else value, flush=True)


def wait_until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("waited in vain")
        time.sleep(0.005)


class Proxy:
    count = 0

    def __init__(self, directory=None, ports=None):
        Proxy.count += 1
        self.directory = directory or f"{DIRECTORY}/proxy-{Proxy.count}"
        self.servers = [] if ports else [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        targets = [str(port) for port in ports or [server.getsockname()[1] for server in self.servers]]
        for server in self.servers:
            server.settimeout(PATIENCE_S)
        self.process = subprocess.Popen([PROXY, "run", self.directory, "127.0.0.1", *targets])
        wait_until(lambda: self.ask("stats", quiet=True).startswith("{"))
        self.ports = [int(port) for port in open(f"{self.directory}/address").read().split()[1:]]

    def ask(self, command, quiet=False):
        answer = subprocess.run([PROXY, "ask", self.directory, *command.split()], stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL if quiet else None, text=True, check=False)
        return answer.stdout.strip()

    def stats(self):
        return json.loads(self.ask("stats"))

    def cpu_ms(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def connect(self, port):
        worker = socket.create_connection(("127.0.0.1", self.ports[port]))
        worker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        worker.settimeout(PATIENCE_S)
        return worker

    def accept(self, port):
        outer = self.servers[port].accept()[0]
        outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        outer.settimeout(PATIENCE_S)
        return outer

    def pair(self, port=0):
        worker = self.connect(port)
        return worker, self.accept(port)

    def end(self):
        self.process.kill()
        self.process.wait()
        for server in self.servers:
            server.close()


def ending(peer, patience=SILENCE_S):
    """What a peer sees next: bytes, 'closed', 'reset', or 'silence'."""
    peer.settimeout(patience)
    try:
        got = peer.recv(1 << 20)
        return got.decode() if got else "closed"
    except ConnectionResetError:
        return "reset"
    except TimeoutError:
        return "silence"


def reset(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def no_connection(server):
    return not select.select([server], [], [], SILENCE_S)[0]


def carry(source, sink, data, sent=0):
    """Sends data, of which so much is sent already. The bytes that came, when the first and the last of them did, the sizes in which
    they came, and when it began."""
    source.setblocking(False)
    got, sizes, began = bytearray(), [], time.monotonic()
    first = last = began
    while len(got) < len(data):
        readable, writable, _ = select.select([sink], [source] if sent < len(data) else [], [], PATIENCE_S)
        if not readable and not writable:
            raise SystemExit(f"carry: {len(got)} of {len(data)} bytes came")
        if writable:
            try:
                sent += source.send(data[sent:sent + 65536])
            except BlockingIOError:
                pass
        if readable:
            part = sink.recv(1 << 20)
            last = time.monotonic()
            first = last if not got else first
            got += part
            sizes.append(len(part))
    source.settimeout(PATIENCE_S)
    return bytes(got), first, last, sizes, began


def one_way_ms(source, sink, count=20):
    took = []
    for _ in range(count):
        began = time.monotonic()
        source.sendall(b"x")
        sink.recv(1)
        took.append((time.monotonic() - began) * 1000)
    return statistics.median(took)


def transparent():
    proxy = Proxy()
    data = random.Random(1).randbytes(32 << 20)
    for port, name in enumerate(("control", "bulk")):
        worker, outer = proxy.pair(port)
        for way, (source, sink) in (("up", (worker, outer)), ("down", (outer, worker))):
            got, first, last, _, _ = carry(source, sink, data)
            report(f"plain_{name}_{way}_same", got == data)
            report(f"plain_{name}_{way}_mb_per_s", len(data) / 1e6 / (last - first))
    worker.shutdown(socket.SHUT_WR)
    report("half_closed_outer", ending(outer))
    outer.sendall(b"answer")
    report("half_closed_worker", ending(worker))
    outer.close()
    report("half_closed_end", ending(worker))
    worker.close()
    wait_until(lambda: proxy.stats()["live"] == 0)  # that of the other port was dropped by the loop
    stats = proxy.stats()
    report("plain_counted", all(stats[port][way]["received"] == stats[port][way]["forwarded"] == len(data) + extra
                                for port, way, extra in (("control", "up", 0), ("control", "down", 0), ("bulk", "up", 0),
                                                         ("bulk", "down", 6))))
    worker, outer = proxy.pair()
    reset(worker)
    report("workers_reset", ending(outer))
    proxy.end()


def latency():
    proxy = Proxy()
    worker, outer = proxy.pair(1)
    other = proxy.pair(0)
    report("no_latency_ms", one_way_ms(worker, outer))
    proxy.ask("latency 40 up bulk")
    report("latency_up_ms", one_way_ms(worker, outer))
    report("latency_other_way_ms", one_way_ms(outer, worker))
    report("latency_other_port_ms", one_way_ms(*other))
    late = proxy.pair(1)
    report("latency_later_connection_ms", one_way_ms(*late))
    # A pipe, not a turnstile: what is sent together is late together.
    _, _, last, _, began = carry(worker, outer, bytes(500000))
    report("latency_of_500_kb_ms", (last - began) * 1000)
    began = time.monotonic()
    worker.shutdown(socket.SHUT_WR)
    report("latency_end", ending(outer))
    report("latency_end_ms", (time.monotonic() - began) * 1000)
    # A reset overtakes nothing that was sent before it.
    proxy.ask("latency 200 up")
    worker, outer = proxy.pair(1)
    received = proxy.stats()["bulk"]["up"]["received"]
    worker.sendall(b"first")
    wait_until(lambda: proxy.stats()["bulk"]["up"]["received"] == received + 5)
    proxy.ask("latency 10 up")
    reset(worker)
    report("before_the_reset", ending(outer))
    report("the_reset", ending(outer))
    proxy.ask("latency 20 jitter 40 both all")
    late, outer = proxy.pair(1)
    took, order = [], []
    for i in range(60):
        began = time.monotonic()
        late.sendall(bytes([i]))
        order.append(outer.recv(1)[0])
        took.append((time.monotonic() - began) * 1000)
    report("jitter_min_ms", min(took))
    report("jitter_max_ms", max(took))
    for i in range(60):
        late.sendall(bytes([i]))
        time.sleep(0.002)
    got = b""
    while len(got) < 60:
        got += outer.recv(60)
    report("jitter_order_kept", got == bytes(range(60)))
    proxy.ask("latency 5000")
    late.sendall(b"?")
    time.sleep(0.05)
    proxy.ask("heal")
    began = time.monotonic()
    report("heal_lets_go", ending(outer))
    report("heal_lets_go_ms", (time.monotonic() - began) * 1000)
    proxy.end()


def rate():
    proxy = Proxy()
    for wanted, count in ((31250, 60000), (1000000, 2000000), (20000000, 40000000)):
        proxy.ask(f"rate {wanted} down")
        worker, outer = proxy.pair(1)
        cpu_ms = proxy.cpu_ms()
        got, first, last, _, _ = carry(outer, worker, bytes(count))
        report(f"rate_{wanted}", (len(got) - 1) / (last - first) / wanted)
        report(f"rate_{wanted}_cpu_ms", proxy.cpu_ms() - cpu_ms)
    # A slow line does not swallow what it cannot carry yet.
    proxy.ask("rate 31250 down")
    slow = proxy.pair(0)
    slow[1].setblocking(False)
    slow[1].send(bytes(50000))
    time.sleep(SILENCE_S)
    down = proxy.stats()["control"]["down"]
    report("rate_queue", down["received"] - down["forwarded"])
    # More is under way than the rate set now would have let in.
    proxy.ask("heal")
    proxy.ask("latency 300 down")
    late, data, sent = proxy.pair(0), random.Random(3).randbytes(1300000), 0
    while sent < 700000:
        sent += late[1].send(data[sent:sent + 65536])
    wait_until(lambda: (lambda down: down["received"] - down["forwarded"])(proxy.stats()["control"]["down"]) > 500000)
    proxy.ask("rate 600000 down")
    report("rate_set_late_same", carry(late[1], late[0], data, sent)[0] == data)
    proxy.ask("heal")
    worker, outer = proxy.pair(1)
    proxy.ask("rate 1000000 down")
    _, first, last, _, _ = carry(worker, outer, bytes(40000000))
    report("rate_other_way_mb_per_s", 40 / (last - first))
    proxy.ask("heal")
    proxy.ask("slice 100 pause 2 up")
    _, first, last, sizes, _ = carry(worker, outer, bytes(10000))
    report("slice_median", int(statistics.median(sizes)))
    report("slice_took_ms", (last - first) * 1000)
    report("slice_other_way_median", int(statistics.median(carry(outer, worker, bytes(10000))[3])))
    proxy.end()


def flips():
    where = []
    for seed in (5, 5, 6):
        proxy = Proxy()
        proxy.ask(f"seed {seed}")
        if len(where) == 1:  # set on an open connection, otherwise before there is one
            worker, outer = proxy.pair()
            proxy.ask("flip 1000 up")
        else:
            proxy.ask("flip 1000 up")
            worker, outer = proxy.pair()
        data = random.Random(2).randbytes(1000000)
        got = carry(worker, outer, data)[0]
        where.append([(i, a ^ b) for i, (a, b) in enumerate(zip(data, got)) if a != b])
        if len(where) == 1:
            report("flips", len(where[0]))
            report("flips_counted", proxy.stats()["control"]["up"]["flipped"])
            report("flips_of_one_bit", all(bits.bit_count() == 1 for _, bits in where[0]))
            report("flips_of_all_bits", len({bits for _, bits in where[0]}))
            report("flips_other_way", sum(a != b for a, b in zip(data, carry(outer, worker, data)[0])))
        proxy.end()
    report("flips_same_seed_same_places", where[0] == where[1])
    report("flips_other_seed_same_places", where[0] == where[2])


def cuts():
    proxy = Proxy()
    worker, outer = proxy.pair()
    proxy.ask("drop up")
    worker.sendall(b"lost")
    report("drop_outer", ending(outer))
    report("drop_counted", proxy.stats()["control"]["up"]["dropped"])
    proxy.ask("drop off up")
    worker.sendall(b"found")
    report("drop_off_outer", ending(outer))

    proxy.ask("blackhole up")
    worker.sendall(b"up")
    outer.sendall(b"down")
    report("blackhole_outer", ending(outer))
    report("blackhole_worker", ending(worker))
    later = proxy.connect(0)
    report("blackhole_later_connection_held", no_connection(proxy.servers[0]))
    later.sendall(b"later")
    proxy.ask("heal")
    report("blackhole_healed", ending(outer))
    report("blackhole_healed_later", ending(proxy.accept(0)))
    proxy.ask("blackhole")
    given_up = proxy.connect(0)
    worker.close()
    cpu_ms = proxy.cpu_ms()
    report("blackhole_hides_the_end", ending(outer))
    report("blackhole_cpu_ms", proxy.cpu_ms() - cpu_ms)  # a hung-up socket must not wake the proxy again and again
    report("blackhole_waiting", [c["state"] for c in proxy.stats()["open"]].count("waiting"))
    given_up.close()
    wait_until(lambda: all(c["state"] == "open" for c in proxy.stats()["open"]))
    proxy.ask("heal")
    report("blackhole_healed_end", ending(outer))
    report("blackhole_given_up_never_seen", no_connection(proxy.servers[0]))

    worker, outer = proxy.pair()
    proxy.ask("stall 300 up")
    began = time.monotonic()
    worker.sendall(b"x")
    report("stall_outer", ending(outer, PATIENCE_S))
    report("stall_ms", (time.monotonic() - began) * 1000)

    # Neither side reads: what is under way is bounded.
    worker.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    worker.setblocking(False)
    sent, began = 0, time.monotonic()
    while time.monotonic() - began < SILENCE_S:
        try:
            sent += worker.send(bytes(65536))
        except BlockingIOError:
            time.sleep(0.01)
    report("unread_bytes", sent)
    proxy.end()


def ends():
    proxy = Proxy()
    first, second = proxy.pair(0), proxy.pair(1)
    report("reset_answer", proxy.ask("reset connection 2"))
    report("reset_worker", ending(second[0]))
    report("reset_outer", ending(second[1]))
    first[0].sendall(b"alive")
    report("reset_spares_the_other", ending(first[1]))
    report("reset_again_answer", proxy.ask("reset connection 2"))

    worker, outer = proxy.pair(1)
    proxy.ask("reset up bulk")
    report("reset_up_outer", ending(outer))
    cpu_ms = proxy.cpu_ms()
    report("reset_up_worker", ending(worker))
    report("reset_up_cpu_ms", proxy.cpu_ms() - cpu_ms)
    worker.sendall(b"x")
    report("reset_up_worker_later", ending(worker))
    worker.close()
    wait_until(lambda: proxy.stats()["live"] == 1)

    worker, outer = proxy.pair(1)
    proxy.ask("close bulk")
    report("close_worker", ending(worker))
    report("close_outer", ending(outer))
    outer.shutdown(socket.SHUT_WR)
    cpu_ms = proxy.cpu_ms()
    time.sleep(SILENCE_S)
    report("close_cpu_ms", proxy.cpu_ms() - cpu_ms)
    worker.close()
    outer.close()
    wait_until(lambda: proxy.stats()["live"] == 1)

    proxy.ask("refuse bulk")
    report("refuse_bulk", ending(proxy.connect(1)))
    report("refuse_spares_control", one_way_ms(*proxy.pair(0)) < 100)
    report("refuse_counted", proxy.stats()["refused"])
    proxy.ask("heal")
    proxy.ask("hold")
    held = proxy.connect(1)
    held.sendall(b"held")
    report("hold_outer_sees_none", no_connection(proxy.servers[1]))
    report("hold_worker", ending(held))
    proxy.ask("hold off")
    report("hold_off", ending(proxy.accept(1)))

    proxy.ask("blackhole connection 1")
    first[0].sendall(b"x")
    report("one_connection", ending(first[1]))
    report("one_connection_spares_others", one_way_ms(*proxy.pair(0)) < 100)
    for command in ("latency", "latency x", "latency 4 sideways", "rate -1", "blackhole connection", "hold up", "blow", "target a",
                    "heal off", "latency 9999999999999", "x" * 400, "a " * 40):
        if not proxy.ask(command).startswith("error"):
            report("understood", repr(command))

    # The outer moves, and is away.
    first = proxy.pair(0)
    moved = socket.create_server(("127.0.0.1", 0))
    port = moved.getsockname()[1]
    report("target_answer", proxy.ask(f"target 127.0.0.1 {port} {port}"))
    worker = proxy.connect(0)
    moved.settimeout(PATIENCE_S)
    worker.sendall(b"moved")
    report("target_outer", ending(moved.accept()[0]))
    moved.close()
    report("no_outer", ending(proxy.connect(0)))
    first[0].sendall(b"as before")
    report("target_spares_the_open", ending(first[1]))
    proxy.end()


def plug():
    proxy = Proxy()
    worker, outer = proxy.pair()
    os.kill(proxy.process.pid, signal.SIGSTOP)
    worker.sendall(b"x")
    report("stopped_outer", ending(outer))
    os.kill(proxy.process.pid, signal.SIGCONT)
    report("continued_outer", ending(outer))
    proxy.ask("latency 100")
    worker.sendall(b"under way")
    time.sleep(0.02)
    os.kill(proxy.process.pid, signal.SIGKILL)
    proxy.process.wait()
    report("killed_outer", ending(outer))
    report("killed_worker", ending(worker))
    again = Proxy(proxy.directory, [server.getsockname()[1] for server in proxy.servers])
    report("restarted_same_ports", again.ports == proxy.ports)
    worker = proxy.connect(0)
    worker.sendall(b"again")
    report("restarted_carries", ending(proxy.accept(0)))
    second = subprocess.run([PROXY, "run", proxy.directory, "127.0.0.1", "1", "2"], stderr=subprocess.PIPE, text=True, check=False)
    report("second_in_directory", second.returncode)
    again.end()
    proxy.end()


for measure in (transparent, latency, rate, flips, cuts, ends, plug):
    measure()
report("done", 1)
