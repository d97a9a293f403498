"""Executes a program for which some system calls fail: without ERRNO FIRST-LAST[,FIRST-LAST...] PROG [ARGS...].

What a kernel of an earlier time does (ENOSYS), or a container whose seccomp filter does not know the calls (EPERM).
From 424 on, the numbers are the same on all machines.
"""

import ctypes
import errno
import os
import struct
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
# See linux/bpf_common.h and linux/seccomp.h. The number of the call is the first word of what is judged.
LOAD, JUMP_IF_MORE, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x25, 0x35, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000

code = getattr(errno, sys.argv[1])
lines = [(LOAD, 0, 0, 0)]
for part in sys.argv[2].split(","):
    first, last = part.split("-")
    lines.append((JUMP_IF_AT_LEAST, 0, 2, int(first)))
    lines.append((JUMP_IF_MORE, 1, 0, int(last)))
    lines.append((RETURN, 0, 0, FAIL | code))
lines.append((RETURN, 0, 0, ALLOW))
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("lines", ctypes.c_void_p)]


program = Program(len(lines), ctypes.addressof(text))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
    PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
):
    sys.exit(f"without: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[3], sys.argv[3:])
