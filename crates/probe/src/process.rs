//! The facts of a process: what it is called, what it runs, for whom, and in which container or
//! unit. They are read while it lives, as soon as it is seen to hold a socket, because it may be
//! gone a moment later.

#[cfg(target_os = "linux")]
pub(crate) use linux::{
    Birth, Facts, Lines, ancestors, arguments, birth, effective_user, sees_all_pids,
};

use smol_str::SmolStr;

/// Container id and systemd unit, as a process's cgroup paths name them.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    pub(crate) container: Option<SmolStr>,
    pub(crate) unit: Option<SmolStr>,
}

/// A cgroup path longer than this is cut off by the kernel (PATH_MAX); a unit's name is shorter
/// (systemd's UNIT_NAME_MAX).
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
const UNIT_NAME: usize = 255;

impl Surroundings {
    /// Reads `/proc/PID/cgroup` (cgroups(7)): a line per hierarchy, `number:controllers:path`.
    ///
    /// Where containers or units are nested, the innermost is named: it says most. A name can be
    /// forged by whoever may create cgroups, which takes root or a delegated subtree.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn read(cgroup: &str) -> Self {
        let mut found = Self::default();
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if found.container.is_none() {
                found.container = container(path);
            }
            // systemd's own hierarchy: the unified one, or its named one.
            if found.unit.is_none() && matches!(controllers, "" | "name=systemd") {
                found.unit = unit(path);
            }
        }
        found
    }
}

/// The innermost container of a cgroup path.
fn container(path: &str) -> Option<SmolStr> {
    // Runtimes with the systemd driver outside systemd write `slice:prefix:id`.
    let parts: Vec<&str> = path.split(['/', ':']).collect();
    let mut found = None;
    for (i, part) in parts.iter().enumerate() {
        let parent = i.checked_sub(1).map_or("", |i| parts[i]);
        if let Some(id) = container_id(parent, part) {
            found = Some(id.into());
        }
    }
    found
}

/// The container that one part of a cgroup path names.
fn container_id<'a>(parent: &str, part: &'a str) -> Option<&'a str> {
    // LXC, LXD and Incus: containers have names there. `lxc.monitor.` is their supervisor.
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some(name).filter(|name| !name.is_empty());
    }
    if matches!(parent, "lxc" | "lxc.payload") {
        return Some(part).filter(|name| !name.is_empty());
    }
    // docker, containerd and cri, podman (libpod), cri-o, kubepods: 64 hexadecimal digits, under
    // the systemd driver with the runtime's name before them.
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = match part.rsplit_once('-') {
        // conmon is the supervisor outside the container.
        Some((runtime, _)) if runtime.ends_with("conmon") => return None,
        Some((_, id)) => id,
        None => part,
    };
    let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (id.len() == 64 && id.bytes().all(hexadecimal)).then_some(id)
}

