// SPDX-License-Identifier: MIT
/* The teaming software's frame path in the server: the records and blocks 402 to 414 of Figure 4.
 *
 * Decides: for each frame from a NIC, whether it goes up to the virtual NIC, on to the NIC that owns its connection,
 * or into the hold queue; for each frame to the network, which NIC takes it.
 * Never touches: sockets, contexts. What is to be done about a stray it only reports; host_agent/agent.py decides.
 *
 *   bus i --> bus_in --(Figure 4)--+--> team0 --> host_in --> the host's TCP
 *                                  +--> the agent's socket on bus i (LACP)
 *                                  +--> bus of the owner
 *                                  +--> hold (a tap the agent reads) --> hold_in --> bus of the owner, or team0
 *   the host's TCP --> team0 --> team_out --> bus of the record's NIC
 *
 * host_agent/decision.py makes the same decisions in plain Python; tests/kernel holds one against the other.
 */
#include "clock.h"
#include "records.h"

#include <linux/errno.h>

#define REPORTS_SIZE (1 << 20)
#define RELEASED 0x4e1 /* skb->mark of a frame that comes out of the hold queue */
#define FIRST_DUE 3 /* the peer's frame that can make its connection due: the first behind the handshake */

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

/* What every frame asks for lies in arrays: a hash lookup costs as much as half of reading the headers. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_INTERFACES);
	__type(key, __u32); /* interface index of a bus */
	__type(value, __u32); /* NIC id + 1 */
} nic_of_bus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_NICS);
	__type(key, __u32);
	__type(value, struct counts);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32); /* the team's port */
	__type(value, struct service);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, REPORTS_SIZE);
} reports SEC(".maps");

static __always_inline struct team *the_team(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&team, &zero);
}

/* What is told about a frame, beside the connection and the NIC. */
struct told {
	__u32 kind, epoch;
	__u8 block, action, by;
};

static __always_inline void tell(struct frame *f, __u32 nic, struct told what)
{
	/* Traces may fill one half of the ring only: what the agent must know always has room before them. */
	if (what.kind == TRACE && bpf_ringbuf_query(&reports, BPF_RB_AVAIL_DATA) > REPORTS_SIZE / 2)
		return;
	struct report *out = bpf_ringbuf_reserve(&reports, sizeof(*out), 0);
	if (!out)
		return; /* the agent is behind; the next frame tells again */
	out->at = bpf_ktime_get_ns();
	__builtin_memcpy(&out->id, &f->id, sizeof(f->id));
	out->kind = what.kind;
	out->nic = nic;
	out->epoch = what.epoch;
	out->seq = f->seq;
	out->ack = f->ack;
	out->payload = f->payload;
	out->flags = f->flags;
	out->block = what.block;
	out->action = what.action;
	out->by = what.by;
	bpf_ringbuf_submit(out, 0);
}

/* A handshake's frames make nothing due: what is held of them lets the application meet its clients in another order. */
static __always_inline void check_due(struct team *t, struct frame *f, struct record *r)
{
	if (r->due || r->offloaded || r->closing || r->stage != SETTLED)
		return;
	if (r->packets < FIRST_DUE || f->flags & SYN)
		return;
	__u32 port = bpf_ntohs(f->id.dport);
	struct service *own = bpf_map_lookup_elem(&services, &port);
	struct threshold *rule = own && own->own_rule ? &own->offload : &t->offload;
	if (r->bytes + r->bytes_out >= rule->after_bytes ||
	    (rule->after_ns && bpf_ktime_get_ns() - r->created >= rule->after_ns)) {
		r->due = 1;
		tell(f, r->nic, (struct told){.kind = DUE, .epoch = r->epoch});
	}
}

static __always_inline bool ended(struct record *r)
{
	return (r->fins & (PEER_FIN_ACKED | HOST_FIN_ACKED)) == (PEER_FIN_ACKED | HOST_FIN_ACKED);
}

/* Follows the ends of both streams of a connection of the host's; both acknowledged, its TCP is done with it. */
static __always_inline void note_fins(struct record *r, struct frame *f, bool from_peer)
{
	__u8 mine = from_peer ? PEER_FIN : HOST_FIN, other = from_peer ? HOST_FIN : PEER_FIN;
	if (f->flags & SYN) { /* an end that was seen before was another connection's */
		r->fins = 0;
		if (from_peer && opens(f))
			r->closing = 0;
		return;
	}
	if (f->flags & FIN) {
		r->fins |= mine;
		*(from_peer ? &r->peer_fin : &r->host_fin) = f->seq + f->payload + 1;
	}
	if (f->flags & ACK && r->fins & other &&
	    (__s32)(f->ack - (from_peer ? r->host_fin : r->peer_fin)) >= 0)
		r->fins |= other << 2;
	if (ended(r))
		r->closing = 1;
}

