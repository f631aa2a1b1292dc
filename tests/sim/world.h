// SPDX-License-Identifier: GPL-2.0-or-later
// Deterministic simulator of one cluster's membership: hosts that run the very code of vcd/member, a network between them, a
// witness, and a checker that sees everything. All of a run follows from its seed: world.c is the machine, faults.c what goes
// wrong in it, check.c what must hold.
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "vcd/member/agree_wire.h"
#include "vcd/member/site.h"

#define MS 1000ull	   // world time is in microseconds
#define SECOND 1000000ull
#define HOSTS_MAX 200	   // joiners included
#define JOINERS 16	   // that there are; in a crowd 100
#define CROWD 100
#define REUSES_MAX 512	   // removals that the checker follows
#define EPOCHS_MAX 4096

enum fault_class { // what the issue lists, one bit each
	F_LOSS, F_DELAY, F_REORDER, F_ONE_WAY, F_CRASH, F_CRASH_AT_STEP, F_POWER, F_WITNESS_CRASH, F_CONTROLLER_AWAY,
	F_PARTITION, F_EVEN_SPLIT, F_PAUSE, F_CLOCK_RATE, F_JOIN, F_LEAVE, F_GUEST_EVENTS, F_DECLARED_DOWN, F_REPEAT,
	F_CLASSES
};
extern const char *const fault_names[F_CLASSES];

enum item_kind { ITEM_MSG, ITEM_DGRAM, ITEM_TICK, ITEM_CLOSED, ITEM_FAULT, ITEM_RESTART, ITEM_CHECK };

struct dgram {
	uint32_t from, to, subject;
	enum detect_out_kind kind;
	bool ask;
};

struct item {
	uint64_t at, seq;
	enum item_kind kind;
	uint32_t host;
	unsigned run; // of the host's process: a tick of an earlier one is void
	union {
		struct agree_msg *msg;
		struct dgram dgram;
		uint32_t number;
	};
};

struct sim_part {
	uint8_t *bytes;
	size_t len;
};

struct sim_host {
	bool exists, powered, running, wants_in, leaving;
	unsigned run;
	uint64_t paused_until;
	double rate; // of its clock
	struct site *site;
	struct agree *agree; // the site's only cluster
	struct agree_durable disk; // what was written
	struct agree_record record;
	struct sim_part parts[2], safe[2]; // its bytes, whole and step; and those that a loss of power leaves
	uint32_t crash_in;     // outputs until it crashes; 0: does not
	bool crash_on_install; // or right after its next install, before it tells anybody
	uint64_t crash_for;
	uint64_t tick_at, ask_in_at;
	uint64_t installed; // epoch of the last install
	uint64_t valid_until, valid_incarnation; // world time, as its guests believe
	uint32_t part;
};

struct reuse { // an address of what was removed serves again from `at` on
	uint32_t host;
	uint64_t incarnation, at;
};

struct stats {
	uint64_t steps, messages, installs, fast, ballots, runs, by_class[F_CLASSES];
	uint64_t sent[AGREE_TYPES];
};

struct world {
	uint64_t seed, random, now, seq;
	int bug;
	bool verbose;
	struct agree_times times;
	struct item *heap;
	uint32_t n_items, items_room;
	struct sim_host hosts[HOSTS_MAX];
	uint32_t n, n_first;	  // hosts with joiners, hosts of view 1
	uint64_t last_at[HOSTS_MAX + 1][HOSTS_MAX + 1]; // deliveries in order; the last is the witness
	bool cut[HOSTS_MAX + 1][HOSTS_MAX + 1];
	double loss, repeat;
	uint64_t delay_min, delay_max;
	bool reorder, quiet, last, storm, crowd; // a crowd: 100 joins at once
	uint32_t witness_part;
	bool witness_up;
	struct agree_witness witness, witness_disk;
	unsigned classes; // bits
	uint64_t quiet_at;
	// the checker
	uint8_t digests[EPOCHS_MAX][HOSTVIEW_DIGEST_LEN];
	bool decided[EPOCHS_MAX];
	struct reuse reuses[REUSES_MAX];
	uint32_t n_reuses;
	uint64_t settled_ms; // after quiet
	char failure[256];   // "": none yet
	struct stats stats;
};

// world.c
uint64_t world_random(struct world *w, uint64_t below); // 0 .. below - 1
double world_chance(struct world *w);
void world_create(struct world *w, uint64_t seed, int bug);
void world_clear(struct world *w);
void world_at(struct world *w, uint64_t at, enum item_kind kind, uint32_t host, uint32_t number);
bool world_step(struct world *w); // false: nothing more happens
uint64_t world_local(const struct world *w, const struct sim_host *h);		    // ms of its clock
uint64_t world_of_local(const struct sim_host *h, uint64_t local_ms);		    // and back
void host_start(struct world *w, uint32_t i);
void host_crash(struct world *w, uint32_t i, bool power); // power: its kernel and guests too
void host_after(struct world *w, uint32_t i); // carries out what its modules want

// faults.c
void faults_plan(struct world *w);
void faults_happen(struct world *w, uint32_t number);
void faults_end(struct world *w); // heals all, restarts all
void faults_last(struct world *w);

// check.c
void check_fail(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void check_disk(struct world *w, uint32_t i, const struct agree_durable *next); // before it is written
void check_power_loss(struct world *w, uint32_t i, const struct agree_durable *left);
void check_install(struct world *w, uint32_t i, const struct hostview *old);
void check_valid(struct world *w, uint32_t i);
bool check_settled(struct world *w);

// One run; failure text in w->failure.
void run_seed(struct world *w, uint64_t seed, int bug, bool verbose);

#endif
