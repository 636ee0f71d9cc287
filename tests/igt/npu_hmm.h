/* SPDX-License-Identifier: MIT */
#ifndef NPU_HMM_H
#define NPU_HMM_H

#include <sys/mman.h>

#include "npu_svm.h"

/*
 * The scenarios of the kernel's tools/testing/selftests/mm/hmm-tests.c, by the same names, on a
 * device instead of lib/test_hmm.c: jobs read and write, DRM_IOCTL_NPU_PREFETCH migrates, query_range
 * takes the snapshots. What each of them does otherwise stands in
 * Documentation/gpu/gmem_vm/hmm-tests.rst.
 */
#define HMM_BUFFER_SIZE	(1024ull << 12)
#define HMM_TIMES	10

#define HMM_TEST(name, test)	{ name, "hmm-tests.c: " name, test }

/* Two clients: of two devices where there are two, else of the same one. */
struct hmm2 {
	struct svm s[2];
	bool same;
};

static inline void hmm2_open(struct hmm2 *h)
{
	h->same = npu_devices() < 2;
	for (int i = 0; i < 2; i++)
		svm_init(&h->s[i], svm_open_device(i));
	igt_info("two clients of %s\n", h->same ? "one NPU" : "two NPUs");
}

static inline void hmm2_close(struct hmm2 *h)
{
	svm_close(&h->s[0]);
	svm_close(&h->s[1]);
}

#endif /* NPU_HMM_H */
