#!/bin/busybox sh
# The 8 MiB at 0x7000000 are the backend's: the kernel's command line keeps the kernel off them.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
echo "guest up: Linux $(/bin/busybox uname -r) $(/bin/busybox uname -m)"
/bin/echo-backend 0x7000000
echo "BACKEND ENDED $?"
/bin/busybox sleep 1000000
