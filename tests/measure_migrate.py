#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""measure_migrate.py BUILD [ROUNDS]: kvm-migrate against the same migration driven by bare QMP, alternately in one run.

Two network namespaces with a link between them, the test guest with 128 MiB, idle, plain TCP, the same capabilities and
bandwidth; each of both guests goes to and fro. The guests are the same and lie in memory in the same way (nokaslr): how
much is under way when QEMU pauses the guest depends on where its 100 ms slices end. Their memory is there from the start
(-mem-prealloc): the target's kernel would clear it in the pause, 2 MiB in 0.1 to 6 ms, as the host's memory happens to be. Total is from the source's "setup" to the target's RESUME, downtime from
its STOP, by QEMU's own clock. The bare one makes do without votes and records, but takes the same steps otherwise:
return-path, a pause before the switch-over, a target that runs only when it is told. Exit status 1: a limit is passed."""
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
BANDWIDTH = 128
ADDRESS = {"a": "10.9.0.1", "b": "10.9.0.2"}
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

    def first(self, name, status):
        return next(event[1] for event in self.events if event[0] == name and event[2] == status)


def ready(path):
    subprocess.run([BUILD + "/tests/serial-talk", path, "90", "true"], check=True, stdout=subprocess.DEVNULL)


def bare_qemu(side, *more):
    here = f"{DIR}/bare-{side}"
    return subprocess.Popen(
        ["ip", "netns", "exec", SPACES[side], "qemu-system-x86_64", "-name", "web1", "-m", "128", "-mem-prealloc", "-machine", "pc",
         "-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-device", "VGA", "-device", "pvpanic",
         "-device", "virtio-balloon-pci", "-kernel", BUILD + "/guest/vmlinuz", "-initrd", BUILD + "/guest/initrd.gz",
         "-append", "ro quiet nokaslr panic=-1 tsc=unstable console=ttyS0", "-qmp", f"unix:{here}.qmp,server=on,wait=off",
         "-serial", f"unix:{here}.serial,server=on,wait=off", *more])


class Bare:
    """One guest that goes to and fro by QMP alone, in the order of steps that is safe: no vote, no record."""

    def __init__(self):
        self.side, self.process = "a", bare_qemu("a")
        self.monitor = Monitor(DIR + "/bare-a.qmp")
        ready(DIR + "/bare-a.serial")

    def move(self):
        side = "b" if self.side == "a" else "a"
        process = bare_qemu(side, "-S", "-incoming", "defer")
        here, there = self.monitor, Monitor(f"{DIR}/bare-{side}.qmp")
        for monitor, more in ((here, []), (there, ["late-block-activate"])):
            monitor.events.clear()
            monitor("migrate-set-capabilities",
                    capabilities=[{"capability": name, "state": True} for name in CAPABILITIES + more])
            monitor("migrate-set-parameters", **{"max-bandwidth": BANDWIDTH << 20, "downtime-limit": 30})
        there("migrate-incoming", uri=f"tcp:{ADDRESS[side]}:8102")
        here("migrate", uri=f"tcp:{ADDRESS[side]}:8102")
        here.wait("MIGRATION", "pre-switchover")
        here("migrate-continue", state="pre-switchover")
        here.wait("MIGRATION", "completed")
        there.wait("MIGRATION", "completed")
        there("cont")
        ran = there.wait("RESUME")
        times = ran - here.first("MIGRATION", "setup"), ran - here.wait("STOP")
        here("quit")
        self.process.wait()
        self.side, self.process, self.monitor = side, process, there
        return [seconds * 1000 for seconds in times]

    def end(self):
        self.monitor("quit")
        self.process.wait()


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


def stamps(file):
    """When each event was last, by QEMU's clock; those of MIGRATION by their phase."""
    file.seek(0)
    times = {}
    for event in map(json.loads, file):
        name = event.get("event")
        name = event["data"]["status"] if name == "MIGRATION" else name
        times[name] = event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
    return times


