// SPDX-License-Identifier: MIT
/* Goes through the records inside the kernel and gives out those that may be too old: to copy all of them out of it
 * takes most of a second, of a million.
 *
 * Decides: which may be, by host_agent/ageing.py's may_be_old(); what is really removed is decided there. And which may
 * be of a flood: after thousands of new connections those that have gone on need not be copied either.
 * Never touches: the records.
 */
#include "records.h"

#define SLICE 8192

struct seq_file;

/* As the kernel has them (include/linux/bpf.h, kernel/bpf/map_iter.c); in no header of its interface. */
struct bpf_iter_meta {
	__bpf_md_ptr(struct seq_file *, seq);
	__u64 session_id, seq_num;
};

struct bpf_iter__bpf_map_elem {
	__bpf_md_ptr(struct bpf_iter_meta *, meta);
	__bpf_md_ptr(struct bpf_map *, map);
	__bpf_md_ptr(struct connection *, key);
	__bpf_md_ptr(struct record *, value);
};

struct asked {
	__u64 since, closed_since; /* the latest last_seen that is given out, and that of closed connections */
	__u32 left;		   /* elements until the next pause */
	__u32 half_open;	   /* of these only what flood.py's is_half_open() means */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct asked);
} asked SEC(".maps");

SEC("iter/bpf_map_elem") int quiet(struct bpf_iter__bpf_map_elem *on)
{
	struct connection *id = on->key;
	struct record *r = on->value;
	__u32 zero = 0;
	struct asked *a = bpf_map_lookup_elem(&asked, &zero);

	if (!id || !r || !a)
		return 0;
	if (!a->left) { /* read(2) ends here, and the next one begins here */
		a->left = SLICE;
		return 1;
	}
	a->left--;
	if (r->stage != SETTLED || r->last_seen > (r->closing ? a->closed_since : a->since))
		return 0;
	if (a->half_open && (r->packets > 1 || r->offloaded))
		return 0;
	bpf_seq_write(on->meta->seq, id, sizeof(*id));
	bpf_seq_write(on->meta->seq, r, sizeof(*r));
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
