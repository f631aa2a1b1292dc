// SPDX-License-Identifier: GPL-2.0-or-later
// Every limit and default of the image pipeline, with its unit and its reason.
#ifndef VCD_PIPE_LIMITS_H
#define VCD_PIPE_LIMITS_H

#define PIPE_PIECE_MAX (16u << 10)    // bytes of a frame that travel together: a hop costs the time of one piece
#define PIPE_FRAME_CHUNKS 8u	      // chunks of a compressed frame; 512 KiB cost 8% more than one zstd stream, 64 KiB 17%
#define PIPE_ZSTD_LEVEL 3	      // faster than any wire that is worth compressing for
#define PIPE_SHRINK_PERCENT 95	      // of its raw size that a compressed frame may have at most; else it goes raw
#define PIPE_LIST_MAX (140u << 20)    // bytes of a chunk list with image.json: that of IMAGE_SIZE_MAX
#define PIPE_QUEUE_LOW (128u << 10)   // bytes queued to a successor below which chunks are read from disk for it
#define PIPE_QUEUE_HIGH (512u << 10)  // bytes queued from which arriving frames are not relayed: it gets them from disk later
#define PIPE_SOCKET_LOW (64u << 10)   // unsent bytes that the kernel holds per link: what waits there delays what is new
#define PIPE_BURST 28960u	      // bytes that the kernel may send as one large packet: 20 segments, which a shaper's usual bucket of 32 KiB takes whole
#define PIPE_READ_CHUNK (64u << 10)   // bytes of one read from a link
#define PIPE_READ_MS 25u	      // without a read after which a link is read although fewer bytes than expected are there
#define PIPE_MSG_OVERHEAD 42u	      // bytes of a piece besides its data: its type, two frames' headers, the seal
#define PIPE_READ_TURN (256u << 10)   // bytes read from one link before the others have their turn
#define PIPE_DOWNS_MAX 64u	      // successors of one image on one host; a chain has one, a broken one some
#define PIPE_TICK_MS 100u	      // a link that has nothing to say says so that often
#define PIPE_SILENCE_MS 350u	      // without a word from the predecessor after which it is probed
#define PIPE_PROBE_MS 400u	      // for its vcd to answer; both together make the 0.8 s in which a dead host is bypassed
#define PIPE_REACH_MS 1500	      // for a host that is asked for the first time to say HELLO: many begin at once
#define PIPE_CONNECT_MS 5000u	      // to authenticate with a host that answers; munge may be busy
#define PIPE_MUTE_MS 30000u	      // a predecessor that lives but sends nothing of the image is left after that
#define PIPE_SLOW_MS 3000u	      // over which a successor's rate is taken: its disk's and the wire's bursts are shorter
#define PIPE_RETRY_MS 200u	      // between two rounds of trying all hosts of the chain
#define PIPE_ORPHAN_MS 30000u	      // without any predecessor after which the transfer fails: a vcd restarts in a second
#define PIPE_ORPHAN_HOST_MS 30u	      // and for each host of the chain: a crowd begins one after another
#define PIPE_DEAD_MS 5000	      // unacknowledged bytes after which TCP gives a successor up
#define PIPE_LINGER_MS 2000u	      // a finished transfer without successors stays so long: the next one may be on its way
#define PIPE_BAD_MAX 8u		      // bad chunks from one predecessor after which it is left

#define PIPE_STACK (512u << 10)	      // bytes of a thread's stack; its largest buffers are of 64 KiB

#endif
