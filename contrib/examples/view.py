#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Read the membership view of a virtual cluster through libvcluster, without a system call per read.

As a program: prints the members, and the next views for as many changes as the first argument says.
"""
import ctypes
import os
import sys


class Member(ctypes.Structure):
    """struct vcluster_member of vcluster.h"""
    _fields_ = [("rank", ctypes.c_uint32), ("state", ctypes.c_uint32),
                ("incarnation", ctypes.c_uint64),
                ("slots", ctypes.c_uint32), ("flags", ctypes.c_uint32),
                ("name", ctypes.c_char * 72), ("addr", ctypes.c_char * 48),
                ("site", ctypes.c_char * 72), ("host", ctypes.c_char * 256)]


class Info(ctypes.Structure):
    """struct vcluster_info of vcluster.h"""
    _fields_ = [("epoch", ctypes.c_uint64), ("job", ctypes.c_uint32),
                ("members", ctypes.c_uint32), ("size", ctypes.c_uint32),
                ("reserved", ctypes.c_uint32), ("cluster", ctypes.c_char * 40),
                ("digest", ctypes.c_char * 72)]


STATES = ("joining", "active", "leaving", "gone")


def _load():
    lib = ctypes.CDLL(os.environ.get("LIBVCLUSTER", "libvcluster.so.0"), use_errno=True)
    lib.vcluster_open.restype = ctypes.c_void_p
    lib.vcluster_open.argtypes = [ctypes.c_char_p]
    lib.vcluster_close.argtypes = [ctypes.c_void_p]
    lib.vcluster_capacity.restype = ctypes.c_uint32
    lib.vcluster_capacity.argtypes = [ctypes.c_void_p]
    lib.vcluster_copy_view.argtypes = [ctypes.c_void_p, ctypes.POINTER(Info),
                                       ctypes.POINTER(Member), ctypes.c_size_t]
    lib.vcluster_wait.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int]
    lib.vcluster_stale.argtypes = [ctypes.c_void_p]
    return lib


class View:
    """The mapped view; path None: $VCLUSTER_VIEW or /run/vcluster/view."""

    def __init__(self, path=None):
        self._lib = _load()
        self._v = self._lib.vcluster_open(path.encode() if path else None)
        if not self._v:
            self._fail(path)
        self._members = (Member * self._lib.vcluster_capacity(self._v))()

    @staticmethod
    def _fail(what=None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)

    def read(self):
        """(info, [members]) of one epoch; the members are good until the next read."""
        info = Info()
        n = self._lib.vcluster_copy_view(self._v, ctypes.byref(info), self._members, len(self._members))
        if n < 0:
            self._fail()
        return info, self._members[:n]

    def wait(self, epoch, timeout_ms=-1):
        """True once the current epoch is higher, False when the time is over."""
        if self._lib.vcluster_wait(self._v, epoch, timeout_ms) == 0:
            return True
        if ctypes.get_errno() != 110:  # ETIMEDOUT
            self._fail()
        return False

    @property
    def stale(self):
        return self._lib.vcluster_stale(self._v) == 1

    def close(self):
        self._lib.vcluster_close(self._v)
        self._v = None


def main(changes):
    view = View()
    while True:
        info, members = view.read()
        for m in members:
            print(m.rank, m.name.decode(), m.addr.decode(), STATES[m.state], m.slots, sep="\t")
        print(f"view {info.epoch} of job {info.job}: {info.size} members to use", flush=True)
        if changes == 0:
            break
        changes -= 1
        while not view.wait(info.epoch, 60000):
            pass
    view.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
