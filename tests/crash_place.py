# SPDX-License-Identifier: BSD-2-Clause
"""The place that tests/crash works in: a run directory, hook scripts that keep the books, definitions; what can be
seen there, and what must hold after a kill at any moment and in each final state."""
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time

TESTS = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("KVM_SUITE_BUILD", os.path.join(os.path.dirname(TESTS), "build"))
GUEST = os.environ.get("KVM_SUITE_GUEST", os.path.join(BUILD, "guest"))
NAME = "crash1"
NICS = ["0a0b0c0d-2573-4112-8b0a-222222222222", "1a1b1c1d-2573-4112-8b0a-333333333333"]
LIMIT_S = 60
UID = 61234


class Failure(Exception):
    pass


class Place:
    """A run directory, a configuration with ifup and ifdown scripts that keep the books, and the definitions."""

    def __init__(self, path):
        self.path = path
        self.run = os.path.join(path, "run")
        self.conf = os.path.join(path, "conf")
        self.books = os.path.join(path, "books")
        self.lasting = os.path.join(path, "lasting")
        self.trace = os.path.join(path, "trace")
        for directory in (self.conf, self.books, self.lasting):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        # A directory for each configured tap: made by ifup, removed by ifdown, each in one system call. ifdown
        # also comes for a tap whose ifup was interrupted, so a missing one is no fault.
        self.script("kvm-ifup-custom", f'mkdir "{self.books}/$1" || echo "$1" >>"{self.path}/twice"')
        self.script("kvm-ifdown-custom", f'rmdir "{self.books}/$1" 2>/dev/null || true')
        self.write("conf/kvm-defaults.json", {"uid_pool": str(UID)})
        with open(os.path.join(path, "disk.img"), "wb") as image:
            image.truncate(1 << 20)
        os.chown(image.name, UID, UID)
        os.chmod(path, 0o711)
        self.definitions = {
            name: self.write(f"{name}.json", make(path)) for name, make in
            (("plain", plain), ("full", full), ("guest", guest), ("second", second), ("lasting", lasting))
        }
        self.environment = dict(os.environ, KVM_RUN_DIR=self.run, KVM_CONF_DIR=self.conf,
                                KVM_STATE_DIR=os.path.join(self.lasting, "state"), LC_ALL="C")

    def script(self, name, text):
        path = os.path.join(self.conf, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)

    def write(self, name, value):
        path = os.path.join(self.path, name)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(value, file)
        return path

    def words(self, words):
        """The command with its program's path, and the name of a definition made its file."""
        return [os.path.join(BUILD, words[0])] + [self.definitions.get(word, word) for word in words[1:]]

    def command(self, *words):
        """Runs it: exit status and all it said."""
        done = subprocess.run(self.words(words), env=self.environment, stdin=subprocess.DEVNULL, timeout=LIMIT_S,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        text = done.stdout.decode(errors="replace").strip()
        if done.returncode < 0 or done.returncode > 6:
            raise Failure(f"{' '.join(words)}: ended with {done.returncode}: {text}")
        return done.returncode, text

    def need(self, *words):
        status, text = self.command(*words)
        if status != 0:
            raise Failure(f"{' '.join(words)}: exit {status}: {text}")

    # ---- what is there ----

    def processes(self):
        """pid → program name, of all that hold a file of this place open or name it; strace and ourselves aside.
        QEMU gets its files as descriptors, so its command line alone would not tell."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = os.fsdecode(file.read()).split("\0")
                names = words + open_files(pid)
            except OSError:
                continue
            program = os.path.basename(words[0])
            if program not in ("strace", "python3", "") and any(self.path + "/" in name for name in names):
                found[int(pid)] = program
        return found

    def qemus(self):
        return [pid for pid, program in self.processes().items() if program.startswith("qemu-system")]

    def taps(self):
        with open("/proc/net/dev", encoding="ascii") as file:
            return [line.split(":")[0].strip() for line in file.readlines()[2:] if not re.match(r" *lo:", line)]

    def configured(self):
        return sorted(os.listdir(self.books))

    def files(self):
        """Everything in the run directory but its directories, locks and the cache, which belongs to no instance."""
        found = []
        for directory, subs, names in os.walk(self.run):
            relative = os.path.relpath(directory, self.run)
            if relative in (".", "next"):  # next: where a QEMU in place of another one begins, a run directory as well
                subs[:] = [name for name in subs if name not in ("lock", "cache")]
            elif relative.startswith("next/") and not names:
                found += [os.path.join(relative, name) for name in subs]
            else:
                found += [os.path.join(relative, name) for name in names + subs]
        return sorted(found)

    def recorded_state(self):
        """In the runtime file; None: there is none."""
        try:
            with open(os.path.join(self.run, "conf", NAME + ".runtime"), encoding="utf-8") as file:
                return json.load(file)[4]["state"]
        except FileNotFoundError:
            return None

    def reset_quarantine(self):
        quarantine = os.path.join(self.run, "chroot-quarantine")
        for name in os.listdir(quarantine):
            os.unlink(os.path.join(quarantine, name))

    def lasting_files(self):
        """What outlives an instance, and what is beside it."""
        found = []
        for directory, subs, names in os.walk(self.lasting):
            relative = os.path.relpath(directory, self.lasting)
            found += [os.path.join(relative, name) for name in names]
            found += [os.path.join(relative, name) for name in subs if relative == "state/tpm"]
        return sorted(found)

    def wait(self, what, predicate, seconds=10):
        end = time.monotonic() + seconds
        while not predicate():
            if time.monotonic() > end:
                raise Failure(f"not within {seconds} s: {what}")
            time.sleep(0.005)

    def reset(self, entirely=False):
        """Back to nothing, by force. What the probe found out is kept, unless `entirely`."""
        for _ in range(100):
            left = self.processes()
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if not left:
                break
            time.sleep(0.01)
        if entirely:
            shutil.rmtree(self.run, ignore_errors=True)
        for name in self.files():
            path = os.path.join(self.run, name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.lexists(path):
                os.unlink(path)
        shutil.rmtree(self.lasting)
        os.mkdir(self.lasting)
        for tap in self.configured():
            os.rmdir(os.path.join(self.books, tap))
        if os.path.exists(os.path.join(self.path, "twice")):
            os.unlink(os.path.join(self.path, "twice"))

    # ---- what must hold ----

    def check_always(self):
        """After a kill at any moment."""
        if len(self.qemus()) > 1:
            raise Failure(f"{len(self.qemus())} QEMUs run")
        if os.path.exists(os.path.join(self.path, "twice")):
            raise Failure("ifup ran twice for a tap without an ifdown between")
        if len([name for name in self.files() if name.endswith(".tmp")]) > 1:
            raise Failure(f"more than one temporary file: {self.files()}")
        runtime = os.path.join(self.run, "conf", NAME + ".runtime")
        if os.path.lexists(runtime):
            status = os.lstat(runtime)
            if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o777 != 0o600 or status.st_nlink != 1:
                raise Failure("the runtime file is not a regular file of mode 0600 with one link")
            with open(runtime, encoding="utf-8") as file:
                try:
                    json.load(file)
                except ValueError as fault:
                    raise Failure(f"the runtime file is torn: {fault}") from None
        self.wait("kvm-info agrees with the processes", self.info_agrees)

    def info_agrees(self):
        alive = bool(self.qemus())
        status, text = self.command("kvm-info", NAME)
        if status not in (0, 3):
            raise Failure(f"kvm-info: exit {status}: {text}")
        return (status == 0) == alive

    def check_running(self):
        self.check_live("running")
        temporary = [name for name in self.files() if name.endswith(".tmp")]
        if temporary:
            raise Failure(f"temporary files: {temporary}")
        with open(os.path.join(self.run, "conf", NAME + ".runtime"), encoding="utf-8") as file:
            ours = json.load(file)[4]
        if ours["state"] != "running" or ours["pid"] != self.qemus()[0]:
            raise Failure(f"the runtime file says {ours['state']}, pid {ours['pid']}")

    def check_live(self, *good):
        if len(self.qemus()) != 1:
            raise Failure(f"{len(self.qemus())} QEMUs run, not one")
        status = self.status_of_qemu()
        if status not in good:
            raise Failure(f"QEMU is {status}, not running")
        if len(self.configured()) != len(NICS) or sorted(self.taps()) != self.configured():
            raise Failure(f"configured are {self.configured()}, taps there are {self.taps()}")

    def status_of_qemu(self):
        monitor = socket.socket(socket.AF_UNIX)
        monitor.settimeout(10)
        monitor.connect(os.path.join(self.run, "ctrl", NAME + ".query"))
        with monitor, monitor.makefile("rw") as stream:
            stream.readline()
            for call in ("qmp_capabilities", "query-status"):
                stream.write(json.dumps({"execute": call, "id": call}) + "\n")
                stream.flush()
                reply = {}
                while reply.get("id") != call:
                    reply = json.loads(stream.readline())
        return reply["return"]["status"]

    def check_nothing(self):
        self.wait("all processes have ended", lambda: not self.processes())
        if self.configured():
            raise Failure(f"ifdown did not run for {self.configured()}")
        # The kernel takes down what a process held after the process is seen no more.
        try:
            self.wait("no tap is left", lambda: not self.taps())
        except Failure:
            raise Failure(f"taps left: {self.taps()}") from None
        if self.files():
            raise Failure(f"files left: {self.files()}")


# ---- definitions ----

def plain(_):
    """Nothing to boot: QEMU runs its firmware and is killed when it is to end."""
    return {"name": NAME, "uuid": "7c079136-2573-4112-8b0a-111111111111",
            "hvparams": {"kvm_flag": "disabled", "acpi": False, "kernel_path": "", "initrd_path": ""},
            "beparams": {"memory": 16, "vcpus": 1},
            "nics": [{"uuid": uuid, "nicparams": {"mode": "bridged", "link": "none"}} for uuid in NICS]}


def full(path):
    """Everything that leaves something on the node."""
    definition = plain(path)
    definition["hvparams"].update(security_model="pool", use_chroot=True)
    definition["disks"] = [{"path": os.path.join(path, "disk.img")}]
    return definition


def guest(path):
    definition = plain(path)
    definition["hvparams"].update(acpi=True, kernel_path=os.path.join(GUEST, "vmlinuz"),
                                  initrd_path=os.path.join(GUEST, "initrd.gz"),
                                  kernel_args="ro quiet panic=-1 tsc=unstable")
    definition["beparams"]["memory"] = 128
    return definition


def lasting(path):
    """With what outlives an instance, and not where it would lie by itself."""
    definition = plain(path)
    definition["hvparams"].update(machine_version="q35", firmware="uefi", tpm="crb",
                                  nvram_path=os.path.join(path, "lasting", "my.fd"))
    return definition


def second(path):
    definition = plain(path)
    definition.update(name="crash2", uuid="8c079136-2573-4112-8b0a-111111111111", nics=[])
    return definition


# ---- /proc ----

def open_files(pid):
    names = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
        except OSError:
            pass  # closed meanwhile
    return names


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0