/* Block 414: whether this stray is told. The first ones of an epoch may be late, or a flap of the switch's. */
static __always_inline bool stray_is_told(struct team *t, struct record *r, __u64 now)
{
	__sync_fetch_and_add(&r->forwarded, 1);
	if (r->forwarded == 1)
		r->first_stray = now;
	if (r->closing || elapsed(r->reported, now) < t->report_every)
		return false;
	if (r->forwarded < t->stray_frames && !(t->stray_after && elapsed(r->first_stray, now) >= t->stray_after))
		return false;
	r->reported = now;
	return true;
}

/* Of the host's connections it is told, for NICs may have silent ones of the same peer; a NIC tells of its own. Two
 * routers that take turns do not keep the agent busy: it is only learned when it can be told. */
static __always_inline void learn_hop(struct team *t, struct frame *f, struct record *r)
{
	if (!r->offloaded) {
		__u64 now = bpf_ktime_get_ns();

		if (now - r->reported < t->report_every)
			return;
		r->reported = now;
	}
	__builtin_memcpy(r->peer_mac, f->peer_mac, ETH_ALEN);
	if (!r->offloaded)
		tell(f, r->nic, (struct told){.kind = NEW_HOP, .epoch = r->epoch});
}

/* LACP and its like (802.1AX) speak of one wire and are the agent's, whose socket on the bus has them next: decision.py,
 * of_the_wire(). */