class Suite:
    """The same with kvm-migrate."""

    def __init__(self):
        definition = {"name": "web1", "beparams": {"memory": 128, "vcpus": 1},
                      "hvparams": {"kvm_flag": "disabled", "kernel_path": BUILD + "/guest/vmlinuz",
                                   "initrd_path": BUILD + "/guest/initrd.gz", "kernel_args": "ro quiet nokaslr panic=-1 tsc=unstable"}}
        with open(DIR + "/web1.json", "w", encoding="utf-8") as file:
            json.dump(definition, file)
        self.side, self.peak = "a", 0
        self.run("kvm-start", DIR + "/web1.json")
        ready(f"{DIR}/run/a/ctrl/web1.serial")

    def run(self, program, *words):
        subprocess.run(self.words(program, *words), check=True, env=self.environment(), stdout=subprocess.DEVNULL)

    def words(self, program, *words):
        return ["ip", "netns", "exec", SPACES[self.side], f"{BUILD}/{program}", *words]

    def environment(self):
        return dict(os.environ, KVM_RUN_DIR=f"{DIR}/run/{self.side}", KVM_CONF_DIR=f"{DIR}/conf")

    def move(self):
        side = "b" if self.side == "a" else "a"
        remote = (f"ip netns exec {SPACES[side]} env KVM_RUN_DIR={DIR}/run/{side} KVM_CONF_DIR={DIR}/conf "
                  f"PATH={BUILD}:/usr/bin:/bin:/usr/sbin:/sbin")
        with open(f"{DIR}/run/{self.side}/events/web1.jsonl", encoding="utf-8") as events:
            process = subprocess.Popen(
                self.words("kvm-migrate", "web1", "to", ADDRESS[side], "--remote", remote, "--plain-tcp", "--bandwidth",
                           str(BANDWIDTH), "--downtime", "30", "--port", "0"),
                env=self.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None:
                self.peak = max(self.peak, highest(process.pid))
                time.sleep(0.05)
            if process.returncode != 0:
                sys.exit(f"bench: kvm-migrate: exit status {process.returncode}")
            here = stamps(events)
        self.side = side
        with open(f"{DIR}/run/{side}/events/web1.jsonl", encoding="utf-8") as events:
            ran = stamps(events)["RESUME"]
        return [(ran - since) * 1000 for since in (here["setup"], here["STOP"])]

    def end(self):
        self.run("kvm-stop", "--force", "web1")


def main():
    os.mkdir(DIR + "/conf", 0o700)
    with open(DIR + "/conf/kvm-defaults.json", "w", encoding="utf-8") as file:
        json.dump({"hvparams": {"kvm_extra": "-mem-prealloc"}}, file)
    os.mkdir(DIR + "/run", 0o700)
    run("mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", DIR + "/run")  # as /run is
    for space in SPACES.values():
        run("ip", "netns", "add", space)
        run("ip", "-n", space, "link", "set", "lo", "up")
    run("ip", "link", "add", "wire-a", "netns", SPACES["a"], "type", "veth", "peer", "name", "wire-b", "netns", SPACES["b"])
    for side, address in ADDRESS.items():
        run("ip", "-n", SPACES[side], "address", "add", address + "/24", "dev", "wire-" + side)
        run("ip", "-n", SPACES[side], "link", "set", "wire-" + side, "up")
    bare, suite = Bare(), Suite()
    suite.move()  # each node looks at its QEMU once, which is not what is measured
    suite.move()
    plain, ours = zip(*((bare.move(), suite.move()) for _ in range(ROUNDS)))
    bare.end()
    suite.end()
    failed = False
    for index, what in enumerate(("total", "downtime")):
        left, right = (statistics.median(row[index] for row in rows) for rows in (ours, plain))
        over = left / right > LIMITS[what]
        failed = failed or over
        print(f"kvm-migrate, {what} {left:.1f} ms, bare QMP {right:.1f} ms".ljust(44) +
              f" {left / right:8.2f} x   {LIMITS[what]:6} x   {'over' if over else 'ok'}")
    failed = failed or suite.peak > PEAK_LIMIT_KIB
    print(f"{'kvm-migrate, peak memory':44} {suite.peak / 1024:8.2f} MiB {PEAK_LIMIT_KIB // 1024:6} MiB "
          f"{'over' if suite.peak > PEAK_LIMIT_KIB else 'ok'}")
    return 1 if failed else 0


try:
    CODE = main()
finally:
    subprocess.run([os.path.dirname(os.path.abspath(__file__)) + "/sweep", DIR], check=False)
    shutil.rmtree(DIR, ignore_errors=True)
sys.exit(CODE)
