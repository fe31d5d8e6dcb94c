#!/bin/sh
# Run by mmdebstrap on the reference image's root, $1: DHCP, virtio modules only, no documentation.
set -eu
cat > "$1/etc/systemd/network/80-dhcp.network" <<'NETWORK'
[Match]
Name=en* eth*
[Network]
DHCP=yes
NETWORK
chroot "$1" systemctl enable systemd-networkd systemd-resolved nginx
echo mnemos-reference > "$1/etc/hostname"
mv "$1"/boot/vmlinuz-* "$2/vmlinuz"
cd "$1"/usr/lib/modules/*
find . -name '*.ko*' ! -name '*virtio*' ! -name '*failover*' -delete
chroot "$1" depmod "$(basename "$PWD")"
rm -rf "$1"/boot/* "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/info "$1"/usr/share/locale
rm -rf "$1"/usr/lib/firmware "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*
rm -f "$1/initrd.img" "$1/vmlinuz"* "$1/initrd.img.old"
