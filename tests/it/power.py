"""Cuts the power between two system calls of a command, and looks at what is on the disk then.

Who runs me: power.rs, as root, in a mount namespace of my own, in the directory of a test. Argument: the program
hermes-s6. Prints a line for each fault, and last how many points there were.

The disk is a file with an ext4. A command is stopped by strace behind one of its system calls; then the file is copied
twice: as the kernel has left it so far, and after a sync. Both have to be whole, and to have what was acknowledged.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERMES_S6 = sys.argv[1]
HOME = Path(os.environ["HERMES_HOME"])
CODER = HOME / "profiles/coder/gateway_state.json"
PORTS = HOME / ".hermes-s6-ports.json"
USER = {"user": 65534, "group": 65534, "extra_groups": []}
PATIENCE = 120

# The number of a call that no command comes to; strace knows no higher one.
NEVER = 65535

# The calls after which a disk can be another one.
CALLS = (
    "openat,write,pwrite64,writev,ftruncate,fallocate,fsync,fdatasync,syncfs,rename,renameat,renameat2,unlink,unlinkat,"
    "mkdir,mkdirat,link,linkat,symlinkat,fchmod,fchmodat,fchown,fchownat,utimensat"
)


def hermes_s6(*words):
    subprocess.run([HERMES_S6, *words], check=True, stdout=subprocess.DEVNULL, **USER)


def restore(path, content):
    path.write_bytes(content)
    os.chown(path, 65534, 65534)


class Cut:
    """A command, what has to be true before it, and what may be on the disk before and after it."""

    def __init__(self, words, before, intents, ports):
        self.words, self.before = words.split(), before
        self.intents, self.ports = intents, ports


def without_late():
    hermes_s6("unregister", "-p", "late")
    restore(PORTS, ports_of_coder)


def without_intent():
    restore(CODER, b'{"kind":"kept","gateway_state":"running"}')
    restore(PORTS, ports_of_coder)
    shutil.rmtree("other", ignore_errors=True)


BOTH = {"coder", "late"}
CUTS = [
    Cut("start -p coder", lambda: hermes_s6("stop", "-p", "coder"), ("stopped", "running"), (BOTH, BOTH)),
    Cut("stop -p coder", lambda: hermes_s6("start", "-p", "coder"), ("running", "stopped"), (BOTH, BOTH)),
    Cut("register -p late", without_late, ("stopped", "stopped"), ({"coder"}, BOTH)),
    Cut(f"reconcile --scandir {Path.cwd()}/other", without_intent, (None, "running"), ({"coder"}, BOTH)),
]


def calls_on_the_volume(words):
    """Runs a command, and gives the numbers of the calls that can change the volume."""
    trace = ["strace", "-qq", "-y", "-o", "told", "-e", f"trace={CALLS}"]
    subprocess.run([*trace, HERMES_S6, *words], check=True, stdout=subprocess.DEVNULL, **USER)
    lines = Path("told").read_text(errors="replace").splitlines()
    calls = [line for line in lines if not line.startswith("---")]
    changes = [str(HOME) in call and (not call.startswith("openat(") or "O_CREAT" in call) for call in calls]
    return [number for number, is_change in enumerate(changes, 1) if is_change]


def stop_behind(words, call):
    """Runs a command as far as a system call, given by its number; None if it ends before."""
    told = Path("told")
    told.unlink(missing_ok=True)
    trace = ["strace", "-qq", "-o", "told", "-e", f"trace={CALLS}", "-e", f"inject={CALLS}:signal=STOP:when={call}"]
    strace = subprocess.Popen([*trace, HERMES_S6, *words], stdout=subprocess.DEVNULL, **USER)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if told.exists() and "stopped by SIGSTOP" in told.read_text(errors="replace"):
            return strace
        code = strace.poll()
        if code is not None:
            if code != 0:
                raise SystemExit(f"{words} ended with {code}")
            return None
        time.sleep(0.002)
    raise SystemExit(f"{words} does not end")


def kill(strace):
    children = Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text().split()
    for pid in children:
        os.kill(int(pid), 9)
    strace.wait(PATIENCE)


def copies():
    for name, sync in ("as the kernel has left it", False), ("after a sync", True):
        if sync:
            subprocess.run(["sync", "-f", HOME], check=True)
        subprocess.run(["cp", "--sparse=always", "disk", "copy"], check=True)
        subprocess.run(["mount", "-o", "loop", "copy", "after"], check=True)
        try:
            yield name, Path("after")
        finally:
            subprocess.run(["umount", "after"], check=True)


def look(cut, is_done):
    """Gives what is wrong with the disk."""
    for when, disk in copies():
        try:
            state = json.loads((disk / CODER.relative_to(HOME)).read_bytes())
            intent = state.get("desired_state")
            ports = set(json.loads((disk / PORTS.relative_to(HOME)).read_bytes()))
            whole = state["kind"] in ("kept", "hermes-gateway")
        except (OSError, ValueError, KeyError) as error:
            yield f"{when}: {error!r}"
            continue
        if not whole:
            yield f"{when}: the state file has lost what others wrote: {state}"
        possible = cut.intents[is_done:]
        if intent not in possible:
            yield f"{when}: the intent is {intent}, and not one of {possible}"
        if not any(ports == expected for expected in cut.ports[is_done:]):
            yield f"{when}: ports of {ports}, and not one of {cut.ports[is_done:]}"


subprocess.run(["truncate", "-s", "16M", "disk"], check=True)
subprocess.run(["mkfs.ext4", "-q", "disk"], check=True)
# Without the option, the kernel writes every five seconds, and what was forgotten would be there by chance.
subprocess.run(["mount", "-o", "loop,commit=600", "disk", HOME], check=True)
Path("after").mkdir()
for name in BOTH:
    (HOME / "profiles" / name).mkdir(parents=True)
(CODER.parent / "SOUL.md").touch()
CODER.write_text('{"kind":"kept","gateway_state":"stopped"}')
subprocess.run(["chown", "-R", "65534:65534", HOME], check=True)
tree = subprocess.Popen([HERMES_S6, "supervise"], **USER)
try:
    while subprocess.run([HERMES_S6, "detect"], stdout=subprocess.DEVNULL, **USER).returncode:
        time.sleep(0.05)
    hermes_s6("stop", "-p", "coder")
    ports_of_coder = PORTS.read_bytes()
    (HOME / "profiles/late/SOUL.md").touch()
    hermes_s6("reconcile")
    points = 0
    for cut in CUTS:
        cut.before()
        calls = calls_on_the_volume(cut.words)
        # And once without an interruption.
        for call in [*calls, NEVER]:
            cut.before()
            subprocess.run(["sync", "-f", HOME], check=True)
            strace = stop_behind(cut.words, call)
            points += 1
            for fault in look(cut, strace is None):
                behind = f"behind call {call}" if strace else "when it has ended"
                print(f"fault: {' '.join(cut.words)}, {behind}: {fault}")
            if strace is not None:
                kill(strace)
    print(f"{points} points")
finally:
    tree.terminate()
    tree.wait(PATIENCE)
