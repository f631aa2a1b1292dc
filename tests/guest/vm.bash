# SPDX-License-Identifier: GPL-2.0-or-later
# Guests without libvirt for the tests of vcguestd: a busybox root, QEMU by hand, the harness as the host's vcd.
# Source it with BUILD (where make was run) and WORK (a directory to fill) set. Owns the QEMUs that vm_start began.

vm_pids=()

# vm_missing: prints why guests cannot be started here, or nothing
vm_missing() {
    local tool
    for tool in qemu-system-x86_64 qemu-img mkfs.ext4 busybox; do
        command -v "$tool" >/dev/null || { echo "$tool is not installed"; return; }
    done
    [ -e "$BUILD/guest/vcguestd" ] || echo "$BUILD/guest/vcguestd is not built"
    if readelf -l "$BUILD/guest/vcguestd" 2>/dev/null | grep -q INTERP; then echo "vcguestd is not static (a sanitizer build)"; fi
}

# vm_prepare: root.img, initrd.img and $KERNEL in $WORK. It is an image as users bring it: nothing of ours is in it.
vm_prepare() {
    local root=$WORK/root
    mkdir -p "$root"/{bin,etc,home,root,tmp,usr/bin,var}
    cp "$(command -v busybox)" "$root/bin/busybox"
    local name
    for name in $("$root/bin/busybox" --list); do
        [ "$name" = busybox ] || ln -sf busybox "$root/bin/$name"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\n' >"$root/etc/group"
    if [ $# -gt 0 ]; then "$@" "$root"; fi
    mkfs.ext4 -q -d "$root" "$WORK/root.img" "${ROOT_SIZE:-32M}"
    rm -rf "$root"
    KERNEL=$("$BUILD/tests/guest/mkinitramfs" "$BUILD/guest/vcguestd" "$WORK/initrd.img")
}

# vm_start RANK [QEMU OPTIONS...]: the guest's link is $WORK/link.RANK, its console $WORK/console.RANK; VM_APPEND adds to
# the kernel's command line
vm_start() {
    local rank=$1
    shift
    qemu-img create -q -f qcow2 -b "$WORK/root.img" -F raw "$WORK/disk.$rank"
    timeout 300 qemu-system-x86_64 -M q35 -accel tcg -cpu max -m "${VM_MEM:-192}" -display none -no-reboot -nodefaults \
        -serial "file:$WORK/console.$rank" -kernel "$KERNEL" -initrd "$WORK/initrd.img" \
        -append "console=ttyS0 quiet panic=-1 no_timer_check vcluster.root=/dev/vda ${VM_APPEND:-}" -device virtio-serial \
        -chardev "socket,path=$WORK/link.$rank,server=on,wait=off,id=c0" -device virtserialport,chardev=c0,name=org.vcluster.0 \
        -drive "file=$WORK/disk.$rank,if=virtio,format=qcow2" "$@" </dev/null >"$WORK/qemu.$rank" 2>&1 3>&- &
    vm_pids+=($!)
    for _ in {1..100}; do # the next guest's cable ends at a socket of this one
        if [ -S "$WORK/link.$rank" ]; then return 0; fi
        sleep 0.05
    done
    echo "QEMU did not start: $(cat "$WORK/qemu.$rank")" >&2
    return 1
}

# vm_net RANK: QEMU options for a cable between guests 0 (and any other that waits for a peer) and 1, which connects.
# A stream: QEMU's multicast network loses frames under load.
vm_net() {
    local server=on path=$WORK/cable.$1
    if [ "$1" = 1 ]; then server=off path=$WORK/cable.0; fi
    echo "-netdev stream,id=n0,server=$server,addr.type=unix,addr.path=$path -device virtio-net-pci,netdev=n0,mac=02:00:10:01:00:0$1"
}

# vm_host [OPTIONS...] RANK MEMBERS COMMAND: the harness
vm_host() {
    local n=$# opts=("${@:1:$#-3}")
    timeout 280 "$BUILD/tests/guest/harness" "${opts[@]}" "$WORK/link.${*:n-2:1}" "${@:n-2}"
}

vm_stop_all() {
    local pid
    for pid in "${vm_pids[@]}"; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    vm_pids=()
    return 0
}
