/* SPDX-License-Identifier: MIT */
/* The time of the kernel's last tick.
 *
 * Decides: nothing. Never touches: frames, records.
 *
 * Reading the exact clock takes as long as reading the headers, and asking the kernel for its last tick half of that.
 * The count of ticks is one load; so each CPU asks once a tick, and for the other frames it knows. A CPU that sees the
 * count before the kernel has set the time keeps the one before: what this gives is up to two ticks old.
 */
#ifndef TEAMBED_CLOCK_H
#define TEAMBED_CLOCK_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct tick {
	__u64 jiffies, at; /* CLOCK_MONOTONIC, ns */
};

struct { /* of each CPU: nothing interrupts a program at tc that would read it as well */
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tick);
} ticks SEC(".maps");

static __always_inline __u64 last_tick(void)
{
	__u32 zero = 0;
	__u64 jiffies = bpf_jiffies64();
	struct tick *known = bpf_map_lookup_elem(&ticks, &zero);

	if (!known)
		return bpf_ktime_get_coarse_ns();
	if (known->jiffies != jiffies) {
		known->jiffies = jiffies;
		known->at = bpf_ktime_get_coarse_ns();
	}
	return known->at;
}

/* `now` may be the kernel's last tick, and `then` a time that was read exactly, or another CPU's tick. */
static __always_inline __u64 elapsed(__u64 then, __u64 now)
{
	return now > then ? now - then : 0;
}

#endif
