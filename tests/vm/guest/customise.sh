#!/bin/sh
# Turns a fresh Debian tree into the test machine. mmdebstrap runs it with the tree as $1;
# VM_BUILD is the directory with what the host made: authorized_keys, load; VM_IMAGE the image's name.
set -eu
tree=$1
here=$(dirname "$0")

cp -r "$here/rootfs/." "$tree/"
install -m 644 "$VM_BUILD/authorized_keys" "$tree/etc/ssh/authorized_keys"
install -m 755 "$VM_BUILD/load" "$tree/usr/local/bin/load"
rm -f "$tree"/etc/ssh/ssh_host_rsa_key* "$tree"/etc/ssh/ssh_host_ecdsa_key*

# The path-excludes were for the build only: the package under test is installed whole.
rm -f "$tree/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$tree/etc/apt/apt.conf.d/99mmdebstrap"

# What pam_motd starts for it takes a seventh of a login.
rm -r "$tree/etc/update-motd.d"

echo machine > "$tree/etc/hostname"
echo "127.0.0.1 localhost machine" > "$tree/etc/hosts"
echo LANG=C.UTF-8 > "$tree/etc/default/locale"
# Without a machine id the first boot would apply presets again.
systemd-machine-id-setup --root="$tree" > /dev/null

for user in alice bob; do
    chroot "$tree" useradd --create-home --shell /bin/bash "$user"
done
chroot "$tree" groupadd --system operators
# Who the unprivileged services run as.
chroot "$tree" useradd --system --shell /usr/sbin/nologin foundry

chroot "$tree" systemctl --quiet enable systemd-networkd.service ssh.service
# The tests that need them start them. user@.service would pull oomd in, disabled or not: its package
# has ManagedOOMMemoryPressure=kill for that.
chroot "$tree" systemctl --quiet disable atd.service earlyoom.service
chroot "$tree" systemctl --quiet mask systemd-oomd.service systemd-oomd.socket
# Nothing here is part of what is tested, and each costs tenths of a second of emulated boot.
chroot "$tree" systemctl --quiet mask \
    systemd-networkd-wait-online.service systemd-networkd-persistent-storage.service \
    systemd-network-generator.service \
    serial-getty@ttyS0.service serial-getty@ttyAMA0.service getty@tty1.service getty-static.service \
    modprobe@configfs.service modprobe@drm.service modprobe@fuse.service modprobe@efi_pstore.service \
    systemd-modules-load.service kmod-static-nodes.service systemd-udev-load-credentials.service \
    dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount \
    ldconfig.service systemd-sysusers.service systemd-pstore.service \
    systemd-binfmt.service systemd-hwdb-update.service systemd-firstboot.service \
    systemd-journal-catalog-update.service systemd-update-done.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
    e2scrub_all.timer e2scrub_reap.service systemd-tmpfiles-clean.timer \
    hwclock.service 2> /dev/null
# A daemon-reload runs every generator, and tests make hundreds of them: systemd's own find nothing to do here,
# and take a third of the time.
mkdir -p "$tree/etc/systemd/system-generators"
for generator in "$tree"/usr/lib/systemd/system-generators/systemd-*; do
    ln -s /dev/null "$tree/etc/systemd/system-generators/${generator##*/}"
done

if [ "$VM_IMAGE" = cloud ]; then
    # What cloud-init reads before anything else comes over the network.
    chroot "$tree" systemctl --quiet unmask systemd-networkd-wait-online.service
    # No mirror can be reached: what apt installs comes from the repository that a test serves.
    rm -f "$tree"/etc/apt/sources.list "$tree"/etc/apt/sources.list.d/*
fi
