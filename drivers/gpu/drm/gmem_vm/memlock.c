// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What users have locked is inline and has no binding: for kapi/memlock.rs.
 */

#include <linux/cred.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>

struct user_struct *gmem_vm_memlock_user(void);
unsigned long gmem_vm_memlock_limit(void);
bool gmem_vm_memlock_charge(struct user_struct *user, unsigned long pages, unsigned long limit);
void gmem_vm_memlock_uncharge(struct user_struct *user, unsigned long pages);

/* A reference to the user of this process. */
struct user_struct *gmem_vm_memlock_user(void)
{
	return get_uid(current_user());
}

/* Bytes. */
unsigned long gmem_vm_memlock_limit(void)
{
	return rlimit(RLIMIT_MEMLOCK);
}

/* As io_uring and iommufd do. */
bool gmem_vm_memlock_charge(struct user_struct *user, unsigned long pages, unsigned long limit)
{
	unsigned long now = atomic_long_read(&user->locked_vm), new;

	do {
		if (check_add_overflow(now, pages, &new) || new > limit)
			return false;
	} while (!atomic_long_try_cmpxchg(&user->locked_vm, &now, new));
	return true;
}

void gmem_vm_memlock_uncharge(struct user_struct *user, unsigned long pages)
{
	atomic_long_sub(pages, &user->locked_vm);
}
