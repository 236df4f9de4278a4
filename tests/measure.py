#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""measure.py DIR BUILD ROUNDS: what tests/bench measures, printed as a table. Run by tests/bench."""
import fcntl
import json
import os
import re
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

import measure_hotplug

DIR, BUILD, ROUNDS = sys.argv[1], sys.argv[2], int(sys.argv[3])
RUN = os.environ["KVM_RUN_DIR"]
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000
ENTRIES = 1000
NOBODY = 4194305  # above the highest pid that Linux gives
peaks = {}


def program(name, *words, keep=True):
    """Run one of the suite's programs; its times, after keeping its peak memory. What the kernel tells is the
    highest of the program and the children that it waited for."""
    command = [BUILD + "/tests/measure", BUILD + "/" + name, *words]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if result["status"] != 0:
        again = subprocess.run(command[1:], capture_output=True, text=True)
        sys.exit(f"bench: {' '.join(command[1:])}: exit status {result['status']}; repeated: {again.stderr}")
    if keep:
        peaks[name] = max(peaks.get(name, 0), result["peak_kib"])
    return result


def event_time(path, name):
    """When the last event of that name was, as QEMU wrote it."""
    found = None
    for line in open(path, encoding="utf-8"):
        event = json.loads(line)
        if event.get("event") == name:
            found = event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
    if found is None:
        sys.exit(f"bench: {path}: no event {name}")
    return found


def milliseconds(seconds):
    return seconds * 1000


def definition():
    guest = BUILD + "/guest"
    value = {
        "name": "web1",
        "hvparams": {"kvm_flag": "disabled", "kernel_path": guest + "/vmlinuz", "initrd_path": guest + "/initrd.gz",
                     "kernel_args": "ro quiet panic=-1 tsc=unstable"},
        "beparams": {"memory": 128, "vcpus": 1},
        "disks": [],
        "nics": [{"nicparams": {"mode": "bridged", "link": "br0"}}],
    }
    for index in range(2):
        path = f"{DIR}/disk{index}.img"
        with open(path, "wb") as image:
            image.truncate(64 << 20)
        value["disks"].append({"path": path})
    with open(DIR + "/web1.json", "w", encoding="utf-8") as file:
        json.dump(value, file)
    return DIR + "/web1.json"


def elapsed(result):
    return milliseconds(result["ended"] - result["began"])


def start_once(file, keep=True):
    """From the exec of kvm-start to QEMU's RESUME, and to the end of kvm-start."""
    result = program("kvm-start", file, keep=keep)
    resumed = event_time(RUN + "/events/web1.jsonl", "RESUME")
    program("kvm-stop", "--force", "web1")
    return milliseconds(resumed - result["began"]), elapsed(result)


def open_tap():
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"bare0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    subprocess.run(["ip", "link", "set", "bare0", "master", "br0", "up"], check=True)
    return tap


def bare_words(plan):
    """The command of kvm-start --dry-run with descriptors of our own in it, and the path of its first monitor."""
    disks = {"disk-" + "-".join(d["uuid"].split("-")[:3]): d["path"] for d in plan["definition"]["disks"]}
    words, held, monitor = [], [], None
    for index, word in enumerate(plan["command"]):
        before = plan["command"][index - 1]
        if before == "-chardev" and ",fd=" in word:
            listener = socket.socket(socket.AF_UNIX)
            path = f"{DIR}/bare{len(held)}"
            if os.path.exists(path):
                os.unlink(path)
            listener.bind(path)
            listener.listen(1)
            monitor = monitor or path
            fd = listener.detach()
            word = re.sub(r"fd=\d+", f"fd={fd}", word)
        elif before == "-add-fd":
            opaque = re.search(r"opaque=(.*)", word).group(1)
            flags = os.O_RDWR if opaque in disks else os.O_WRONLY | os.O_APPEND | os.O_CREAT
            fd = os.open(disks.get(opaque, DIR + "/bare.events"), flags)
            word = re.sub(r"fd=\d+", f"fd={fd}", word, count=1)
        elif before == "-netdev":
            fd = open_tap()
            word = re.sub(r'"fd":"\d+"', f'"fd":"{fd}"', word)
        else:
            words.append(word)
            continue
        os.set_inheritable(fd, True)
        held.append(fd)
        words.append(word)
    return words, held, monitor


