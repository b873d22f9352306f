// SPDX-License-Identifier: MIT
/* The teaming software's frame path in the server: the records and blocks 402 to 414 of Figure 4.
 *
 * Decides: for each frame from a NIC, whether it goes up to the virtual NIC, on to the NIC that owns its connection,
 * or into the hold queue; for each frame to the network, which NIC takes it.
 * Never touches: sockets, contexts. What is to be done about a stray it only reports; host_agent/agent.py decides.
 *
 *   bus i --> bus_in --(Figure 4)--+--> team0 --> host_in --> the host's TCP
 *                                  +--> bus of the owner
 *                                  +--> hold (a tap the agent reads) --> hold_in --> bus of the owner, or team0
 *   the host's TCP --> team0 --> team_out --> bus of the record's NIC
 *
 * host_agent/decision.py makes the same decisions in plain Python; tests/kernel holds one against the other.
 */
#include "frame.h"

#include <linux/errno.h>

#define MAX_NICS 16
#define RELEASED 0x4e1 /* skb->mark of a frame that comes out of the hold queue */

enum stage { SETTLED, HELD, SILENT }; /* records.py: Stage */
enum block { BLOCK_404, BLOCK_408, BLOCK_412, BLOCK_414, BLOCKS };
enum report_kind { STRAY = 1, DUE = 2 }; /* records.py: ReportKind */

struct record {
	__u32 nic;
	__u8 offloaded; /* the offload flag */
	__u8 stage;
	__u8 due; /* the policy's threshold was passed and reported */
	__u8 pad;
	__u32 epoch; /* counts the moves of this connection */
	__u8 peer_mac[ETH_ALEN];
	__u8 pad2[2];
	__u8 pad3[4];
	__u64 created, last_seen, reported; /* CLOCK_MONOTONIC, ns */
	__u64 packets, bytes;               /* from the peer, as far as they came this way */
	__u64 bytes_out;                    /* from the host's TCP */
	__u64 strays;                       /* frames at block 414 */
	__u64 host_segments;                /* segments that went up into the host's TCP */
	__u64 silenced;                     /* segments of the host's TCP that were not its to send */
};

struct team {
	__u32 virtual_nic, hold; /* interface indexes */
	__u32 live_count;
	__u32 live[MAX_NICS];    /* NIC ids with carrier, dense */
	__u8 up[MAX_NICS];       /* by NIC id */
	__u32 bus[MAX_NICS];     /* interface index by NIC id */
	__u32 pad;
	__u64 offload_after;     /* bytes in both directions; ~0: never */
	__u64 report_every;      /* ns between two reports about one connection */
};

struct counts { /* frames, by the NIC they came in by */
	__u64 blocks[BLOCKS];
	__u64 other; /* not TCP */
	__u64 held, forwarded, up;
};

struct report {
	__u64 at; /* CLOCK_MONOTONIC, ns */
	struct connection id;
	__u32 kind, nic, epoch;
};

struct assignment { /* the context of the `assign` program */
	struct connection id;
	__u32 nic, epoch;
	__u8 offloaded, stage, bump, pad;
	__s32 result;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct connection);
	__type(value, struct record);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct team);
} team SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_NICS);
	__type(key, __u32); /* interface index of a bus */
	__type(value, __u32);
} nic_of_bus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_NICS);
	__type(key, __u32);
	__type(value, struct counts);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} reports SEC(".maps");

static __always_inline struct team *the_team(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&team, &zero);
}

static __always_inline void tell(struct connection *id, struct record *r, __u32 kind, __u32 nic, __u64 now)
{
	struct report *out = bpf_ringbuf_reserve(&reports, sizeof(*out), 0);
	if (!out)
		return; /* the agent is behind; the next frame tells again */
	out->at = now;
	__builtin_memcpy(&out->id, id, sizeof(*id));
	out->kind = kind;
	out->nic = nic;
	out->epoch = r->epoch;
	bpf_ringbuf_submit(out, 0);
}

static __always_inline void check_due(struct team *t, struct connection *id, struct record *r, __u64 now)
{
	if (!r->due && !r->offloaded && r->bytes + r->bytes_out >= t->offload_after) {
		r->due = 1;
		tell(id, r, DUE, r->nic, now);
	}
}

static __always_inline int to_bus(struct team *t, __u32 nic)
{
	return nic < MAX_NICS ? bpf_redirect(t->bus[nic], 0) : TC_ACT_SHOT;
}

