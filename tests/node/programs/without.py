"""A kernel that refuses a command of bpf(2), as one that does not know it: `without.py COMMAND ERROR PROGRAM WORD...`.

COMMAND is a number of `enum bpf_cmd`, ERROR a name such as EINVAL. By a filter of seccomp(2), which stays with the program.
"""
import ctypes
import errno
import os
import platform
import struct
import sys

BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000

command, error = int(sys.argv[1]), getattr(errno, sys.argv[2])
filters = [
    (LOAD, 0, 0, 0),  # the number of the system call
    (EQUALS, 0, 3, BPF),
    (LOAD, 0, 0, 16),  # its first argument
    (EQUALS, 0, 1, command),
    (RETURN, 0, 0, REFUSE | error),
    (RETURN, 0, 0, ALLOW),
]
octets = b"".join(struct.pack("HBBI", *one) for one in filters)
code = ctypes.create_string_buffer(octets, len(octets))


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filters", ctypes.c_void_p)]


libc = ctypes.CDLL(None, use_errno=True)
program = Program(len(filters), ctypes.cast(code, ctypes.c_void_p))
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[3], sys.argv[3:])
