#!/usr/bin/env python3
"""durable: what recorder.so wrote down, judged: nothing is said or counted before it would outlive a power cut. For test/process/durable.sh.

    durable.py RECORDS RUN           RECORDS/ROLE.PID of each process; RUN/ROLE is its directory: what it does there is judged

A model of the disk follows the records of all processes in the order of time. Of each file it knows whether all that was written is synced; of
each directory, the names as they are and as they were when it was synced last. What a power cut leaves of a path is each combination of
the two on the way to it; what existed before the first record, and is not of the run, is safe. At each message that claims something, every
combination must bear it.
Prints how often each claim was seen ("commits 31"), and each one that was broken; exit code 1 then."""
import collections
import json
import os
import re
import sys


class Node:
    """A file or a directory."""

    def __init__(self):
        self.names, self.safe_names = {}, {}  # of a directory
        self.text, self.safe_text = b"", b""  # of a small file; None: not recorded
        self.writes, self.safe_writes = 0, 0
        self.syncs, self.safe_sync = 0, 0  # begun; the latest that ended: they may overlap
        self.syncing = {}  # thread -> what its sync under way found

    def write(self, hex_text):
        self.writes += 1
        self.text = None if hex_text == "-" or self.text is None else self.text + bytes.fromhex(hex_text)

    def is_safe(self):
        return self.writes == self.safe_writes

    def begin_sync(self, thread):
        self.syncs += 1
        self.syncing[thread] = self.syncs, dict(self.names), self.text, self.writes

    def end_sync(self, thread):
        found = self.syncing.pop(thread)
        if found[0] > self.safe_sync:
            self.safe_sync, self.safe_names, self.safe_text, self.safe_writes = found


class Disk:
    def __init__(self, run):
        self.run, self.root = run, Node()
        self.by_inode = {}

    def find(self, path):
        """Who is not known was there before the first record; of the run nothing was: that was made in a way that the recorder can't see."""
        node, parts = self.root, os.path.normpath(path).split("/")[1:]
        for depth, name in enumerate(parts):
            if name not in node.names:
                node.names[name] = Node()
                if not ("/" + "/".join(parts[: depth + 1]) + "/").startswith(self.run + "/"):
                    node.safe_names[name] = node.names[name]
            node = node.names[name]
        return node

    def parent(self, path):
        return self.find(os.path.dirname(os.path.normpath(path))), os.path.basename(os.path.normpath(path))

    def make(self, path, inode, name_is_new):
        if name_is_new:
            directory, name = self.parent(path)
            directory.names[name] = node = Node()
            node.writes = 1  # that it exists is not synced either
        self.by_inode[inode] = self.find(path)

    def rename(self, source, target):
        directory, name = self.parent(source)
        self.link(source, target)
        del directory.names[name]

    def link(self, source, target):
        node = self.find(source)
        directory, name = self.parent(target)
        directory.names[name] = node

    def remove(self, path):
        directory, name = self.parent(path)
        directory.names.pop(name, None)

    def after_power_cut(self, path):
        """The nodes that may be at `path` then; None among them: nothing."""
        found = {self.root}
        for name in os.path.normpath(path).split("/")[1:]:
            found = {after for node in found if node for after in (node.names.get(name), node.safe_names.get(name))} | (found & {None})
        return found

    def keeps(self, path, test=lambda text: True):
        """There is a whole file at `path` after any power cut, and its text passes."""
        return all(node and node.is_safe() and test(node.safe_text) for node in self.after_power_cut(path))


def fields(data):
    """Protobuf: field number -> values, in their order."""
    found, at = collections.defaultdict(list), 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = number()
        if key & 7 == 0:
            found[key >> 3].append(number())
        else:  # bytes, or 8 of them as they are
            length = number() if key & 7 == 2 else 8
            found[key >> 3].append(data[at : at + length])
            at += length
    return found


# enum message_type of comms/message.h
REGISTER, ADMIT, HELLO, WELCOME, START, COMMIT, END, FINISH, STATE, SNAPSHOT = 1, 2, 4, 5, 7, 14, 18, 19, 27, 29
TRANSFER_CONTRIBUTION = 1
GENERATIONS_KEPT = 2


