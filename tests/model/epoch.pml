/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The agreement of vcd/member/agree_*.c on one epoch, for spin: make model-check.
 *
 * Bounds: 3 hosts, all of them leaders (groups of one); 2 events, so that a change is 1 = {first}, 2 = {second}, 3 = {both}:
 * host 0 knows the first and perhaps the second, host 1 the other way round, host 2 any; BALLOTS ballots above 0, of different
 * hosts, in any overlap; one crash with restart at any point; one partition, of any one host, that begins and ends at any point
 * (not with NO_CUT).
 *
 * Messages are sets that only grow: what was sent may be read at any time, in any order, again, or never. So loss, delay,
 * reordering, repetition and further partitions are in it. A restarted host keeps what it wrote before it sent, and forgets that
 * it coordinated. A proposal carries the vote in ballot 0, which is written before; a promise tells the same vote, which cannot
 * change after it: both read fast[].
 *
 * Checked: all decisions are equal, and no vote is below an earlier one. FAST is the quorum of ballot 0: 3 of 3 is safe; with
 * -DFAST=2 spin must find the error, which shows that the model can fail.
 */
#ifndef FAST
#define FAST 3
#endif
#ifndef BALLOTS
#define BALLOTS 2
#endif
#define N 3
#define MAJORITY 2

byte knows[N];

/* written before anything is sent */
byte promised[N], fast[N], voted[N], vote[N];

/* sent; ballot b + 1 belongs to host b */
bool prepare[BALLOTS], promise[N * BALLOTS], accepted[N * BALLOTS];
byte told_voted[N * BALLOTS], told_vote[N * BALLOTS];
byte accept[BALLOTS];

/* volatile: 0: has not coordinated, 1: waits for promises, 2: for votes, 3: over */
byte phase[N];

byte decided = 0;
bool crashed = false, cut_once = false;
byte cut = N; /* the host that is apart; N: none */

#define REACHES(a, b) ((a) == (b) || ((a) != cut && (b) != cut))

inline decide(what)
{
	assert(decided == 0 || decided == what);
	decided = what
}

/* The promises that the coordinator can read; heard: bits by host */
inline choose_heard(who)
{
	heard = 0; n_heard = 0; k = 0;
	do
	:: k < N && promise[k * BALLOTS + who] && REACHES(who, k) -> heard = heard | (1 << k); n_heard++; k++
	:: k < N -> k++ /* or it has not come yet */
	:: k == N -> break
	od
}

inline find_voted(who)
{
	best = 0; change = 0; k = 0;
	do
	:: k < N ->
		if
		:: (heard & (1 << k)) && told_voted[k * BALLOTS + who] > best ->
			best = told_voted[k * BALLOTS + who]; change = told_vote[k * BALLOTS + who]
		:: else
		fi;
		k++
	:: else -> break
	od
}

inline find_fast()
{
	v = 1;
	do
	:: change == 0 && v <= 3 ->
		tally = N - n_heard; k = 0;
		do
		:: k < N ->
			if
			:: (heard & (1 << k)) && fast[k] == v -> tally++
			:: else
			fi;
			k++
		:: else -> break
		od;
		if
		:: tally >= FAST -> change = v
		:: else
		fi;
		v++
	:: else -> break
	od
}

inline count_equal(who)
{
	tally = 0; k = 0;
	do
	:: k < N ->
		if
		:: fast[k] == v && REACHES(who, k) -> tally++
		:: else
		fi;
		k++
	:: else -> break
	od
}

inline count_votes(who)
{
	tally = 0; k = 0;
	do
	:: k < N ->
		if
		:: accepted[k * BALLOTS + who] && REACHES(who, k) -> tally++
		:: else
		fi;
		k++
	:: else -> break
	od
}

inline promise_to(who, nr)
{
	promised[who] = nr + 1; promise[who * BALLOTS + nr] = true;
	told_voted[who * BALLOTS + nr] = voted[who]; told_vote[who * BALLOTS + nr] = vote[who]
}

inline vote_in(who, nr, what)
{
	assert(nr + 1 > voted[who] && nr + 1 >= promised[who]);
	promised[who] = nr + 1; voted[who] = nr + 1; vote[who] = what; accepted[who * BALLOTS + nr] = true
}

proctype host(byte me)
{
	byte heard, n_heard, best, change, tally, v, k, b;
	do
	/* ballot 0: one vote, not after a promise */
	:: d_step { fast[me] == 0 && promised[me] == 0 -> fast[me] = knows[me] }
	/* any leader that reads enough equal proposals decides */
	:: d_step { decided != 3 && (fast[0] | fast[1] | fast[2]) != 0 ->
		v = 1;
		do
		:: v <= 3 -> count_equal(me);
			if
			:: tally >= FAST -> decide(v)
			:: else
			fi;
			v++
		:: else -> break
		od;
		v = 0; tally = 0; k = 0 }
	/* coordinator */
	:: d_step { me < BALLOTS && phase[me] == 0 && promised[me] < me + 1 ->
		phase[me] = 1; prepare[me] = true; promise_to(me, me) }
	:: atomic { phase[me] == 1 && promised[me] != me + 1 -> phase[me] = 3 }
	:: atomic { phase[me] == 1 && promised[me] == me + 1 ->
		choose_heard(me);
		if
		:: n_heard >= MAJORITY ->
			find_voted(me); find_fast();
			if
			:: change == 0 -> change = knows[me]
			:: else
			fi;
			phase[me] = 2; accept[me] = change; vote_in(me, me, change)
		:: else
		fi;
		heard = 0; n_heard = 0; best = 0; change = 0; tally = 0; v = 0; k = 0 }
	:: d_step { phase[me] == 2 ->
		count_votes(me);
		if
		:: tally >= MAJORITY -> decide(accept[me]); phase[me] = 3
		:: else
		fi;
		tally = 0; k = 0 }
	/* voter */
	:: atomic { select(b : 0 .. BALLOTS - 1);
		if
		:: prepare[b] && promised[me] < b + 1 && REACHES(me, b) -> promise_to(me, b)
		:: accept[b] != 0 && voted[me] < b + 1 && promised[me] <= b + 1 && REACHES(me, b) -> vote_in(me, b, accept[b])
		:: else
		fi;
		b = 0 }
	/* what goes wrong */
	:: d_step { !crashed && (phase[me] == 1 || phase[me] == 2) -> crashed = true; phase[me] = 3 }
#ifndef NO_CUT
	:: d_step { !cut_once -> cut_once = true; cut = me }
	:: d_step { cut == me -> cut = N }
#endif
	od
}

init {
	atomic {
		if
		:: knows[0] = 1
		:: knows[0] = 3
		fi;
		if
		:: knows[1] = 2
		:: knows[1] = 3
		fi;
		if
		:: knows[2] = 1
		:: knows[2] = 2
		:: knows[2] = 3
		fi;
		run host(0); run host(1); run host(2)
	}
}
