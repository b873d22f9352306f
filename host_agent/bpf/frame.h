/* What a frame says about its TCP connection, and the shapes that user space shares with the programs.
 *
 * Decides: whether a frame belongs to a TCP connection, and which. Never touches: maps, verdicts, the frame itself.
 *
 * A connection identifier is always written as the peer sees it sent: src is the peer, dst the team's virtual NIC.
 * IPv4 addresses are held as ::ffff:a.b.c.d (RFC 4291 2.5.5.2), so one key serves both families.
 * host_agent/connection.py and host_agent/records.py have the same layouts; tests/kernel compares them.
 */
#ifndef TEAMBED_FRAME_H
#define TEAMBED_FRAME_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct connection {
	__u8 src[16];
	__u8 dst[16];
	__be16 sport;
	__be16 dport;
};

enum { FIN = 0x01, SYN = 0x02, RST = 0x04, ACK = 0x10 };

struct frame {
	struct connection id;
	__u32 seq, ack, payload; /* host byte order; bytes of TCP payload */
	__u8 peer_mac[ETH_ALEN]; /* aligned for same_mac() */
	__u8 flags;              /* the TCP flags byte */
};

struct ports_and_flags { /* the first 14 bytes of a TCP header (RFC 9293, 3.1) */
	__be16 source, dest;
	__be32 seq, ack;
	__u8 offset, flags;
} __attribute__((packed));

static __always_inline void map_ipv4(__u8 *to, __be32 address)
{
	__builtin_memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	__builtin_memcpy(to + 12, &address, 4);
}

/* Reads a frame that came from the peer (outbound = false), or one that goes to it (true: then both ends are swapped,
 * so that the same connection has the same identifier). False for whatever is not the head of a TCP segment:
 * other protocols, later fragments, IPv6 extension headers. */
static __always_inline bool read_tcp(struct __sk_buff *skb, struct frame *f, bool outbound)
{
	struct connection id;
	struct ports_and_flags *tcp;
	__u32 total, head; /* bytes of IP datagram, and of it before the TCP header */
	const long need = sizeof(struct ethhdr) + 60 + sizeof(*tcp); /* 60: IPv4 with all its options */

	long have = (void *)(long)skb->data_end - (void *)(long)skb->data;
	if (have < need && have < skb->len)
		bpf_skb_pull_data(skb, skb->len < need ? skb->len : need);
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	if ((void *)(eth + 1) > end)
		return false;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_TCP || ip->ihl < 5 ||
		    ip->frag_off & bpf_htons(0x1fff))
			return false;
		map_ipv4(id.src, ip->saddr);
		map_ipv4(id.dst, ip->daddr);
		total = bpf_ntohs(ip->tot_len);
		head = ip->ihl * 4;
		tcp = (void *)ip + head;
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end || ip->nexthdr != IPPROTO_TCP)
			return false;
		__builtin_memcpy(id.src, &ip->saddr, 16);
		__builtin_memcpy(id.dst, &ip->daddr, 16);
		head = sizeof(*ip);
		total = ip->payload_len ? bpf_ntohs(ip->payload_len) + head : 0;
		tcp = (void *)(ip + 1);
	} else {
		return false;
	}
	if ((void *)(tcp + 1) > end)
		return false;
	if (!total) /* more than 64 KiB in one piece (BIG TCP): then nothing was padded either */
		total = skb->len - sizeof(*eth);
	head += (tcp->offset >> 4) * 4;
	f->payload = total > head ? total - head : 0;
	f->seq = bpf_ntohl(tcp->seq);
	f->ack = bpf_ntohl(tcp->ack);
	f->flags = tcp->flags;
	if (outbound) {
		__builtin_memcpy(f->id.src, id.dst, 16);
		__builtin_memcpy(f->id.dst, id.src, 16);
		f->id.sport = tcp->dest;
		f->id.dport = tcp->source;
		__builtin_memcpy(f->peer_mac, eth->h_dest, ETH_ALEN);
	} else {
		__builtin_memcpy(f->id.src, id.src, 16);
		__builtin_memcpy(f->id.dst, id.dst, 16);
		f->id.sport = tcp->source;
		f->id.dport = tcp->dest;
		__builtin_memcpy(f->peer_mac, eth->h_source, ETH_ALEN);
	}
	return true;
}

/* A segment that opens a connection: SYN and nothing that answers. */
static __always_inline bool opens(const struct frame *f)
{
	return (f->flags & (SYN | ACK | RST)) == SYN;
}

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	return *(__u32 *)a == *(__u32 *)b && *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

/* Counts from several CPUs at once. */
static __always_inline void add(__u64 *counter, __u64 n)
{
	__sync_fetch_and_add(counter, n);
}

#endif