/// The innermost systemd unit that can hold processes: a service or a scope.
fn unit(path: &str) -> Option<SmolStr> {
    let part = path.rsplit('/').find(|part| {
        let stem = part.strip_suffix(".service").or_else(|| part.strip_suffix(".scope"));
        stem.is_some_and(|stem| !stem.is_empty()) && part.len() <= UNIT_NAME
    })?;
    // systemd puts an underscore before names that cgroup files have (`cg_escape`).
    Some(part.strip_prefix('_').unwrap_or(part).into())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;
    use std::ffi::OsString;
    use std::fs;
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;
    use std::sync::Arc;

    use nix::sys::stat::{FileStat, stat};
    use nix::unistd::{Uid, User};
    use procflow_binding::{Ancestor, BootTime, MOST_ANCESTORS, Process, ProcessKey};
    use smol_str::SmolStr;

    use super::Surroundings;
    use crate::redact::MOST_BYTES;

    /// A process that starts is often another program a moment later (fork, exec) and in another
    /// cgroup; so long it is looked at often, and whenever it was told to be another program.
    const YOUNG: u64 = 2_000_000_000;
    /// How old the facts of a young process may get: no older than from one look to the next.
    const YOUNG_EVERY: u64 = 50_000_000;
    /// How old the facts of others may get.
    const CHECK_EVERY: u64 = 1_000_000_000;
    /// How many parents' lines are remembered.
    const PARENTS: usize = 1024;
    /// How long a user's name is believed. Asking for one may go over the network (nsswitch).
    const USERS_EVERY: u64 = 600_000_000_000;
    /// How many users' names are kept.
    const USERS: usize = 4096;

    /// What is read of every process as soon as it is seen.
    #[derive(Clone, Debug)]
    pub(crate) struct Birth {
        pub(crate) key: ProcessKey,
        /// Its name then, in case it is gone before more can be read.
        pub(crate) comm: SmolStr,
    }

    /// Reads when a process started.
    pub(crate) fn birth(pid: u32) -> Option<Birth> {
        Some(Stat::read(pid)?.birth)
    }

    /// What is needed of `/proc/PID/stat`.
    struct Stat {
        birth: Birth,
        /// Whose child it is now; 0 for the first process.
        parent: u32,
    }

    impl Stat {
        fn read(pid: u32) -> Option<Self> {
            Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
        }

        /// proc_pid_stat(5). The name may hold spaces and parentheses.
        fn parse(pid: u32, text: &[u8]) -> Option<Self> {
            let begin = text.iter().position(|&byte| byte == b'(')?;
            let end = text.iter().rposition(|&byte| byte == b')')?;
            let comm = String::from_utf8_lossy(text.get(begin + 1..end)?).into();
            let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
            // The fields from the third, the state.
            let mut fields = rest.split_ascii_whitespace();
            let parent = fields.nth(4 - 3)?.parse().ok()?;
            let ticks: u64 = fields.nth(22 - 5)?.parse().ok()?;
            let nanoseconds =
                u128::from(ticks) * 1_000_000_000 / u128::from(procfs::ticks_per_second().max(1));
            let start = BootTime(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
            Some(Self { birth: Birth { key: ProcessKey { pid, start }, comm }, parent })
        }
    }

    /// Who started a process, nearest first, as far as they still live. Nobody when it is gone.
    pub(crate) fn ancestors(key: ProcessKey) -> Arc<[Ancestor]> {
        Lines::default().of(key, BootTime(0))
    }

    /// The inode of a process' directory and when it was made: the kernel throws it away when the
    /// process ends, so that the same means the same process (see `procfs.rs`), and to ask for it
    /// costs a twentieth of asking when the process started.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Sign {
        inode: u64,
        made: (i64, i64),
    }

    fn sign(pid: u32) -> Option<Sign> {
        let file = fs::metadata(format!("/proc/{pid}")).ok()?;
        Some(Sign { inode: file.ino(), made: (file.ctime(), file.ctime_nsec()) })
    }

    /// Lines of ancestors; those of processes that start others are remembered for a second.
    #[derive(Default)]
    pub(crate) struct Lines {
        known: HashMap<u32, Parent>,
    }

    struct Parent {
        sign: Sign,
        read: BootTime,
        /// The ancestors of its children.
        line: Arc<[Ancestor]>,
    }

    impl Lines {
        /// Who started a process, nearest first, as far as they still live. Nobody when it is gone.
        pub(crate) fn of(&mut self, key: ProcessKey, now: BootTime) -> Arc<[Ancestor]> {
            let Some(own) = Stat::read(key.pid).filter(|stat| stat.birth.key == key) else {
                return Arc::new([]);
            };
            let before = sign(own.parent);
            if let Some(known) = self.known.get(&own.parent)
                && Some(known.sign) == before
                && now < known.read.plus(CHECK_EVERY)
            {
                return Arc::clone(&known.line);
            }
            let parent = own.parent;
            let line = line_above(own);
            // The parent was one and the same, before and after.
            if let Some(sign) =
                before.filter(|&before| !line.is_empty() && sign(parent) == Some(before))
            {
                if self.known.len() >= PARENTS {
                    self.known.clear();
                }
                self.known.insert(parent, Parent { sign, read: now, line: Arc::clone(&line) });
            }
            line
        }
    }

    fn line_above(mut below: Stat) -> Arc<[Ancestor]> {
        let mut line = Vec::new();
        while line.len() < MOST_ANCESTORS
            && let Some(above) = Stat::read(below.parent)
        {
            // Its parent may have ended meanwhile, and the pid be another's: one that began later;
            // or, within one tick of the clock, one that is not its parent.
            let (old, young) = (above.birth.key, below.birth.key);
            let is_parent = || {
                Stat::read(young.pid)
                    .is_some_and(|now| now.birth.key == young && now.parent == old.pid)
            };
            if old.start > young.start || (old.start == young.start && !is_parent()) {
                break;
            }
            line.push(Ancestor { key: old, comm: above.birth.comm.clone() });
            below = above;
        }
        line.into()
    }

    /// The arguments of a process as it shows them now, as far as they are told; `None` when it is
    /// gone, and for what has none (threads of the kernel).
    pub(crate) fn arguments(key: ProcessKey) -> Option<Vec<String>> {
        let mut bytes = Vec::new();
        let file = fs::File::open(format!("/proc/{}/cmdline", key.pid)).ok()?;
        file.take(MOST_BYTES as u64).read_to_end(&mut bytes).ok()?;
        // It was read by pid: is it still the same process?
        birth(key.pid).filter(|birth| birth.key == key)?;
        // Who writes its own title over them leaves zeros behind.
        let end = bytes.iter().rposition(|&byte| byte != 0)? + 1;
        bytes.truncate(end);
        let text = |argument| String::from_utf8_lossy(argument).into_owned();
        Some(bytes.split(|&byte| byte == 0).map(text).collect())
    }

    /// The real user of a process.
    fn real_user(pid: u32) -> Option<u32> {
        let process = procfs::process::Process::new(pid.try_into().ok()?).ok()?;
        Some(process.status().ok()?.ruid)
    }

    /// The effective user of a process: procfs gives it the process's files.
    pub(crate) fn effective_user(pid: u32) -> Option<u32> {
        Some(fs::metadata(format!("/proc/{pid}/fd")).ok()?.uid())
    }

    /// Whether the own pid namespace is the first one. Its number is part of the kernel's
    /// interface (PROC_PID_INIT_INO, linux/nsfs.h).
    pub(crate) fn sees_all_pids() -> bool {
        fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]")
    }

    /// What tells that facts are still true: all that an exec or a move to another cgroup
    /// changes, in three small reads of together about 15 us.
    #[derive(PartialEq, Eq)]
    struct Glance {
        comm: Vec<u8>,
        executable: Option<OsString>,
        cgroup: Vec<u8>,
        /// Effective user.
        user: u32,
    }

    impl Glance {
        /// `None` when the process is gone.
        fn take(pid: u32, user: u32) -> Option<Self> {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
            Some(Self {
                comm: read("comm")?,
                executable: fs::read_link(format!("/proc/{pid}/exe"))
                    .ok()
                    .map(PathBuf::into_os_string),
                cgroup: read("cgroup").unwrap_or_default(),
                user,
            })
        }
    }

    struct Known {
        process: Process,
        /// `None` when the process was gone before it could be taken.
        glance: Option<Glance>,
        checked: BootTime,
    }

    /// Facts of the processes that hold sockets.
    #[derive(Default)]
    pub(crate) struct Facts {
        known: HashMap<ProcessKey, Known>,
        users: HashMap<u32, Option<SmolStr>>,
        users_since: BootTime,
    }

    impl Facts {
        /// The facts of a process: as they are, or were when it was last there. `user` is its
        /// effective user now.
        pub(crate) fn of(&mut self, birth: &Birth, user: u32, now: BootTime) -> &Process {
            let key = birth.key;
            let fresh = self.known.get(&key).is_some_and(|known| {
                let young = now < key.start.plus(YOUNG);
                let every = if young { YOUNG_EVERY } else { CHECK_EVERY };
                let same_user = known.glance.as_ref().is_none_or(|seen| seen.user == user);
                let same_name = !young || known.process.comm == birth.comm;
                same_name && same_user && now < known.checked.plus(every)
            });
            if !fresh {
                self.check(birth, user, now);
            }
            let known = self.known.entry(key).or_insert_with(|| Known {
                process: bare(birth),
                glance: None,
                checked: now,
            });
            &known.process
        }

        /// Keeps only what `needed` says yes to.
        pub(crate) fn retain(&mut self, needed: impl Fn(ProcessKey) -> bool) {
            self.known.retain(|&key, _| needed(key));
        }

        /// Reads the facts anew if a glance says that they changed.
        fn check(&mut self, birth: &Birth, user: u32, now: BootTime) {
            let key = birth.key;
            let glance = Glance::take(key.pid, user);
            if let Some(known) = self.known.get_mut(&key) {
                known.checked = now;
                if glance.is_none() || glance == known.glance {
                    return;
                }
            }
            let Some(glance) = glance else {
                return;
            };
            let surroundings = Surroundings::read(&String::from_utf8_lossy(&glance.cgroup));
            let comm = glance.comm.strip_suffix(b"\n").unwrap_or(&glance.comm);
            let uid = real_user(key.pid);
            let process = Process {
                key,
                comm: String::from_utf8_lossy(comm).into(),
                executable: glance.executable.as_ref().map(|link| executable(key.pid, link)),
                uid,
                user: uid.and_then(|uid| self.user(uid, now)),
                container: surroundings.container,
                unit: surroundings.unit,
            };
            // All of it was read by pid: was it still the same process at the end?
            if super::birth(key.pid).is_none_or(|birth| birth.key != key) {
                return;
            }
            let known = Known { process, glance: Some(glance), checked: now };
            self.known.insert(key, known);
        }

        /// The name of a user on this host.
        pub(crate) fn user(&mut self, uid: u32, now: BootTime) -> Option<SmolStr> {
            if self.users.len() >= USERS || now >= self.users_since.plus(USERS_EVERY) {
                self.users.clear();
                self.users_since = now;
            }
            let name = self.users.entry(uid).or_insert_with(|| {
                let user = User::from_uid(Uid::from_raw(uid));
                user.ok().flatten().map(|user| user.name.into())
            });
            name.clone()
        }
    }

    /// All that is known of a process that was gone too soon.
    fn bare(birth: &Birth) -> Process {
        Process {
            key: birth.key,
            comm: birth.comm.clone(),
            executable: None,
            uid: None,
            user: None,
            container: None,
            unit: None,
        }
    }

    /// The path of an executable. The kernel writes ` (deleted)` after a path that no longer leads
    /// to the file, but a file may also be called so: then that very path leads to the file that
    /// runs.
    fn executable(pid: u32, link: &OsString) -> SmolStr {
        let text = link.to_string_lossy();
        let Some(plain) = text.strip_suffix(" (deleted)") else {
            return text.into();
        };
        let same = |running: FileStat| {
            let mut literal = OsString::from(format!("/proc/{pid}/root"));
            literal.push(link);
            running.st_nlink > 0
                && stat(literal.as_bytes()).is_ok_and(|file| {
                    (file.st_dev, file.st_ino) == (running.st_dev, running.st_ino)
                })
        };
        let called_so = stat(format!("/proc/{pid}/exe").as_str()).is_ok_and(same);
        if called_so { text.into() } else { plain.into() }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::io::ErrorKind;
        use std::process::{Child, Command};

        /// A child that sleeps, running the executable at `path`.
        struct Sleeper(Child);

        impl Sleeper {
            fn run(path: &std::path::Path) -> Self {
                // A file just written is busy while a test beside this one forks with our
                // descriptor of it and has not yet called exec.
                for _ in 0..1000 {
                    match Command::new(path).arg("1000").spawn() {
                        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                            std::thread::yield_now();
                        }
                        child => return Self(child.unwrap()),
                    }
                }
                panic!("{} stays busy", path.display());
            }

            fn facts(&self, facts: &mut Facts) -> Process {
                let birth = birth(self.0.id()).unwrap();
                facts.of(&birth, 0, BootTime(u64::MAX)).clone()
            }
        }

        impl Drop for Sleeper {
            fn drop(&mut self) {
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
        }

        #[test]
        fn a_name_may_hold_anything() {
            let text =
                b"42 (a) R (b)\xff) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 300 9 9\n";
            let stat = Stat::parse(42, text).unwrap();
            assert_eq!((stat.parent, &stat.birth.comm[..]), (7, "a) R (b)\u{fffd}"));
            assert_eq!(stat.birth.key, ProcessKey { pid: 42, start: BootTime(3_000_000_000) });
            assert!(Stat::parse(42, b"42 (a) S 7").is_none());
        }

        #[test]
        fn a_line_of_ancestors_is_read() {
            let sleeper = Sleeper::run("/bin/sleep".as_ref());
            let child = birth(sleeper.0.id()).unwrap().key;
            let line = ancestors(child);
            let (me, mine) = line.split_first().unwrap();
            assert_eq!(me.key, birth(std::process::id()).unwrap().key);
            assert_eq!(mine, &ancestors(me.key)[..mine.len()]);
            assert_eq!(ancestors(ProcessKey { start: BootTime(1), ..child }).len(), 0);
            assert_eq!(arguments(ProcessKey { start: BootTime(1), ..child }), None);
            let mut lines = Lines::default();
            assert_eq!(lines.of(child, BootTime(5)), line);
            assert_eq!(lines.of(child, BootTime(6)), line);
            assert_eq!(lines.known.len(), 1);
            // A parent that only has the pid of a former one is another.
            let parent = lines.known.get_mut(&std::process::id()).unwrap();
            parent.sign.inode += 1;
            parent.line = Arc::new([]);
            assert_eq!(lines.of(child, BootTime(7)), line);
        }

        /// `cargo test --release -p procflow-probe --lib process -- --ignored --nocapture`
        #[test]
        #[ignore = "measures"]
        fn what_it_costs() {
            let me = birth(std::process::id()).unwrap().key;
            let time = |what: &str, call: &dyn Fn()| {
                let begun = std::time::Instant::now();
                (0..1000).for_each(|_| call());
                println!("{what}: {:?}", begun.elapsed() / 1000);
            };
            let depth = ancestors(me).len();
            time(&format!("{depth} ancestors"), &|| drop(ancestors(me)));
            let lines = std::cell::RefCell::new(Lines::default());
            time("the same, remembered", &|| drop(lines.borrow_mut().of(me, BootTime(1))));
            time("arguments", &|| drop(arguments(me)));
            time("birth", &|| drop(birth(me.pid)));
        }

        #[test]
        fn this_process_is_described() {
            let birth = birth(std::process::id()).unwrap();
            let mut facts = Facts::default();
            let process = facts.of(&birth, 0, BootTime(u64::MAX));
            let executable = std::env::current_exe().unwrap();
            assert_eq!(process.executable.as_deref(), executable.to_str());
            assert_eq!(process.uid, Some(nix::unistd::getuid().as_raw()));
            assert!(executable.to_string_lossy().contains(process.comm.as_str()));
        }

        #[test]
        fn a_deleted_executable_keeps_its_name() {
            let directory = std::env::temp_dir().join(format!("probe-exe-{}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            let gone = directory.join("gone");
            let called_so = directory.join("kept (deleted)");
            fs::copy("/bin/sleep", &gone).unwrap();
            fs::copy("/bin/sleep", &called_so).unwrap();
            let (first, second) = (Sleeper::run(&gone), Sleeper::run(&called_so));
            fs::remove_file(&gone).unwrap();
            let mut facts = Facts::default();
            let (was, is) = (first.facts(&mut facts), second.facts(&mut facts));
            fs::remove_dir_all(&directory).unwrap();
            assert_eq!(was.executable.as_deref(), gone.to_str());
            assert_eq!(is.executable.as_deref(), called_so.to_str());
        }

        #[test]
        fn the_facts_of_a_process_that_is_gone_are_kept() {
            let mut sleeper = Sleeper::run("/bin/sleep".as_ref());
            let birth = birth(sleeper.0.id()).unwrap();
            let mut facts = Facts::default();
            let living = facts.of(&birth, 0, BootTime(0)).clone();
            sleeper.0.kill().unwrap();
            sleeper.0.wait().unwrap();
            assert_eq!(facts.of(&birth, 0, BootTime(u64::MAX)), &living);
            // And one that was gone at once has at least a name.
            let bare = Facts::default().of(&birth, 0, BootTime(0)).clone();
            assert_eq!((bare.key, bare.comm), (birth.key, birth.comm));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn container_of(path: &str) -> Option<SmolStr> {
        Surroundings::read(&format!("0::{}\n", path.replace("ID", ID))).container
    }

    #[test]
    fn every_runtime_names_its_containers() {
        for path in [
            "/system.slice/docker-ID.scope",
            "/docker/ID",
            "/docker/ID/init.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            "/machine.slice/libpod-ID.scope",
            "/libpod_parent/libpod-ID",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-ID.scope",
            "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555/ID",
            "/kubepods-besteffort-pod1.slice:cri-containerd:ID",
            "/kubepods.slice/kubepods-pod1.slice/crio-ID.scope",
            "/default/ID",
        ] {
            assert_eq!(container_of(path).as_deref(), Some(ID), "{path}");
        }
        assert_eq!(container_of("/lxc/web/system.slice").as_deref(), Some("web"));
        assert_eq!(container_of("/lxc.payload.web/init.scope").as_deref(), Some("web"));
        assert_eq!(container_of("/lxc.payload/web").as_deref(), Some("web"));
    }

    #[test]
    fn a_supervisor_or_a_lookalike_is_no_container() {
        for path in [
            "/",
            "/machine.slice/libpod-conmon-ID.scope",
            "/kubepods.slice/crio-conmon-ID.scope",
            "/lxc.monitor.web",
            "/lxc.payload.",
            "/user.slice/user-1000.slice/session-3.scope",
            "/system.slice/docker.service",
            "/docker/0123",
        ] {
            assert_eq!(container_of(path), None, "{path}");
        }
    }

    #[test]
    fn the_innermost_container_is_named() {
        let inner = ID.replace('0', "f");
        assert_eq!(
            container_of(&format!("/docker/ID/kubepods/pod1/{inner}")).as_deref(),
            Some(&*inner)
        );
    }

    #[test]
    fn the_unit_is_a_service_or_a_scope() {
        let unit = |path: &str| Surroundings::read(&format!("0::{path}")).unit;
        assert_eq!(unit("/system.slice/ssh.service").as_deref(), Some("ssh.service"));
        assert_eq!(
            unit("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service").as_deref(),
            Some("web.service")
        );
        assert_eq!(
            unit("/user.slice/user-0.slice/session-3.scope").as_deref(),
            Some("session-3.scope")
        );
        assert_eq!(unit("/system.slice/_cgroup.service").as_deref(), Some("cgroup.service"));
        assert_eq!(unit("/system.slice"), None);
        assert_eq!(unit("/.service"), None);
    }

    #[test]
    fn a_hybrid_host_tells_both() {
        // Debian 11, cgroup v1 beside v2.
        let cgroup = format!(
            "12:cpuset:/docker/{ID}\n5:cpu,cpuacct:/docker/{ID}\n\
             1:name=systemd:/system.slice/containerd.service\n0::/system.slice/containerd.service\n"
        );
        let found = Surroundings::read(&cgroup);
        assert_eq!(found.container.as_deref(), Some(ID));
        assert_eq!(found.unit.as_deref(), Some("containerd.service"));
        // A controller's hierarchy names no unit.
        assert_eq!(Surroundings::read("3:cpu:/system.slice/x.service").unit, None);
        assert_eq!(Surroundings::read("nonsense\n\n1:2"), Surroundings::default());
    }
}
