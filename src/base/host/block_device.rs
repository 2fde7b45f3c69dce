//! Disks by the paths that are written in unit files.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// The numbers of the disk that PID 1 takes a path in a unit file for: that of the device, or on which the file lies
/// (`lookup_block_device` of systemd's `src/core/cgroup.c`). `None` where there is none.
#[must_use]
pub fn number_of(root: &Path, path: &Path) -> Option<String> {
    let file = fs::metadata(root.join(path.strip_prefix("/").unwrap_or(path))).ok()?;
    let device = if file.file_type().is_block_device() { file.rdev() } else { file.dev() };
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = fs::canonicalize(root.join(format!("sys/dev/block/{major}:{minor}"))).ok()?;
    // What is made of one device alone, as by LUKS, is that one.
    let mut slaves = fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
    let only = slaves.next().filter(|_| slaves.next().is_none());
    let device = only.and_then(|slave| fs::canonicalize(slave.path()).ok()).unwrap_or(device);
    // A partition's directory lies in that of its disk.
    let disk = if device.join("partition").exists() { device.parent()? } else { &device };
    Some(fs::read_to_string(disk.join("dev")).ok()?.trim().to_owned())
}

/// Both numbers of a disk, `254:16`.
#[must_use]
pub fn numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;

    /// The machine's own directories lie on one of its disks; there, what sysfs says is what is asked for.
    #[test]
    fn a_path_is_the_disk_that_it_lies_on() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "srv/data", "");
        let device = fs::metadata(root.join("srv")).unwrap().dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        fs::create_dir_all(root.join("sys/dev/block")).unwrap();
        let is = |target: &str| {
            let link = root.join(format!("sys/dev/block/{major}:{minor}"));
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(root.join("sys/devices").join(target), link).unwrap();
            number_of(root, Path::new("/srv/data"))
        };
        write(root, "sys/devices/vda/dev", "254:0\n");
        write(root, "sys/devices/vda/vda1/dev", "254:1\n");
        write(root, "sys/devices/vda/vda1/partition", "1\n");
        write(root, "sys/devices/dm-0/dev", "253:0\n");
        fs::create_dir_all(root.join("sys/devices/dm-0/slaves")).unwrap();
        std::os::unix::fs::symlink("../../vda/vda1", root.join("sys/devices/dm-0/slaves/vda1")).unwrap();
        for name in ["vda", "vda/vda1", "dm-0"] {
            assert_eq!(is(name).as_deref(), Some("254:0"), "{name}");
        }
        std::os::unix::fs::symlink("../../vda", root.join("sys/devices/dm-0/slaves/vda")).unwrap();
        assert_eq!(is("dm-0").as_deref(), Some("253:0"));
        assert_eq!(number_of(root, Path::new("/srv/none")), None);
    }
}
