// SPDX-License-Identifier: MIT
/* Tells that the wire of a NIC is about to lose its carrier: the interrupt of the emulated PHY.
 *
 * A wire is a veth pair. When its far end is closed, that end's queue is emptied, and next, in the same call, this end
 * loses its carrier; rtnetlink tells of it only behind a work item, an RCU grace period and a wake-up.
 *
 * Decides: nothing. Never touches: the device. What rtnetlink then says of the carrier holds.
 */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#define LINK_STATE_START 1 /* __LINK_STATE_START is bit 0: cleared as the first thing when a device is closed */
#define NETDEV_ALIGN 32

/* As the kernel has them; offsets are those of the kernel that loads this. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct ns_common {
	unsigned int inum;
};
struct net {
	struct ns_common ns;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct net_device {
	unsigned long state;
	int ifindex;
	possible_net_t nd_net;
	__u8 priv[];
};
struct netdev_queue {
	struct net_device *dev;
};
struct Qdisc {
	struct netdev_queue *dev_queue;
};
struct veth_priv {
	struct net_device *peer;
};
#pragma clang attribute pop

struct wire {
	__u32 netns; /* inode number of its network namespace */
	__s32 index;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct wire);
	__type(value, __u32); /* NIC id */
} wires SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} lost SEC(".maps"); /* NIC ids */

static __always_inline struct net_device *peer_of(struct net_device *dev)
{
	struct net_device *peer = NULL;
	unsigned int priv;

	if (bpf_core_field_exists(dev->priv)) /* Linux 6.10 and later */
		priv = bpf_core_field_offset(struct net_device, priv);
	else
		priv = (bpf_core_type_size(struct net_device) + NETDEV_ALIGN - 1) & ~(NETDEV_ALIGN - 1);
	bpf_probe_read_kernel(&peer, sizeof(peer), (void *)dev + priv + bpf_core_field_offset(struct veth_priv, peer));
	return peer;
}

SEC("tp_btf/qdisc_reset") int BPF_PROG(closing, struct Qdisc *queue)
{
	struct net_device *far = queue->dev_queue->dev, *near;
	struct wire wire = {};
	__u32 *nic;

	if (far->state & LINK_STATE_START)
		return 0;
	near = peer_of(far);
	if (!near || peer_of(near) != far) /* it is no veth */
		return 0;
	wire.netns = BPF_CORE_READ(near, nd_net.net, ns.inum);
	wire.index = BPF_CORE_READ(near, ifindex);
	nic = bpf_map_lookup_elem(&wires, &wire);
	if (nic)
		bpf_ringbuf_output(&lost, nic, sizeof(*nic), 0);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
