/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The migration of one member between two hosts, as vcd/sharemove.c, sharecome.c and sharepost.c have it, for spin: make
 * model-check. docs/mobility.md says who decides.
 *
 * Each step is what one program does at once: libvirt and QEMU of the source, of the target, the source's vcd (a write to its
 * database is a step of its own), the target's. Any step may come late or, as a fault stops its program, never. FAULTS faults of
 * these kinds, at any point: the streams break (the network, or a vcd that dies with its relay), a vcd dies and starts again with
 * what it wrote, a host loses its power. A call between the vcds that is lost is one that is not made yet: all of them are repeated.
 *
 * Checked: the member never runs twice; where nothing is left to do it runs once, or it was said that it is lost.
 * BUG plants one of the errors below, each of which spin must find.
 */
#ifndef FAULTS
#define FAULTS 4
#endif
#ifndef BUG
#define BUG 0
#endif
#define RUN_ON_SILENCE 1   /* a copy that hears nothing runs, without asking */
#define NO_KILL 2	   /* the source decides without making sure that its own machine is dead */
#define PASS_ANY 3	   /* post-copy: libvirt's last word passes although the source has not switched */
#define RESUME_SWITCHED 4  /* post-copy: after a failure the source goes on */
#define DROP_UNASKED 5	   /* a copy that hears nothing is destroyed, without asking */

mtype = { HERE, LEAVING, THERE,		 /* written by the source */
	  NOT, COMING, CAME,		 /* written by the target */
	  RUNS, STOPPED, SWITCHED, DEAD, /* the source's machine; SWITCHED: stopped by post-copy */
	  NONE, PART, COMPLETE, COPY };	 /* the target's; COPY: it runs */

mtype sdisk = HERE, sdom = RUNS, tdisk = NOT, tdom = NONE;
bool post, stream, began, held, passes, whole, lost, decided, sup = 1, tup = 1, spower = 1, tpower = 1;
byte faults = FAULTS;

/* QEMU and libvirt break off; what came by half is destroyed, but where it runs already */
inline cut()
{
	stream = 0;
	held = 0;
	if
	:: tdom == PART -> tdom = NONE
	:: else
	fi
}

init
{
	if
	:: post = 0
	:: post = 1
	fi;
end:	do
	/* --- vcds: the beginning --- */
	:: atomic { sup && sdisk == HERE && !began && sdom == RUNS -> sdisk = LEAVING; began = 1 }
	:: atomic { sup && tup && sdisk == LEAVING && !stream && sdom == RUNS && tdisk == NOT && !decided -> tdisk = COMING }
	:: atomic { sup && tup && sdisk == LEAVING && !stream && sdom == RUNS && tdisk == COMING && tdom == NONE && !decided ->
		stream = 1; tdom = PART; decided = 1 }

	/* --- libvirt and QEMU --- */
	:: atomic { !post && stream && sdom == RUNS && tdom == PART -> sdom = STOPPED }
	:: atomic { !post && stream && sdom == STOPPED && tdom == PART -> tdom = COMPLETE }
	:: atomic { !post && stream && sdom == STOPPED && tdom == COMPLETE -> sdom = DEAD } /* its last step was answered */
	:: atomic { post && stream && sdom == RUNS && tdom == PART -> sdom = SWITCHED; held = 1 }
	:: atomic { post && stream && sdom == RUNS && tdom == PART -> sdom = STOPPED; held = 1 } /* it came to rest before */
	:: atomic { post && stream && passes && tdom == PART -> tdom = COPY; if :: sdom == STOPPED -> whole = 1 :: else fi }
	:: atomic { post && stream && tdom == COPY && sdom == SWITCHED -> whole = 1; sdom = DEAD }
	:: atomic { post && stream && tdom == COPY && sdom == STOPPED -> sdom = DEAD }
	:: atomic { !stream && sdom == STOPPED -> sdom = RUNS } /* it takes its last step for failed */
	:: atomic { BUG == RESUME_SWITCHED && !stream && sdom == SWITCHED -> sdom = RUNS }

	/* --- the source's vcd --- */
	:: atomic { sup && tup && !post && sdisk == LEAVING && tdom == COMPLETE && (sdom == STOPPED && stream) && BUG != NO_KILL -> sdom = DEAD }
	:: atomic { sup && tup && !post && sdisk == LEAVING && tdom == COMPLETE && sdom == STOPPED && BUG == NO_KILL -> sdisk = THERE }
	:: atomic { sup && sdisk == LEAVING && sdom == DEAD -> sdisk = THERE }
	:: atomic { sup && sdisk == LEAVING && sdom == SWITCHED -> sdisk = THERE }
	:: atomic { sup && sdisk == THERE && stream && held && sdom == SWITCHED -> held = 0; passes = 1 }
	:: atomic { sup && stream && held && BUG == PASS_ANY -> held = 0; passes = 1; sdisk = THERE }
	:: atomic { sup && sdisk == LEAVING && stream && held && sdom == STOPPED && BUG != PASS_ANY -> cut() }
	:: atomic { sup && sdisk == LEAVING && decided && !stream && sdom == RUNS -> sdisk = HERE }

	/* --- the target's: it is told, or it asks --- */
	:: atomic { sup && tup && sdisk == THERE && tdisk == COMING && tdom == COMPLETE -> tdom = COPY; whole = 1 }
	:: atomic { tup && tdisk == COMING && tdom == COPY -> tdisk = CAME }
	:: atomic { sup && tup && sdisk == THERE && tdisk != CAME && tdom == NONE && !lost -> lost = 1 }
	:: atomic { sup && tup && sdisk == HERE && tdisk == COMING && tdom != COPY -> tdom = NONE; tdisk = NOT }
	:: atomic { BUG == RUN_ON_SILENCE && tup && tdisk == COMING && tdom == COMPLETE && !stream -> tdom = COPY; whole = 1 }
	:: atomic { BUG == DROP_UNASKED && tup && tdisk == COMING && tdom == COMPLETE && !stream -> tdom = NONE; tdisk = NOT; if :: sdisk == THERE -> tdisk = CAME :: else fi }
	:: atomic { tup && !spower && tdom == COMPLETE && sdisk != THERE -> tdom = NONE; tdisk = NOT } /* the view calls it gone */

	:: atomic { tup && post && tdom == COPY && !stream && !whole -> tdom = NONE; tdisk = CAME; lost = 1 } /* torn: it is ended, and that is told */

	/* --- faults --- */
	:: atomic { faults > 0 && stream -> cut(); faults-- }
	:: atomic { faults > 0 && sup -> sup = 0; cut(); faults-- }
	:: atomic { faults > 0 && tup -> tup = 0; cut(); faults-- }
	:: atomic { !sup && spower -> sup = 1 }
	:: atomic { !tup && tpower -> tup = 1 }
	:: atomic { faults > 0 && spower && tpower -> faults--; spower = 0; sup = 0; cut(); sdom = DEAD; if :: tdom != COPY -> lost = 1 :: else fi }
	:: atomic { faults > 0 && spower && tpower -> faults--; tpower = 0; tup = 0; stream = 0; held = 0; if :: tdom == COPY || sdisk == THERE || sdom == SWITCHED || sdom == DEAD -> lost = 1 :: else fi; tdom = NONE }
	:: else -> assert(lost || sdom == RUNS || tdom == COPY); break
	od
}

active proctype watch()
{
	atomic { sdom == RUNS && tdom == COPY -> assert(false) }
}
