// SPDX-License-Identifier: MIT
/* The steering of one NIC, at tc on its wire and its bus.
 *
 * Decides: which frames are the NIC's own (an offloaded connection), and which pass between wire and bus.
 * Never touches: the records, other NICs.
 *
 *      wire --> wire_in --+-- ours -------> the NIC's TCP --> wire_out --+-- ours --> wire
 *                         +-- not ours ---> bus                          +-- else: dropped, counted
 *      bus ---> bus_in ---+-- ours -------> the NIC's TCP
 *                         +-- not ours ---> wire
 *
 * A NIC speaks only for the connections it holds: whatever else its TCP says (an RST for a frame that was on its way
 * while a context left, an ACK for data nobody read) is dropped at wire_out. That makes a move free of races.
 */
#include "clock.h"
#include "frame.h"

#include <linux/if_packet.h>

#define LEARN_EVERY 10000000 /* ns between two next hops that frames teach a connection */
#define MANY 256 /* connections whose doors are set at once */
#define FROM_BUS 0xb05 /* skb->mark of a frame that only passes through, bus to wire */

enum { WIRE_IN = 1, BUS_IN = 2, OUT = 4, ENDED = 8, NO_RST = 16 }; /* steering.py: Steer */

struct steer {
	__u32 allowed;
	__u8 next_hop[ETH_ALEN]; /* the neighbour travels with the context: the NIC's kernel need not resolve it */
	__u8 pad[6];
	__u64 frames_in, bytes_in, frames_out, bytes_out;
	__u64 last_seen; /* CLOCK_MONOTONIC, ns, up to two ticks of the kernel's old */
	__u64 learned;   /* when it learned its next hop from a frame */
};

struct new_hop { /* what the engine is told when a frame teaches another next hop */
	struct connection id;
	__u8 next_hop[ETH_ALEN];
	__u8 pad[2];
};

struct nic_ports {
	__u32 wire, bus; /* interface indexes */
	__u64 to_host, to_wire, own_in, own_out, silenced; /* frames */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct connection);
	__type(value, struct steer);
} offloads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nic_ports);
} nic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} new_hops SEC(".maps");

struct named { /* one of many connections whose doors are set at once; here, next_hop: as it was found */
	struct connection id;
	__u8 next_hop[ETH_ALEN];
	__u8 here;
	__u8 pad[5];
};

struct doors { /* of the first `count` of them: those of `keep` stay as they are, those of `open` are opened */
	__u32 count, keep, open;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MANY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct named);
} many SEC(".maps");

static __always_inline struct nic_ports *ports(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&nic, &zero);
}

/* The neighbour is whoever brings the frames: a router whose MAC changes is answered at its new one. The engine is told,
 * for other connections of this peer may be silent. Two routers that take turns do not keep everybody busy. */
static __always_inline void learn(struct steer *s, struct frame *f, __u64 now)
{
	if (s->learned && elapsed(s->learned, now) < LEARN_EVERY)
		return;
	s->learned = now;
	__builtin_memcpy(s->next_hop, f->peer_mac, ETH_ALEN);
	struct new_hop *out = bpf_ringbuf_reserve(&new_hops, sizeof(*out), 0);
	if (!out)
		return;
	__builtin_memcpy(&out->id, &f->id, sizeof(f->id));
	__builtin_memcpy(out->next_hop, f->peer_mac, ETH_ALEN);
	__builtin_memset(out->pad, 0, sizeof(out->pad));
	bpf_ringbuf_submit(out, 0);
}

static __always_inline bool take(struct __sk_buff *skb, struct nic_ports *p, __u32 door)
{
	struct frame f;
	if (!read_tcp(skb, &f, false))
		return false;
	struct steer *s = bpf_map_lookup_elem(&offloads, &f.id);
	if (!s || !(s->allowed & door))
		return false;
	/* A SYN opens a new connection, and only the host listens; one that the host sends on is ours all the same.
	 * When the old connection of that name has ended, what follows the SYN is the host's too. */
	if (door == WIRE_IN && (f.flags & (SYN | ACK)) == SYN) {
		if (s->allowed & ENDED)
			bpf_map_delete_elem(&offloads, &f.id);
		return false;
	}
	s->last_seen = last_tick();
	if (!same_mac(s->next_hop, f.peer_mac))
		learn(s, &f, s->last_seen);
	add(&s->frames_in, 1);
	add(&s->bytes_in, skb->len);
	add(&p->own_in, 1);
	return true;
}

SEC("tc") int wire_in(struct __sk_buff *skb)
{
	struct nic_ports *p = ports();
	if (!p)
		return TC_ACT_SHOT;
	if (skb->pkt_type == PACKET_OTHERHOST) /* flooded by the switch, for somebody else's MAC: no NIC takes it */
		return TC_ACT_SHOT;
	if (take(skb, p, WIRE_IN))
		return TC_ACT_OK;
	add(&p->to_host, 1);
	return bpf_redirect(p->bus, 0);
}

SEC("tc") int bus_in(struct __sk_buff *skb)
{
	struct nic_ports *p = ports();
	if (!p)
		return TC_ACT_SHOT;
	if (take(skb, p, BUS_IN))
		return TC_ACT_OK;
	add(&p->to_wire, 1);
	skb->mark = FROM_BUS;
	return bpf_redirect(p->wire, 0);
}

/* Written in place, for the helper that stores bytes takes half as long as reading the headers. TCP keeps the same frame
 * to send it again; in front of a program that writes, the kernel looks that the head is the frame's own, or copies it.
 * TCP's frames share their payload only: none of theirs is copied. */
static __always_inline int send_to(struct __sk_buff *skb, const __u8 *next_hop)
{
	struct ethhdr *eth = (void *)(long)skb->data;

	if ((void *)(eth + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	__builtin_memcpy(eth->h_dest, next_hop, ETH_ALEN);
	return TC_ACT_OK;
}

SEC("tc") int wire_out(struct __sk_buff *skb)
{
	struct nic_ports *p = ports();
	struct frame f;

	if (!p)
		return TC_ACT_SHOT;
	if (skb->mark == FROM_BUS)
		return TC_ACT_OK;
	if (read_tcp(skb, &f, true)) {
		struct steer *s = bpf_map_lookup_elem(&offloads, &f.id);
		if (s && s->allowed & OUT && !(s->allowed & NO_RST && f.flags & RST)) {
			add(&s->frames_out, 1);
			add(&s->bytes_out, skb->len);
			s->last_seen = last_tick();
			add(&p->own_out, 1);
			return send_to(skb, s->next_hop);
		}
	}
	add(&p->silenced, 1);
	return TC_ACT_SHOT;
}

SEC("syscall") int set_doors(struct doors *doors)
{
	__u32 count = doors->count, keep = doors->keep, open = doors->open;

	for (__u32 i = 0; i < MANY; i++) {
		__u32 at = i;
		struct named *one = i < count ? bpf_map_lookup_elem(&many, &at) : 0;
		if (!one)
			break;
		struct steer *s = bpf_map_lookup_elem(&offloads, &one->id);
		one->here = !!s;
		if (!s)
			continue;
		s->allowed = (s->allowed & keep) | open;
		__builtin_memcpy(one->next_hop, s->next_hop, ETH_ALEN);
	}
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
