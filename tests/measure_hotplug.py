# SPDX-License-Identifier: BSD-2-Clause
"""A disk into and out of a running guest: kvm-hotplug, and in turn with it a program that sends the same guest the
bare QMP sequence and does nothing else (tests/fake/bare-plug.c). Both from exec to their end. Used by measure.py."""
import json
import statistics
import subprocess

ROUNDS_LEAST = 60  # one add-disk in three meets the guest's own work and takes half as long again
DEVICE = "vdc"  # what the guest calls it: two disks are there
SLOT = 20


def guest_until(run, build, condition):
    subprocess.run([build + "/tests/serial-talk", run + "/ctrl/web1.serial", "90",
                    f"until {condition}; do sleep 0.02; done"], check=True, stdout=subprocess.DEVNULL)


def rows(program, run, build, image, rounds):
    """For the table. `program` runs one of the suite's programs and tells when it began and ended. The guest is up."""
    monitor = run + "/ctrl/web1.qmp"

    def elapsed(result):
        return (result["ended"] - result["began"]) * 1000

    def ours(*words):
        return elapsed(program("kvm-hotplug", "web1", *words))

    def bare(*words):
        command = [build + "/tests/measure", build + "/tests/bare-plug", monitor, *words]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        if result["status"] != 0:
            raise SystemExit(f"bench: {' '.join(command[1:])}: exit status {result['status']}")
        return elapsed(result)

    times = {name: [] for name in ("add", "bare add", "del", "bare del")}
    for _ in range(max(rounds, ROUNDS_LEAST)):
        for prefix, add, remove in (("", lambda: ours("add-disk", "path=" + image, "name=bench", f"slot={SLOT}"),
                                     lambda: ours("del-disk", "bench")),
                                    ("bare ", lambda: bare("add", image, hex(SLOT)), lambda: bare("del"))):
            times[prefix + "add"].append(add())
            guest_until(run, build, f"[ -b /dev/{DEVICE} ]")
            times[prefix + "del"].append(remove())
            guest_until(run, build, f"[ ! -e /dev/{DEVICE} ]")
    median = {name: statistics.median(column) for name, column in times.items()}
    print(f"medians of {len(times['add'])}: kvm-hotplug add-disk {median['add']:.1f} ms, del-disk {median['del']:.1f} ms; "
          f"bare QMP {median['bare add']:.1f} and {median['bare del']:.1f} ms")
    quarter = {name: statistics.quantiles(column)[0] for name, column in times.items()}
    print(f"a quarter of them within: add-disk {quarter['add']:.1f} ms, {quarter['add'] / quarter['bare add']:.2f} x bare QMP's")
    return [
        ("kvm-hotplug add-disk, to bare QMP", median["add"] / median["bare add"], "x", 1.5),
        ("kvm-hotplug del-disk, to bare QMP", median["del"] / median["bare del"], "x", 1.15),
    ]