class Judge:
    def __init__(self, run):
        self.disk, self.run = Disk(run), run
        self.seen, self.broken = collections.Counter(), []

    def claim(self, what, holds, text):
        self.seen[what] += 1
        if not holds:
            self.broken.append(f"{what}: {text}")

    # ---- the outer's words ----

    def record_is_safe(self, home, fragment, version):
        """The fragment's record of that version, or of one that was made from it."""
        directory = f"{home}/commits"
        for name in self.disk.find(directory).names:
            found = re.fullmatch(r"f(\d+)-v(\d+)(\.full)?", name)
            if found and int(found[1]) == fragment and int(found[2]) >= version and self.disk.keeps(f"{directory}/{name}"):
                return True
        return False

    def state_says(self, home, test):
        return self.disk.keeps(f"{home}/outer.json", lambda text: test(json.loads(text)))

    def outer_says(self, home, kind, body):
        if kind == ADMIT:
            certificate = fields(body[1][0])
            self.claim("admissions", self.disk.keeps(f"{home}/keys/workers.json", lambda text: certificate[2][0].hex() in text.decode()),
                       f"slot {certificate[3][0]} was told, and is not in the list for good")
            self.claim("outer_seeds", self.disk.keeps(f"{home}/keys/seed"), "somebody was admitted before it was there for good")
        if kind == WELCOME and body[3][0] > 0:
            self.claim("epochs", self.state_says(home, lambda state: state["epoch"] >= body[3][0]), f"WELCOME of epoch {body[3][0]}")
        if kind == START:
            self.claim("starts", self.state_says(home, lambda state: state["started"]), "START")
        if kind == END:
            self.claim("ends", self.state_says(home, lambda state: state["ended"]), "END")
        if kind == FINISH:
            self.claim("finishes", self.state_says(home, lambda state: state["finished"]), "FINISH")
        if kind in (COMMIT, SNAPSHOT):
            commit = fields(body[1][0]) if kind == SNAPSHOT else body
            epoch, fragment, version = commit[3][0], commit[4][0], commit[5][0]
            self.claim("commits" if kind == COMMIT else "snapshots", self.record_is_safe(home, fragment, version),
                       f"version {version} of fragment {fragment} was sent")
            self.claim("epochs", self.state_says(home, lambda state: state["epoch"] >= epoch), f"COMMIT of epoch {epoch}")
        if kind == STATE:
            for fragment, head in enumerate(map(fields, body[4])):
                if head[2][0] > 0:
                    self.claim("heads", self.record_is_safe(home, fragment, head[2][0]),
                               f"version {head[2][0]} of fragment {fragment} was said to be the newest")

    def outer_sends(self, home, header):
        if header[2][0] != TRANSFER_CONTRIBUTION:
            self.claim("chunks", self.record_is_safe(home, header[4][0], header[5][0]),
                       f"bytes of version {header[5][0]} of fragment {header[4][0]} were sent")

    # ---- a worker's words ----

    def worker_says(self, home, kind):
        if kind == REGISTER:
            self.claim("seeds", self.disk.keeps(f"{home}/keys/seed"), "REGISTER")
        if kind == HELLO:
            self.claim("certificates", self.disk.keeps(f"{home}/keys/certificate.json"), "HELLO")

    # ---- names ----

    def generation_is_safe(self, path, name_too):
        node = self.disk.find(path)
        found = {f"{path}/{name}" for name in node.names}
        wanted = {f"{path}/manifest.json", f"{path}/state.safetensors"}
        safe = node.safe_names == node.names and all(child.is_safe() for child in node.names.values())
        return found == wanted and safe and (not name_too or all(map(self.disk.keeps, found)))

    def renames(self, source, target):
        into, out_of = (re.fullmatch(r"(.*/checkpoint)/(\d{8})", path) for path in (target, source))
        if into:
            self.claim("generations", self.generation_is_safe(source, False), f"{target} was named before it was whole")
        if out_of:
            newer = [name for name in self.disk.find(out_of[1]).names if re.fullmatch(r"\d{8}", name) and name > out_of[2]]
            safe = [name for name in newer if self.generation_is_safe(f"{out_of[1]}/{name}", True)]
            self.claim("generations_removed", len(safe) >= GENERATIONS_KEPT, f"{source}, while of {newer} these are there for good: {safe}")

    def removes(self, path):
        if re.search(r"/checkpoint/\d{8}(/|$)", path):
            self.claim("generations_removed", False, f"{path} under its own name")
        record = re.fullmatch(r"(.*)/commits/f(\d+)-v(\d+)(\.full)?", path)
        if record:
            names = self.disk.find(f"{record[1]}/commits").names
            full = [name for name in names if re.fullmatch(rf"f{record[2]}-v\d+\.full", name) and name.split("v")[1] > record[3]]
            self.claim("records_removed", any(self.disk.keeps(f"{record[1]}/commits/{name}") for name in full),
                       f"{path}, and no newer whole copy is there for good")

    # ---- all ----

    def event(self, process, kind, what):
        disk, home = self.disk, f"{self.run}/{process.split('.')[0]}"
        is_outer = process.startswith("outer.")
        if kind == "open":
            disk.make(what[2], what[0], what[1] == "new")
        elif kind == "mkdir":
            disk.make(what[1], what[0], True)
            disk.by_inode[what[0]].safe_writes = 1  # a directory is its names
        elif kind == "write" and what[0] in disk.by_inode:  # the others: stdout, stderr
            disk.by_inode[what[0]].write(what[2])
        elif kind == "sync":
            disk.by_inode[what[0]].begin_sync(what[1])
        elif kind == "synced":
            disk.by_inode[what[0]].end_sync(what[1])
        elif kind == "rename":
            if what[0].startswith(home + "/"):
                self.renames(*what)
            disk.rename(*what)
        elif kind == "link":
            disk.link(*what)
        elif kind == "remove":
            if what[0].startswith(home + "/"):
                self.removes(what[0])
            disk.remove(what[0])
        elif kind == "say":
            envelope = fields(bytes.fromhex(what[0]))
            message = envelope[1][0]
            if is_outer:
                self.outer_says(home, message, fields(envelope[4][0]) if envelope[4] else {})
            else:
                self.worker_says(home, message)
        elif kind == "chunk" and is_outer:
            self.outer_sends(home, fields(bytes.fromhex(what[0])[16:]))


def records(directory):
    for name in os.listdir(directory):
        with open(os.path.join(directory, name)) as file:
            for line in file:
                time, kind, *what = line.rstrip("\n").split("\t")
                yield int(time), name, kind, what


def main():
    judge = Judge(os.path.realpath(sys.argv[2]))
    for _, process, kind, what in sorted(records(sys.argv[1]), key=lambda record: record[0]):
        judge.event(process, kind, what)
    for what, count in sorted(judge.seen.items()):
        print(what, count)
    for text in judge.broken:
        print("BROKEN", text)
    return 1 if judge.broken else 0


if __name__ == "__main__":
    sys.exit(main())
