#!/bin/busybox sh
# First program of the test guest: what the probe needs, then the probe itself, as process 1. If
# the probe ends, so does the kernel, which the harness sees on the console.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
modprobe -a vfio-pci vfio_iommu_type1 uio_pci_generic
# A guest with a name (test/vm/qemu.ts) has a shell for people on its third serial port.
name=$(sed -n 's/.*vvu\.name=\([^ ]*\).*/\1/p' /proc/cmdline)
if [ -n "$name" ]; then
  hostname "$name"
  (while :; do PS1='\h:\w# ' TERM=vt100 setsid -c sh -i; done) <>/dev/ttyS2 >&0 2>&1 &
fi
exec /bin/probe /dev/ttyS1
