//! Where the cgroup2 hierarchy is mounted: programs attached to its root see the sockets of all
//! processes, whatever cgroup and network namespace they live in.

use std::path::PathBuf;

/// The first place in `/proc/self/mountinfo` (proc_pid_mountinfo(5)) where the root of the cgroup2
/// hierarchy is mounted. A mount of a part of it, as containers get, would only show that part.
pub(super) fn cgroup2_root(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let is_cgroup2 = filesystem.split(' ').next() == Some("cgroup2");
        (is_cgroup2 && root == "/").then(|| unescaped(point).into())
    })
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescaped(field: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_the_hierarchy_is_found() {
        let hybrid = "\
25 22 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw
30 25 0:25 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:26 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw
32 30 0:27 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,name=systemd
";
        assert_eq!(cgroup2_root(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let odd = "31 30 0:26 / /mnt/a\\040b rw - cgroup2 none rw\n";
        assert_eq!(cgroup2_root(odd), Some("/mnt/a b".into()));
    }

    #[test]
    fn a_part_of_the_hierarchy_is_not_enough() {
        let part = "31 30 0:26 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        assert_eq!(cgroup2_root(part), None);
        assert_eq!(cgroup2_root("31 30 0:26 / /sys/fs/cgroup rw - cgroup cgroup rw\n"), None);
        assert_eq!(cgroup2_root("garbage\n"), None);
    }
}
