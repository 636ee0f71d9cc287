/* SPDX-License-Identifier: MIT */
#ifndef NPU_IGT_H
#define NPU_IGT_H

/*
 * What these tests use of libigt (igt-gpu-tools 2.5), declared here because
 * distributions ship the library without its headers. Inside an IGT tree
 * "igt.h" is that tree's own, and the same .c files build unchanged.
 */

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#ifndef IGT_LOG_DOMAIN
#define IGT_LOG_DOMAIN NULL
#endif

#define IGT_EXIT_SKIP		77
#define IGT_EXIT_SUCCESS	0
#define IGT_EXIT_FAILURE	98

struct option;
typedef int (*igt_opt_handler_t)(int opt, int opt_index, void *data);

extern jmp_buf igt_subtest_jmpbuf;
extern jmp_buf igt_dynamic_jmpbuf;

int igt_subtest_init_parse_opts(int *argc, char **argv, const char *short_opts,
				const struct option *long_opts, const char *help,
				igt_opt_handler_t handler, void *data);
__attribute__((noreturn)) void igt_exit(void);

bool __igt_fixture(void);
void __igt_fixture_complete(void);
bool __igt_run_subtest(const char *name, const char *file, const int line);
bool __igt_enter_dynamic_container(void);
bool __igt_run_dynamic_subtest(const char *name);
void igt_success(void);

__attribute__((format(printf, 1, 2)))
void igt_describe_f(const char *fmt, ...);
__attribute__((noreturn, format(printf, 6, 7)))
void __igt_fail_assert(const char *domain, const char *file, const int line,
		       const char *func, const char *assertion,
		       const char *format, ...);
__attribute__((noreturn, format(printf, 5, 6)))
void __igt_skip_check(const char *file, const int line, const char *func,
		      const char *check, const char *format, ...);

enum igt_log_level {
	IGT_LOG_DEBUG,
	IGT_LOG_INFO,
	IGT_LOG_WARN,
	IGT_LOG_CRITICAL,
	IGT_LOG_NONE,
};

__attribute__((format(printf, 3, 4)))
void igt_log(const char *domain, enum igt_log_level level, const char *format, ...);

bool __igt_fork(void);
int __igt_waitchildren(void);
void igt_waitchildren(void);
void igt_kill_children(int signal);

void igt_drop_root(void);
void igt_set_timeout(unsigned int seconds, const char *op);
void igt_reset_timeout(void);

typedef void (*igt_exit_handler_t)(int sig);
void igt_install_exit_handler(igt_exit_handler_t fn);

#define igt_paste_(a, b)	a ## b
#define igt_paste(a, b)		igt_paste_(a, b)
#define igt_local(name)		igt_paste(igt_ ## name ## _, __LINE__)

#define IGT_TEST_DESCRIPTION(text) const char *__igt_test_description = text

/* Used as "int igt_main() { ... }". */
#define igt_main() \
	igt_main_follows(void); \
	static void igt_body(void); \
	int main(int argc, char **argv) \
	{ \
		igt_subtest_init_parse_opts(&argc, argv, NULL, NULL, NULL, NULL, NULL); \
		igt_body(); \
		igt_exit(); \
	} \
	static void igt_body(void)

#define igt_fixture() \
	for (volatile int igt_local(once) = 0; \
	     !igt_local(once) && __igt_fixture() && !sigsetjmp(igt_subtest_jmpbuf, 1); \
	     igt_local(once) = 1, __igt_fixture_complete())

#define igt_subtest(name) \
	for (; __igt_run_subtest((name), __FILE__, __LINE__) && \
	       !sigsetjmp(igt_subtest_jmpbuf, 1); igt_success())

#define igt_subtest_f(fmt...) \
	for (char igt_local(name)[256]; \
	     snprintf(igt_local(name), sizeof(igt_local(name)), fmt), \
	     __igt_run_subtest(igt_local(name), __FILE__, __LINE__) && \
	     !sigsetjmp(igt_subtest_jmpbuf, 1); igt_success())

#define igt_subtest_with_dynamic(name) \
	for (; __igt_run_subtest((name), __FILE__, __LINE__) && \
	       __igt_enter_dynamic_container() && \
	       !sigsetjmp(igt_subtest_jmpbuf, 1); igt_success())

#define igt_dynamic(name) \
	for (; __igt_run_dynamic_subtest((name)) && \
	       !sigsetjmp(igt_dynamic_jmpbuf, 1); igt_success())

#define igt_describe(text) igt_describe_f("%s", text)

/* Each child runs the block and exits with 0, or with a failed assertion's code. */
#define igt_fork(child, count) \
	for (int child = 0; child < (count); child++) \
		for (; __igt_fork(); exit(0))

#define igt_debug(f...)	igt_log(IGT_LOG_DOMAIN, IGT_LOG_DEBUG, f)
#define igt_info(f...)	igt_log(IGT_LOG_DOMAIN, IGT_LOG_INFO, f)
#define igt_warn(f...)	igt_log(IGT_LOG_DOMAIN, IGT_LOG_WARN, f)

#define igt_fail_here_(text, f...) \
	__igt_fail_assert(IGT_LOG_DOMAIN, __FILE__, __LINE__, __func__, text, f)

#define igt_assert(expr) \
	do { \
		if (!(expr)) \
			igt_fail_here_(#expr, NULL); \
	} while (0)

#define igt_assert_f(expr, f...) \
	do { \
		if (!(expr)) \
			igt_fail_here_(#expr, f); \
	} while (0)

#define igt_compare_(type, fmt, a, op, not_op, b) \
	do { \
		type igt_a_ = (a), igt_b_ = (b); \
		if (!(igt_a_ op igt_b_)) \
			igt_fail_here_(#a " " #op " " #b, "error: " fmt " " #not_op " " fmt "\n", \
				       igt_a_, igt_b_); \
	} while (0)

#define igt_assert_eq(a, b)	igt_compare_(int, "%d", a, ==, !=, b)
#define igt_assert_neq(a, b)	igt_compare_(int, "%d", a, !=, ==, b)
#define igt_assert_lt(a, b)	igt_compare_(int, "%d", a, <, >=, b)
#define igt_assert_lte(a, b)	igt_compare_(int, "%d", a, <=, >, b)
#define igt_assert_eq_u32(a, b)	igt_compare_(uint32_t, "%#x", a, ==, !=, b)
#define igt_assert_neq_u32(a, b) igt_compare_(uint32_t, "%#x", a, !=, ==, b)
#define igt_assert_eq_u64(a, b)	igt_compare_(unsigned long long, "%#llx", a, ==, !=, b)
#define igt_assert_neq_u64(a, b) igt_compare_(unsigned long long, "%#llx", a, !=, ==, b)
#define igt_assert_lt_u64(a, b)	igt_compare_(unsigned long long, "%#llx", a, <, >=, b)
#define igt_assert_lte_u64(a, b) igt_compare_(unsigned long long, "%#llx", a, <=, >, b)
#define igt_assert_fd(fd)	igt_assert_f((fd) >= 0, "file descriptor " #fd " failed\n")

#define igt_require(expr) \
	do { \
		if (!(expr)) \
			__igt_skip_check(__FILE__, __LINE__, __func__, #expr, NULL); \
	} while (0)

#define igt_require_f(expr, f...) \
	do { \
		if (!(expr)) \
			__igt_skip_check(__FILE__, __LINE__, __func__, #expr, f); \
	} while (0)

#endif /* NPU_IGT_H */
