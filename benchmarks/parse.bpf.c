/* SPDX-License-Identifier: MIT */
/* The least that a program of the frame path must do: it reads the same headers, by the same code, and nothing else.
 *
 * Decides: nothing. Never touches: maps. The peer of every program in the benchmark frame_path.
 */
#include "frame.h"

static __always_inline int parse(struct __sk_buff *skb, bool outbound)
{
	struct frame f;
	bool is_tcp = read_tcp(skb, &f, outbound);
	/* The compiler must believe that every field is wanted. */
	asm volatile("" ::"r"(&f) : "memory");
	return is_tcp ? TC_ACT_OK : TC_ACT_SHOT;
}

SEC("tc") int inbound(struct __sk_buff *skb)
{
	return parse(skb, false);
}

SEC("tc") int outbound(struct __sk_buff *skb)
{
	return parse(skb, true);
}

char _license[] SEC("license") = "Dual MIT/GPL";
