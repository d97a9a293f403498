"""Traces every process of its own user that it can, as an agent could that somebody talked into it.

Arguments: the directory of files that are root's alone. Prints a line for each thing of root's that a process has:
a descriptor of such a file, or a terminal of another user's, on which it then tries to type. Ends by SIGTERM, with the
number of the processes that it has traced.
"""

import ctypes
import os
import platform
import signal
import sys

SEIZE, INTERRUPT, DETACH, SINGLESTEP, GETREGS, SETREGS, POKEDATA = 0x4206, 0x4207, 17, 9, 12, 13, 5
TIOCSTI, IOCTL = 0x5412, 16
# struct user_regs_struct of x86-64, by the places of what is used here.
RAX, RDX, RSI, RDI, ORIG_RAX, RIP, RSP = 10, 12, 13, 14, 15, 16, 19
TEXT = b"typed by hermes\n"

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
Registers = ctypes.c_ulong * 27

found = set()
traced = set()
typed = set()


def ptrace(request, pid, address=None, data=None):
    return libc.ptrace(request, pid, address, data) == 0


def report(what, pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
    line = f"{what} in {b' '.join(words).decode().strip()}"
    if line not in found:
        found.add(line)
        print(line, flush=True)


def type_on(pid, descriptor):
    """Has a stopped process push a line into a terminal, as if it was typed there."""
    if platform.machine() != "x86_64" or pid in typed:
        return
    typed.add(pid)
    saved = Registers()
    if not ptrace(GETREGS, pid, None, ctypes.byref(saved)):
        return
    for byte in TEXT:
        registers = Registers(*saved)
        place = (saved[RSP] - 512) & ~7
        ptrace(POKEDATA, pid, place, byte)
        # It was stopped in a system call, whose instruction is still there.
        registers[RIP] -= 2
        registers[RAX], registers[RDI], registers[RSI], registers[RDX] = IOCTL, descriptor, TIOCSTI, place
        registers[ORIG_RAX] = 2**64 - 1
        ptrace(SETREGS, pid, None, ctypes.byref(registers))
        ptrace(SINGLESTEP, pid)
        os.waitpid(pid, 0x40000000)
    ptrace(SETREGS, pid, None, ctypes.byref(saved))


def look(pid, roots):
    """Looks at what a stopped process has."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        controlling = file.read().rpartition(b")")[2].split()[4]
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        target = os.readlink(path)
        if target.startswith(roots):
            report(f"descriptor {name} of {target}", pid)
        if target.startswith(("/dev/pts/", "/dev/console", "/dev/tty")) and os.stat(path).st_uid != os.getuid():
            report(f"descriptor {name} of root's terminal", pid)
            type_on(pid, int(name))
    if os.readlink(f"/proc/{pid}/cwd").startswith(roots):
        report("root's working directory", pid)
    if controlling != b"0":
        name = f"/dev/pts/{int(controlling) & 0xFF | int(controlling) >> 12 & 0xFFF00}"
        if not os.path.exists(name) or os.stat(name).st_uid != os.getuid():
            report("root's controlling terminal", pid)


def trace(pid, roots):
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.getuid() or not ptrace(SEIZE, pid):
            return
    except OSError:
        return
    traced.add(pid)
    # A stop that leaves nothing behind, as the SIGSTOP of PTRACE_ATTACH may.
    try:
        ptrace(INTERRUPT, pid)
        _, status = os.waitpid(pid, 0x40000000)
        if os.WIFSTOPPED(status):
            look(pid, roots)
    except OSError:
        pass
    ptrace(DETACH, pid)


def main():
    spared = {int(pid) for pid in os.listdir("/proc") if pid.isdigit()}
    is_over = []
    signal.signal(signal.SIGTERM, lambda *_: is_over.append(True))
    print("ready", flush=True)
    while not is_over:
        for pid in os.listdir("/proc"):
            if pid.isdigit() and int(pid) not in spared:
                trace(int(pid), sys.argv[1])
    print(f"traced {len(traced)}", flush=True)


main()
