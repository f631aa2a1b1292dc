// SPDX-License-Identifier: GPL-2.0-or-later
// Mean, bands and gate: see smooth.h.
#include "vcd/elastic/smooth.h"

void smooth_add(struct smooth *s, int64_t sample, int64_t now_ms, int64_t rise_ms, int64_t fall_ms)
{
	if (s->at_ms < 0) {
		*s = (struct smooth){sample, now_ms};
		return;
	}
	int64_t elapsed = now_ms - s->at_ms, constant = sample > s->value ? rise_ms : fall_ms;
	s->at_ms = now_ms;
	if (elapsed <= 0)
		return;
	// value += (sample - value) * elapsed / (elapsed + constant): an implicit step, stable for any elapsed; the last
	// thousandth is taken too, so that a steady load is reached
	int64_t step = (int64_t)((__int128)(sample - s->value) * elapsed / (elapsed + constant));
	if (step == 0 && sample != s->value)
		step = sample > s->value ? 1 : -1;
	s->value += step;
}

void smooth_since(int64_t *since_ms, bool holds, int64_t now_ms)
{
	if (!holds)
		*since_ms = -1;
	else if (*since_ms < 0)
		*since_ms = now_ms;
}

bool smooth_lasted(int64_t since_ms, int64_t hold_ms, int64_t now_ms)
{
	return since_ms >= 0 && now_ms - since_ms >= hold_ms;
}

static int direction_of(enum gate_change change)
{
	return change == GATE_GROW || change == GATE_RESTORE ? 1 : -1;
}

static bool is_reversal(const struct gate *g, enum gate_change change)
{
	return g->direction != 0 && g->direction != direction_of(change);
}

static int recent_reversals(const struct gate *g, int64_t cool_down_ms, int64_t now_ms)
{
	int n = 0;
	for (int i = 0; i < GATE_REVERSALS; i++)
		n += g->reversed_ms[i] >= 0 && now_ms - g->reversed_ms[i] < cool_down_ms;
	return n;
}

bool gate_allows(const struct gate *g, enum gate_change change, int64_t cool_down_ms, int64_t now_ms)
{
	int reversals = recent_reversals(g, cool_down_ms, now_ms) + is_reversal(g, change);
	switch (change) {
	case GATE_GROW:
		return reversals < GATE_REVERSALS;
	case GATE_RESTORE:
		return reversals <= GATE_REVERSALS;
	case GATE_SHRINK:
		return g->direction == 0 || now_ms - g->changed_ms >= cool_down_ms;
	case GATE_FORCED:
		return true;
	}
	return false;
}

void gate_note(struct gate *g, enum gate_change change, int64_t now_ms)
{
	if (is_reversal(g, change)) {
		for (int i = GATE_REVERSALS - 1; i > 0; i--)
			g->reversed_ms[i] = g->reversed_ms[i - 1];
		g->reversed_ms[0] = now_ms;
	}
	g->direction = direction_of(change);
	g->changed_ms = now_ms;
}
