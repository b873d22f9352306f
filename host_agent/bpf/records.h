/* SPDX-License-Identifier: MIT */
/* The shapes of the records, of the team's settings, and of what is told about them.
 *
 * Decides: nothing. host_agent/records.py has the same layouts, host_agent/decision.py the same words; tests/kernel
 * compares them.
 */
#ifndef TEAMBED_RECORDS_H
#define TEAMBED_RECORDS_H

#include "frame.h"

#define MAX_NICS 16
#define MAX_INTERFACES 4096 /* that the server ever had */

enum stage { SETTLED, HELD, SILENT }; /* decision.py: Stage */
enum block { BLOCK_404, BLOCK_408, BLOCK_412, BLOCK_414, BLOCKS };
enum action { UP, FORWARD, HOLD }; /* decision.py: Action, in this order */
enum closed_by { BY_PEER = 1, BY_HOST, BY_REUSE }; /* decision.py: By */
enum fins { PEER_FIN = 1, HOST_FIN = 2, PEER_FIN_ACKED = 4, HOST_FIN_ACKED = 8 }; /* decision.py: Fins */
enum report_kind { STRAY = 1, DUE, TRACE, CLOSED, FULL, NEW_HOP }; /* records.py: ReportKind */
enum { CLEAR, SET, KEEP }; /* what an assignment does to a flag */

struct record {
	__u32 nic;
	__u8 offloaded; /* the offload flag */
	__u8 stage;
	__u8 due;     /* the policy's threshold was passed and reported */
	__u8 closing; /* its TCP is done with it, TIME-WAIT aside: a SYN begins another connection */
	__u32 epoch;  /* counts the moves of this connection */
	__u8 peer_mac[ETH_ALEN];
	__u8 fins; /* ends of stream that the host's TCP got, sent and knows acknowledged */
	__u8 pad;
	__u32 forwarded;                 /* strays of this epoch */
	__u32 peer_fin, host_fin;        /* sequence numbers just behind the FINs */
	__u64 created, last_seen;        /* CLOCK_MONOTONIC, ns; last_seen is up to two of the kernel's ticks old */
	__u64 reported;                  /* the last stray that was told, or next hop */
	__u64 first_stray;               /* of this epoch */
	__u64 packets, bytes;            /* from the peer, as far as they came this way */
	__u64 bytes_out;                 /* from the host's TCP */
	__u64 strays;                    /* frames at block 414 */
	__u64 host_segments;             /* segments that went up into the host's TCP */
	__u64 silenced;                  /* segments of the host's TCP that were not its to send */
};

struct threshold { /* when a connection is due for a NIC: at so many bytes in both directions, or so old */
	__u64 after_bytes; /* ~0: never */
	__u64 after_ns;    /* 0: never */
};

struct service { /* a port of the team's */
	struct threshold offload;
	__u32 own_rule; /* or the team's holds */
	__u32 pad;
};

struct team {
	__u32 virtual_nic, hold; /* interface indexes */
	__u32 live_count;
	__u32 live[MAX_NICS];    /* NIC ids with carrier, dense */
	__u8 up[MAX_NICS];       /* by NIC id */
	__u32 bus[MAX_NICS];     /* interface index by NIC id */
	__u32 trace;             /* tell the block of every frame */
	struct threshold offload;
	__u64 report_every;      /* ns between two reports about one connection */
	__u64 stray_after;       /* ns since an epoch's first stray until one is told; 0: only their number counts */
	__u32 stray_frames;      /* strays of an epoch until one is told */
	__u32 pad;
};

struct counts { /* frames, by the NIC they came in by */
	__u64 blocks[BLOCKS];
	__u64 other; /* not TCP: up, or of the wire itself (LACP) */
	__u64 held, forwarded, up;
	__u64 unrecorded; /* of a new connection, when the records were full */
	__u64 told_full;  /* when that was told last */
};

struct report {
	__u64 at; /* CLOCK_MONOTONIC, ns */
	struct connection id;
	__u32 kind, nic, epoch;
	__u32 seq, ack, payload; /* of the frame, host byte order */
	__u8 flags, block, action, by;
};

struct assignment { /* what a record becomes, if it is still of that epoch */
	struct connection id;
	__u32 nic, epoch;
	__u8 offloaded, stage, bump;
	__u8 due, closing; /* CLEAR, SET or KEEP */
	__u8 fins;         /* beside those that are known */
	__u8 pad[2];
};

#define ASSIGNMENTS 64

struct assignments { /* the context of the `assign` program */
	__u64 at;    /* where the caller's memory has them */
	__u64 stale; /* a bit for each whose record is gone, or of another epoch */
	__u32 count; /* at most ASSIGNMENTS */
	__u32 pad;
};

#endif
