#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""measure_migrate.py BUILD [ROUNDS]: kvm-migrate against the same migration driven by bare QMP, alternately in one run.

Two network namespaces with a link between them, the test guest with 128 MiB, idle, plain TCP, the same capabilities and
bandwidth. Total is what QEMU tells; downtime is from the source's STOP to the target's RESUME, by QEMU's own clock.
Exit status 1: a limit is passed."""
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

BUILD, ROUNDS = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
DIR = tempfile.mkdtemp(prefix="ks.", dir="/tmp")
SPACES = {side: f"ks-{DIR[len('/tmp/ks.'):]}-{side}" for side in "ab"}
CAPABILITIES = ["return-path", "events", "pause-before-switchover"]
BANDWIDTH = 64
LIMITS = {"total": 1.05, "downtime": 1.2}
PEAK_LIMIT_KIB = 8192


def run(*words):
    subprocess.run(words, check=True)


class Monitor:
    """A QMP client of its own, so that it shares no fault with the suite's; keeps the events."""

    def __init__(self, path):
        deadline = time.time() + 30
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if time.time() > deadline:
                    raise
                time.sleep(0.01)
        self.stream, self.events = self.socket.makefile("rw"), []
        self.stream.readline()
        self("qmp_capabilities")

    def read(self):
        message = json.loads(self.stream.readline())
        if "event" in message:
            stamp = message["timestamp"]
            self.events.append((message["event"], stamp["seconds"] + stamp["microseconds"] / 1e6,
                                message.get("data", {}).get("status")))
        return message

    def __call__(self, command, **arguments):
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            message = self.read()
            if "error" in message:
                sys.exit(f"bench: {command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]

    def wait(self, name, status=None):
        while not any(event[0] == name and status in (None, event[2]) for event in self.events):
            self.read()
        return [event[1] for event in self.events if event[0] == name][-1]


def ready(path):
    subprocess.run([BUILD + "/tests/serial-talk", path, "90", "true"], check=True, stdout=subprocess.DEVNULL)


def bare_qemu(side, *more):
    here = f"{DIR}/bare-{side}"
    return subprocess.Popen(
        ["ip", "netns", "exec", SPACES[side], "qemu-system-x86_64", "-name", "web1", "-m", "128", "-machine", "pc",
         "-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-device", "VGA", "-device", "pvpanic",
         "-device", "virtio-balloon-pci", "-kernel", BUILD + "/guest/vmlinuz", "-initrd", BUILD + "/guest/initrd.gz",
         "-append", "ro quiet panic=-1 tsc=unstable console=ttyS0", "-qmp", f"unix:{here}.qmp,server=on,wait=off",
         "-serial", f"unix:{here}.serial,server=on,wait=off", *more])


def bare():
    source, target = bare_qemu("a"), bare_qemu("b", "-S", "-incoming", "defer")
    here, there = Monitor(DIR + "/bare-a.qmp"), Monitor(DIR + "/bare-b.qmp")
    ready(DIR + "/bare-a.serial")
    for monitor, more in ((here, []), (there, ["late-block-activate"])):
        monitor("migrate-set-capabilities",
                capabilities=[{"capability": name, "state": True} for name in CAPABILITIES + more])
        monitor("migrate-set-parameters", **{"max-bandwidth": BANDWIDTH << 20, "downtime-limit": 30})
    there("migrate-incoming", uri="tcp:10.9.0.2:8102")
    here("migrate", uri="tcp:10.9.0.2:8102")
    here.wait("MIGRATION", "pre-switchover")
    here("migrate-continue", state="pre-switchover")
    here.wait("MIGRATION", "completed")
    there.wait("MIGRATION", "completed")
    there("cont")
    down = there.wait("RESUME") - here.wait("STOP")
    time.sleep(0.06)  # times of zero may come with "completed" (QEMU 7.2)
    total = here("query-migrate")["total-time"]
    for process, monitor in ((source, here), (target, there)):
        monitor("quit")
        process.wait()
    return total, down * 1000


def stamp(file, name):
    file.seek(0)
    events = [json.loads(line) for line in file]
    last = [event for event in events if event.get("event") == name][-1]["timestamp"]
    return last["seconds"] + last["microseconds"] / 1e6


def highest(pid):
    """The most memory so far, of kvm-migrate alone: its children are the remote command and what that starts."""
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii") as file:
            if file.read().strip() != "kvm-migrate":
                return 0
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return max((int(line.split()[1]) for line in file if line.startswith("VmHWM:")), default=0)
    except OSError:
        return 0


def suite():
    definition = {"name": "web1", "beparams": {"memory": 128, "vcpus": 1},
                  "hvparams": {"kvm_flag": "disabled", "kernel_path": BUILD + "/guest/vmlinuz",
                               "initrd_path": BUILD + "/guest/initrd.gz", "kernel_args": "ro quiet panic=-1 tsc=unstable"}}
    with open(DIR + "/web1.json", "w", encoding="utf-8") as file:
        json.dump(definition, file)
    environment = {side: dict(os.environ, KVM_RUN_DIR=f"{DIR}/run/{side}", KVM_CONF_DIR=f"{DIR}/conf") for side in "ab"}
    subprocess.run(["ip", "netns", "exec", SPACES["a"], BUILD + "/kvm-start", DIR + "/web1.json"], check=True,
                   env=environment["a"], stdout=subprocess.DEVNULL)
    ready(f"{DIR}/run/a/ctrl/web1.serial")
    remote = f"ip netns exec {SPACES['b']} env KVM_RUN_DIR={DIR}/run/b KVM_CONF_DIR={DIR}/conf PATH={BUILD}:/usr/bin:/bin:/usr/sbin:/sbin"
    with open(f"{DIR}/run/a/events/web1.jsonl", encoding="utf-8") as events:
        process = subprocess.Popen(
            ["ip", "netns", "exec", SPACES["a"], BUILD + "/kvm-migrate", "web1", "to", "10.9.0.2", "--remote", remote,
             "--plain-tcp", "--bandwidth", str(BANDWIDTH), "--downtime", "30", "--port", "0"],
            env=environment["a"], stdout=subprocess.DEVNULL)
        peak = 0
        while process.poll() is None:
            peak = max(peak, highest(process.pid))
            time.sleep(0.05)
        if process.returncode != 0:
            sys.exit(f"bench: kvm-migrate: exit status {process.returncode}")
        stop = stamp(events, "STOP")
        # From the first word about the copy to the last: what query-migrate calls total.
        events.seek(0)
        phases = {event["data"]["status"]: event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
                  for event in map(json.loads, events) if event.get("event") == "MIGRATION"}
    with open(f"{DIR}/run/b/events/web1.jsonl", encoding="utf-8") as events:
        down = stamp(events, "RESUME") - stop
    subprocess.run(["ip", "netns", "exec", SPACES["b"], BUILD + "/kvm-stop", "--force", "web1"], check=True,
                   env=environment["b"], stdout=subprocess.DEVNULL)
    return (phases["completed"] - phases["setup"]) * 1000, down * 1000, peak


def main():
    os.mkdir(DIR + "/conf", 0o700)
    os.mkdir(DIR + "/run", 0o700)
    run("mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", DIR + "/run")  # as /run is
    for space in SPACES.values():
        run("ip", "netns", "add", space)
        run("ip", "-n", space, "link", "set", "lo", "up")
    run("ip", "link", "add", "wire-a", "netns", SPACES["a"], "type", "veth", "peer", "name", "wire-b", "netns", SPACES["b"])
    for side, address in (("a", "10.9.0.1/24"), ("b", "10.9.0.2/24")):
        run("ip", "-n", SPACES[side], "address", "add", address, "dev", "wire-" + side)
        run("ip", "-n", SPACES[side], "link", "set", "wire-" + side, "up")
    plain, ours = [], []
    suite()  # each node looks at its QEMU once, which is not what is measured
    for _ in range(ROUNDS):
        plain.append(bare())
        ours.append(suite())
    failed = False
    for index, what in enumerate(("total", "downtime")):
        left, right = (statistics.median(row[index] for row in rows) for rows in (ours, plain))
        print(f"migrate {what:10} {left:8.1f} ms   bare QMP {right:8.1f} ms   ratio {left / right:5.2f}   limit {LIMITS[what]:.2f}")
        failed = failed or left / right > LIMITS[what]
    peak = max(row[2] for row in ours)
    print(f"migrate memory {peak} KiB   limit {PEAK_LIMIT_KIB}")
    return 1 if failed or peak > PEAK_LIMIT_KIB else 0


try:
    CODE = main()
finally:
    subprocess.run([os.path.dirname(os.path.abspath(__file__)) + "/sweep", DIR], check=False)
    shutil.rmtree(DIR, ignore_errors=True)
sys.exit(CODE)