static __always_inline bool of_the_wire(struct __sk_buff *skb)
{
	__be16 to[3]; /* 01:80:c2:00:00:02 */

	if (skb->protocol != bpf_htons(ETH_P_SLOW) || bpf_skb_load_bytes(skb, 0, to, sizeof(to)))
		return false;
	return to[0] == bpf_htons(0x0180) && to[1] == bpf_htons(0xc200) && to[2] == bpf_htons(0x0002);
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
	__u32 from = *arrived - 1, nic = from; /* 0 - 1: no NIC's, so there are no counters */
	struct counts *c = bpf_map_lookup_elem(&counters, &nic);
	struct frame f;
	if (!c)
		return TC_ACT_SHOT;
	if (!read_tcp(skb, &f, false)) {
		add(&c->other, 1);
		if (of_the_wire(skb))
			return TC_ACT_OK;
		return bpf_redirect(t->virtual_nic, BPF_F_INGRESS);
	}
	struct record *r = bpf_map_lookup_elem(&records, &f.id);
	__u32 epoch = 0;
	__u8 block, action;
	bool reused = r && r->closing && r->stage == SETTLED && opens(&f);
	if (!r || reused) { /* 402, 404: no record. An RST ends a connection, it starts none. */
		__u64 now = bpf_ktime_get_ns();
		struct record fresh = {.nic = nic, .created = now, .last_seen = now};
		fresh.packets = 1;
		fresh.bytes = skb->len;
		__builtin_memcpy(fresh.peer_mac, f.peer_mac, ETH_ALEN);
		block = BLOCK_404;
		action = UP;
		if (reused) {
			/* The epoch counts on: nothing that was decided about the old connection fits the new one. */
			epoch = r->epoch;
			tell(&f, r->nic, (struct told){.kind = CLOSED, .epoch = epoch, .by = BY_REUSE});
			fresh.epoch = ++epoch;
			*r = fresh;
		} else if (!(f.flags & RST)) {
			long error = bpf_map_update_elem(&records, &f.id, &fresh, BPF_NOEXIST);
			if (error && error != -EEXIST) {
				add(&c->unrecorded, 1);
				if (now - c->told_full >= t->report_every) {
					c->told_full = now;
					tell(&f, nic, (struct told){.kind = FULL});
				}
			}
		}
		goto decided;
	}
	epoch = r->epoch;
	add(&r->packets, 1);
	add(&r->bytes, skb->len);
	__u64 now = last_tick();
	r->last_seen = now;
	if (!same_mac(r->peer_mac, f.peer_mac))
		learn_hop(t, &f, r);
	if (r->nic == nic) { /* 406, 408: where the record says */
		block = BLOCK_408;
	} else if (!r->offloaded) { /* 410, 412: the host has it; learn the NIC */
		block = BLOCK_412;
		if (r->stage == SETTLED)
			r->nic = nic;
	} else { /* 410, 414: another NIC has it */
		block = BLOCK_414;
		add(&r->strays, 1);
		if (r->stage == SETTLED && stray_is_told(t, r, now))
			tell(&f, nic,
			     (struct told){.kind = STRAY, .epoch = epoch, .block = block, .action = FORWARD});
	}
	if (r->stage != SETTLED) {
		action = HOLD;
	} else if (r->offloaded) {
		/* A stray; or the owner itself sent it up, for its context has only just come.
		 * An RST is its owner's to judge (RFC 9293, 3.10.7.4); the engine tells when it was good. */
		action = FORWARD;
		nic = r->nic;
	} else {
		action = UP;
		if (f.flags & RST) {
			tell(&f, from, (struct told){.kind = CLOSED, .epoch = epoch, .by = BY_PEER});
			bpf_map_delete_elem(&records, &f.id);
		} else {
			check_due(t, &f, r);
		}
	}
decided:
	if (t->trace)
		tell(&f, from, (struct told){.kind = TRACE, .epoch = epoch, .block = block, .action = action});
	add(&c->blocks[block], 1);
	switch (action) {
	case HOLD:
		add(&c->held, 1);
		return bpf_redirect(t->hold, 0);
	case FORWARD:
		add(&c->forwarded, 1);
		return to_bus(t, nic);
	default:
		add(&c->up, 1);
		return bpf_redirect(t->virtual_nic, BPF_F_INGRESS);
	}
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
	note_fins(r, &f, true);
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
		if (r && r->closing && r->stage == SETTLED && opens(&f)) { /* the host itself calls with an old identifier */
			tell(&f, r->nic, (struct told){.kind = CLOSED, .epoch = r->epoch, .by = BY_REUSE});
			bpf_map_delete_elem(&records, &f.id);
		} else if (r) {
			/* Both streams ended, an RST is only the kernel's answer to what came late: the socket is gone. */
			if (r->offloaded || r->stage == SILENT || (f.flags & RST && ended(r))) {
				add(&r->silenced, 1);
				return TC_ACT_SHOT;
			}
			add(&r->bytes_out, skb->len);
			note_fins(r, &f, false);
			__u32 nic = r->nic;
			if (f.flags & RST) {
				if (!r->closing || r->stage == SETTLED)
					tell(&f, nic, (struct told){.kind = CLOSED, .epoch = r->epoch, .by = BY_HOST});
				if (r->stage == SETTLED)
					bpf_map_delete_elem(&records, &f.id);
				else /* the move under way still needs it */
					r->closing = 1;
			} else {
				check_due(t, &f, r);
			}
			if (nic < MAX_NICS && t->up[nic])
				return bpf_redirect(t->bus[nic], 0);
		}
	}
	if (t->live_count == 0 || t->live_count > MAX_NICS)
		return TC_ACT_SHOT;
	__u32 i = bpf_get_hash_recalc(skb) % t->live_count;
	return i < MAX_NICS ? to_bus(t, t->live[i]) : TC_ACT_SHOT;
}

/* The agent's hand on records: NIC, flag and stage change in place, while frames go on counting in them. */
static __always_inline bool assigned(const struct assignment *a)
{
	struct record *r = bpf_map_lookup_elem(&records, &a->id);

	if (!r || r->epoch != a->epoch)
		return false;
	r->nic = a->nic;
	r->offloaded = a->offloaded;
	r->stage = a->stage;
	if (a->due != KEEP)
		r->due = a->due;
	if (a->closing != KEEP)
		r->closing = a->closing;
	r->fins |= a->fins;
	if (a->bump) {
		r->epoch++;
		r->forwarded = 0;
	}
	return true;
}

SEC("syscall") int assign(struct assignments *all)
{
	__u64 at = all->at, stale = 0;
	__u32 count = all->count;
	struct assignment a;

	for (__u32 i = 0; i < ASSIGNMENTS; i++) {
		if (i >= count)
			break;
		if (bpf_copy_from_user(&a, sizeof(a), (void *)(at + i * sizeof(a))) || !assigned(&a))
			stale |= 1ULL << i;
	}
	all->stale = stale;
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