SEC("tc") int bus_in(struct __sk_buff *skb)
{
	struct team *t = the_team();
	__u32 ifindex = skb->ifindex;
	__u32 *arrived = bpf_map_lookup_elem(&nic_of_bus, &ifindex);
	if (!t || !arrived)
		return TC_ACT_SHOT;
	__u32 nic = *arrived;
	struct counts *c = bpf_map_lookup_elem(&counters, &nic);
	struct frame f;
	if (!c)
		return TC_ACT_SHOT;
	if (!read_tcp(skb, &f, false)) {
		add(&c->other, 1);
		return bpf_redirect(t->virtual_nic, BPF_F_INGRESS);
	}
	__u64 now = bpf_ktime_get_ns();
	struct record *r = bpf_map_lookup_elem(&records, &f.id);
	if (!r) { /* 402, 404: no record. An RST ends a connection, it starts none. */
		add(&c->blocks[BLOCK_404], 1);
		if (!(f.flags & RST)) {
			struct record fresh = {.nic = nic, .created = now, .last_seen = now};
			fresh.packets = 1;
			fresh.bytes = skb->len;
			__builtin_memcpy(fresh.peer_mac, f.peer_mac, ETH_ALEN);
			bpf_map_update_elem(&records, &f.id, &fresh, BPF_NOEXIST);
		}
		goto up;
	}
	add(&r->packets, 1);
	add(&r->bytes, skb->len);
	r->last_seen = now;
	__builtin_memcpy(r->peer_mac, f.peer_mac, ETH_ALEN);
	if (r->nic == nic) { /* 406, 408: where the record says */
		add(&c->blocks[BLOCK_408], 1);
	} else if (!r->offloaded) { /* 410, 412: the host has it; learn the NIC */
		add(&c->blocks[BLOCK_412], 1);
		if (r->stage == SETTLED)
			r->nic = nic;
	} else { /* 410, 414: another NIC has it */
		add(&c->blocks[BLOCK_414], 1);
		add(&r->strays, 1);
		if (r->stage == SETTLED && now - r->reported >= t->report_every) {
			r->reported = now;
			tell(&f.id, r, STRAY, nic, now);
		}
	}
	if (r->stage != SETTLED) {
		add(&c->held, 1);
		return bpf_redirect(t->hold, 0);
	}
	if (r->offloaded) {
		/* A stray; or the owner itself sent it up, for its context has only just come. */
		add(&c->forwarded, 1);
		return to_bus(t, r->nic);
	}
	check_due(t, &f.id, r, now);
	if (f.flags & RST)
		bpf_map_delete_elem(&records, &f.id);
up:
	add(&c->up, 1);
	return bpf_redirect(t->virtual_nic, BPF_F_INGRESS);
}

/* The door of the host's TCP: a frame that was let up just before its connection was held or left does not get in. */
SEC("tc") int host_in(struct __sk_buff *skb)
{
	struct team *t = the_team();
	struct frame f;
	if (!t)
		return TC_ACT_SHOT;
	if (!read_tcp(skb, &f, false))
		return TC_ACT_OK;
	struct record *r = bpf_map_lookup_elem(&records, &f.id);
	if (!r)
		return TC_ACT_OK;
	if (r->stage != SETTLED && skb->mark != RELEASED)
		return bpf_redirect(t->hold, 0);
	if (r->offloaded)
		return to_bus(t, r->nic);
	add(&r->host_segments, 1);
	return TC_ACT_OK;
}

SEC("tc") int hold_in(struct __sk_buff *skb)
{
	struct team *t = the_team();
	struct frame f;
	if (!t || !read_tcp(skb, &f, false))
		return TC_ACT_SHOT;
	struct record *r = bpf_map_lookup_elem(&records, &f.id);
	if (r && r->offloaded)
		return to_bus(t, r->nic);
	skb->mark = RELEASED;
	return bpf_redirect(t->virtual_nic, BPF_F_INGRESS);
}

SEC("tc") int team_out(struct __sk_buff *skb)
{
	struct team *t = the_team();
	struct frame f;
	if (!t)
		return TC_ACT_SHOT;
	if (read_tcp(skb, &f, true)) {
		struct record *r = bpf_map_lookup_elem(&records, &f.id);
		if (r) {
			if (r->offloaded || r->stage == SILENT) {
				add(&r->silenced, 1);
				return TC_ACT_SHOT;
			}
			add(&r->bytes_out, skb->len);
			check_due(t, &f.id, r, bpf_ktime_get_ns());
			__u32 nic = r->nic;
			if (f.flags & RST)
				bpf_map_delete_elem(&records, &f.id);
			if (nic < MAX_NICS && t->up[nic])
				return bpf_redirect(t->bus[nic], 0);
		}
	}
	if (t->live_count == 0 || t->live_count > MAX_NICS)
		return TC_ACT_SHOT;
	__u32 i = bpf_get_hash_recalc(skb) % t->live_count;
	return i < MAX_NICS ? to_bus(t, t->live[i]) : TC_ACT_SHOT;
}

/* The agent's hand on a record: its NIC, flag and stage change in place, while frames go on counting in it. */
SEC("syscall") int assign(struct assignment *a)
{
	struct connection id = a->id;
	struct record *r = bpf_map_lookup_elem(&records, &id);
	if (!r) {
		a->result = -ENOENT;
		return 0;
	}
	if (r->epoch != a->epoch) {
		a->result = -ESTALE;
		return 0;
	}
	r->nic = a->nic;
	r->offloaded = a->offloaded;
	r->stage = a->stage;
	if (a->bump)
		r->epoch++;
	a->result = 0;
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
