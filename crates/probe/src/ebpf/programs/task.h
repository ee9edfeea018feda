/* Who is running: a process by its group leader, because a thread's name and start are not the
 * process'. */
#pragma once
#include "event.h"

INLINE u64 start_of(struct task_struct *task)
{
	return task->group_leader->start_boottime;
}

INLINE u64 current_start(void)
{
	return start_of(bpf_get_current_task_btf());
}

enum { PF_KTHREAD = 0x00200000 };

INLINE int is_kernel_thread(void)
{
	return !!(bpf_get_current_task_btf()->flags & PF_KTHREAD);
}

INLINE u32 current_pid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

INLINE void fill_actor(struct actor *actor)
{
	struct task_struct *leader = bpf_get_current_task_btf()->group_leader;

	actor->pid = current_pid();
	actor->uid = bpf_get_current_uid_gid();
	actor->start = leader->start_boottime;
	actor->cgroup = bpf_get_current_cgroup_id();
	bpf_probe_read_kernel(actor->comm, sizeof(actor->comm), leader->comm);
}