def bare_once(plan):
    """From exec to the answer of cont, with everything prepared that kvm-start has to prepare."""
    words, held, path = bare_words(plan)
    with open(os.devnull, "r+b") as nowhere:
        files = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), fd) for fd in range(3)]
        began = time.time()
        pid = os.posix_spawn(words[0], words, os.environ, file_actions=files)
    monitor = socket.socket(socket.AF_UNIX)
    monitor.connect(path)
    stream = monitor.makefile("rw")
    stream.readline()
    for command in ("qmp_capabilities", "cont"):
        stream.write(json.dumps({"execute": command}) + "\n")
        stream.flush()
        while "return" not in json.loads(stream.readline()):
            pass
    ended = time.time()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for fd in held:
        os.close(fd)
    return milliseconds(ended - began)


def stop_once(file):
    """What kvm-stop adds to the guest's own end: from the end of QEMU, which follows SHUTDOWN by the time that QEMU takes
    to close, to the end of kvm-stop."""
    program("kvm-start", file)
    with open(RUN + "/pid/web1", encoding="ascii") as pid:
        qemu = os.pidfd_open(int(pid.read()))
    subprocess.run([BUILD + "/tests/serial-talk", RUN + "/ctrl/web1.serial", "90", "true"], check=True)
    gone = []

    def watch():
        select.select([qemu], [], [])
        gone.append(time.time())

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = program("kvm-stop", "web1")
    watcher.join()
    os.close(qemu)
    return milliseconds(result["ended"] - gone[0])


def fill_run_directory():
    """A thousand instances that died: runtime file, pid file and event log each."""
    for number in range(ENTRIES):
        name = f"i{number:04}"
        for directory, ending in (("conf", ".runtime"), ("pid", ""), ("events", ".jsonl")):
            with open(f"{RUN}/{directory}/web1{ending}", encoding="utf-8") as file:
                text = re.sub(r'"pid": ?\d+', f'"pid": {NOBODY}', file.read().replace("web1", name))
            path = f"{RUN}/{directory}/{name}{ending}"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
                file.write(text)


def median_of(function, *arguments):
    return statistics.median(function(*arguments) for _ in range(ROUNDS))


def info_times():
    one = median_of(lambda: elapsed(program("kvm-info", "web1")))
    fill_run_directory()
    many = median_of(lambda: elapsed(program("kvm-info")))
    return one, many


def run_others(file):
    """For their memory: what the other measurements do not run."""
    program("kvm-cleanup", "--explain", "--all")
    program("kvm-hotplug", "web1", "list")


def main():
    file = definition()
    plan = json.loads(subprocess.run([BUILD + "/kvm-start", "--dry-run", "--json", file], check=True,
                                     capture_output=True, text=True).stdout)[0]
    # A start asks a QEMU what it can do, a child of 30 MiB, until the answer is in the run directory's cache; the
    # first one of all still has no run directory when it plans.
    start_once(file, keep=False)
    start_once(file, keep=False)
    ours, bare = [], []
    for _ in range(ROUNDS):
        ours.append(start_once(file))
        bare.append(bare_once(plan))
    start, whole = (statistics.median(column) for column in zip(*ours))
    floor = statistics.median(bare)
    stop = median_of(stop_once, file)
    program("kvm-start", file)
    measure_hotplug.guest_until(RUN, BUILD, "true")  # in early boot QEMU has no time for a monitor
    one, many = info_times()
    run_others(file)
    with open(DIR + "/plugged.img", "wb") as image:
        image.truncate(64 << 20)
    plugging = measure_hotplug.rows(program, RUN, BUILD, DIR + "/plugged.img", ROUNDS)
    program("kvm-stop", "--force", "web1")

    rows = [
        ("kvm-start until the CPUs run, to bare QEMU", start / floor, "x", 1.25),
        ("kvm-stop, own time after the guest's SHUTDOWN", stop, "ms", 20),
        ("kvm-info, one instance", one, "ms", 5),
        (f"kvm-info, {ENTRIES} instances", many, "ms", 100),
    ]
    rows += plugging
    rows += [(f"{name}, peak memory", kib / 1024, "MiB", 8) for name, kib in sorted(peaks.items())]
    print(f"medians of {ROUNDS}: kvm-start until the CPUs run {start:.1f} ms, until it ends {whole:.1f} ms; "
          f"bare QEMU from exec to cont {floor:.1f} ms")
    print(f"{'':44} {'measured':>12} {'limit':>10}")
    over = 0
    for what, value, unit, limit in rows:
        over += value > limit
        print(f"{what:44} {value:8.2f} {unit:3} {limit:6} {unit:3} {'over' if value > limit else 'ok'}")
    return 1 if over else 0


sys.exit(main())
