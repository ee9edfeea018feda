/* Processes: who begat whom, what they run, when they end. */
#pragma once
#include "task.h"

/* tp_btf/sched_process_fork(struct task_struct *parent, struct task_struct *child) */
SECTION("tp_btf/sched_process_fork")
int forked(u64 *ctx)
{
	struct task_struct *child = (void *)ctx[1];
	struct task_struct *parent;
	struct event *event;
	u64 now;

	if (child->pid != child->tgid)
		return 0; /* a thread */
	now = bpf_ktime_get_boot_ns();
	event = reserve(FORKED, sizeof(*event), now);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = FORKED;
	event->time = now;
	parent = child->real_parent;
	event->actor.pid = child->tgid;
	event->actor.start = child->start_boottime;
	event->actor.uid = bpf_get_current_uid_gid();
	event->actor.cgroup = bpf_get_current_cgroup_id();
	bpf_probe_read_kernel(event->actor.comm, sizeof(event->actor.comm), child->comm);
	event->namespace = parent->tgid;
	event->cookie = parent->group_leader->start_boottime;
	submit(event);
	return 0;
}

/* Writes the path of a file, last component first; returns its length. */
INLINE u32 write_path(char *to, struct path *path, u8 *flags)
{
	struct dentry *dentry = path->dentry, *root, *up;
	struct vfsmount *vfsmount = path->mnt;
	struct mount *mount, *above;
	u64 within = __builtin_preserve_field_info(((struct mount *)0)->mnt, FIELD_BYTE_OFFSET);
	u32 length = 0;

	mount = (void *)vfsmount - within;
	for (int i = 0; i < COMPONENTS; i++) {
		const u8 *name;
		long read;

		READ(root, mount->mnt.mnt_root);
		READ(up, dentry->d_parent);
		if (dentry == root || dentry == up) {
			READ(above, mount->mnt_parent);
			if (above == mount)
				return length;
			READ(dentry, mount->mnt_mountpoint);
			mount = above;
			continue;
		}
		if (length >= PATH)
			break;
		READ(name, dentry->d_name.name);
		read = bpf_probe_read_kernel_str(to + (length & (PATH - 1)), NAME, name);
		if (read <= 0)
			break;
		length += read & (2 * NAME - 1);
		dentry = up;
	}
	*flags |= TRUNCATED;
	return length;
}

/* Writes which file it is, so that it can be found again, and another told from it. */
INLINE void write_identity(struct execution *execution, struct inode *inode)
{
	struct super_block *super_block;
	struct timespec64 changed = {};

	execution->inode = 0;
	execution->device = 0;
	READ(execution->inode, inode->i_ino);
	READ(super_block, inode->i_sb);
	READ(execution->device, super_block->s_dev);
	if (HAS(struct inode, i_ctime_sec)) {
		u32 nanoseconds = 0;

		READ(changed.tv_sec, inode->i_ctime_sec);
		READ(nanoseconds, inode->i_ctime_nsec);
		/* I_CTIME_QUERIED (include/linux/fs.h, since 6.13) is no part of the time. */
		changed.tv_nsec = nanoseconds & ~(1u << 31);
	} else if (HAS(struct inode___before_6_11, __i_ctime)) {
		READ(changed, ((struct inode___before_6_11 *)inode)->__i_ctime);
	} else if (HAS(struct inode___before_6_6, i_ctime)) {
		READ(changed, ((struct inode___before_6_6 *)inode)->i_ctime);
	}
	execution->changed = changed.tv_sec;
	execution->changed_nanoseconds = changed.tv_nsec;
}

/* Set when the program is loaded: whether to tell arguments. */
volatile const u8 tell_arguments = 0;

INLINE void fill_execution(struct execution *execution, struct task_struct *task, u64 now)
{
	struct event *event = &execution->event;
	struct inode *inode;
	struct path path;

	__builtin_memset(event, 0, sizeof(*event));
	event->kind = EXECUTED;
	event->time = now;
	fill_actor(&event->actor);
	execution->arguments_length = 0;
	execution->path_length = 0;
	READ(inode, task->mm->exe_file->f_inode);
	write_identity(execution, inode);
	READ(path, task->mm->exe_file->f_path);
	execution->path_length = write_path(execution->path, &path, &event->flags);
}

/* tp_btf/sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm): the
 * program is loaded, nothing of it has run. */
SECTION("tp_btf/sched_process_exec")
int executed(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	u64 now = bpf_ktime_get_boot_ns();

	if (tell_arguments) {
		struct execution_with_arguments *whole = reserve(EXECUTED, sizeof(*whole), now);
		u64 begin, end, length;

		if (!whole)
			return 0;
		fill_execution(&whole->execution, task, now);
		begin = task->mm->arg_start;
		end = task->mm->arg_end;
		length = end > begin ? end - begin : 0;
		if (length > ARGUMENTS)
			length = ARGUMENTS;
		if (length && !bpf_probe_read_user(whole->arguments, length, (void *)begin))
			whole->execution.arguments_length = length;
		submit(whole);
	} else {
		struct execution *execution = reserve(EXECUTED, sizeof(*execution), now);

		if (!execution)
			return 0;
		fill_execution(execution, task, now);
		submit(execution);
	}
	return 0;
}

/* tp_btf/sched_process_exit(struct task_struct *p, ...) */
SECTION("tp_btf/sched_process_exit")
int exited(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct event *event;
	u64 now;

	if (task->signal->live.counter)
		return 0; /* other threads go on */
	now = bpf_ktime_get_boot_ns();
	event = reserve(EXITED, sizeof(*event), now);
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = EXITED;
	event->time = now;
	event->actor.pid = task->tgid;
	event->actor.start = start_of(task);
	submit(event);
	return 0;
}
