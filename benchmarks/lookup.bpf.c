/* SPDX-License-Identifier: MIT */
/* The least that finding something of one connection among many can cost: the headers are read, then memory that no
 * cache has. The sequence number says which; nothing is hashed or compared but where a name says so.
 *
 *   one_line     an array of cache lines: one line, whose address is known at once
 *   two_lines    a bucket that names its element, and the element: what a hash table has to read at least
 *   least_entry  the kernel's own hash map, with the smallest key and value it can have
 *
 * Decides: nothing. Peers in the benchmark frame_path of what grows with the number of records.
 */
#include "frame.h"

struct element {
	__u64 frames;
	__u8 rest[56]; /* a cache line has 64 bytes */
};

struct bucket { /* as large as the kernel's */
	__u32 element;
	__u8 rest[12];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct element);
} elements SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u64);
} entries SEC(".maps");

static __always_inline bool which(struct __sk_buff *skb, __u32 *index)
{
	struct frame f;
	bool is_tcp = read_tcp(skb, &f, false);
	asm volatile("" ::"r"(&f) : "memory"); /* as in parse.bpf.c */
	*index = f.seq;
	return is_tcp;
}

static __always_inline int count(__u64 *frames)
{
	if (!frames)
		return TC_ACT_SHOT;
	add(frames, 1);
	return TC_ACT_OK;
}

SEC("tc") int one_line(struct __sk_buff *skb)
{
	__u32 index;

	return which(skb, &index) ? count(bpf_map_lookup_elem(&elements, &index)) : TC_ACT_SHOT;
}

SEC("tc") int two_lines(struct __sk_buff *skb)
{
	__u32 index;
	struct bucket *bucket = which(skb, &index) ? bpf_map_lookup_elem(&buckets, &index) : 0;

	if (!bucket)
		return TC_ACT_SHOT;
	index = bucket->element;
	return count(bpf_map_lookup_elem(&elements, &index));
}

SEC("tc") int least_entry(struct __sk_buff *skb)
{
	__u32 index;

	return which(skb, &index) ? count(bpf_map_lookup_elem(&entries, &index)) : TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual MIT/GPL";
