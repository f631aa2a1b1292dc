// SPDX-License-Identifier: GPL-2.0-or-later
// One lease: a host that a further Slurm job of the owner brings to a running cluster. A pure table of states.
//
// What slurmctld says of the lease's job (enum lease_slurm) meets each state in one table, lease_on_slurm(); what happens
// elsewhere (enum lease_event) in another, lease_on_event(). The result is the next state and what has to be done, in this
// order: the caller saves the state first, then acts, so that a crash between the two repeats an action and never loses one.
#ifndef VCD_ELASTIC_LEASE_H
#define VCD_ELASTIC_LEASE_H

#include <stdbool.h>

enum lease_state {
	LEASE_WANTED,	  // no job yet
	LEASE_SUBMITTED,  // a submission is under way, or was when the controller died
	LEASE_PENDING,	  // its job waits in Slurm's queue
	LEASE_JOINING,	  // its job has a host: image, network, machine, then a new view
	LEASE_HELD,	  // its host's members are in the view
	LEASE_RECLAIMING, // the host goes by the deadline: members migrate or leave the view
	LEASE_RELEASING,  // no member is left; its job is told to end
	LEASE_ENDED,	  // with a reason
	LEASE_STATES
};

enum lease_slurm {
	LEASE_JOB_UNKNOWN,	 // a complete answer of slurmctld does not name it
	LEASE_JOB_PENDING,	 // for resources or priority
	LEASE_JOB_LIMITED,	 // pending for a limit of an association, QOS or partition, or a partition that is down
	LEASE_JOB_ON_HOLD,	 // by user or administrator
	LEASE_JOB_NEVER,	 // pending, and cannot start: bad constraints, QOS denied
	LEASE_JOB_REQUEUED,	 // pending again, after it had run
	LEASE_JOB_CONFIGURING,
	LEASE_JOB_RUNNING,
	LEASE_JOB_ENDING_SOON,	 // running; its end time has come near: preemption, or its time limit
	LEASE_JOB_SUSPENDED,	 // or stopped: others use its host
	LEASE_JOB_COMPLETING,
	LEASE_JOB_COMPLETED,
	LEASE_JOB_CANCELLED,
	LEASE_JOB_FAILED,	 // also out of memory, launch failure
	LEASE_JOB_TIMEOUT,	 // also DEADLINE
	LEASE_JOB_NODE_FAIL,	 // also BOOT_FAIL
	LEASE_JOB_PREEMPTED,
	LEASE_JOB_REVOKED,	 // a federation's sibling started elsewhere
	LEASE_JOBS
};

enum lease_event {
	LEASE_EV_ACCEPTED,     // slurmctld took the job
	LEASE_EV_REFUSED,      // it did not: MaxSubmit, QOS, partition down, account gone
	LEASE_EV_NO_ANSWER,    // nobody knows: only a complete list of jobs will tell
	LEASE_EV_JOINED,       // members are in the view
	LEASE_EV_JOIN_FAILED,
	LEASE_EV_RECLAIM,      // by the policy, `vcctl resize`, or SIGTERM of its step
	LEASE_EV_EMPTY,	       // no member is on its host any more
	LEASE_EV_DEADLINE,     // of the reclaim
	LEASE_EV_HOST_LOST,    // the host is dead
	LEASE_EV_CLUSTER_GONE, // its cluster has ended
	LEASE_EVENTS
};

enum lease_end {
	LEASE_END_NONE,
	LEASE_END_RELEASED,	// given back
	LEASE_END_REFUSED,	// slurmctld refused the job
	LEASE_END_NEVER,	// its job could not ever start
	LEASE_END_CANCELLED,	// by somebody else
	LEASE_END_FAILED,	// its job, or the way into the cluster
	LEASE_END_TIMEOUT,
	LEASE_END_NODE_FAIL,
	LEASE_END_PREEMPTED,
	LEASE_END_VANISHED,	// slurmctld does not know its job any more
	LEASE_END_CLUSTER_GONE, // started after its primary ended, or held when it did
	LEASE_ENDS
};

// What has to be done, several at once, in this order.
#define LEASE_DROP 0x1	 // the lease's members out of the view now: by the lease, as its host may be another's already
#define LEASE_SUBMIT 0x2 // a job
#define LEASE_CANCEL 0x4 // its job
#define LEASE_JOIN 0x8	 // its host through ensure, boot and a new view
#define LEASE_DRAIN 0x10 // its members migrate, or leave, by the deadline

struct lease_step {
	enum lease_state next;
	unsigned todo;
	enum lease_end end; // why, where this step decides it
	bool valid;	    // false: cannot happen; the step changes nothing
};

struct lease_step lease_on_slurm(enum lease_state state, enum lease_slurm job);
struct lease_step lease_on_event(enum lease_state state, enum lease_event event);

// The job holds a host, or may.
bool lease_job_live(enum lease_slurm job);
const char *lease_state_name(enum lease_state state);
const char *lease_slurm_name(enum lease_slurm job);
const char *lease_end_name(enum lease_end end);

#endif
