/* reset_fragment: an island's answer to OFFER_REFUSED_NOT_FINITE and OFFER_REFUSED_NORM: what it trained into the fragment since its last
 * counted send is thrown away, and training goes on from the outer copy.
 *
 *   theta = g;   e = 0;   moments 0 where one of the two is not finite
 *
 * Finite moments stay: they are the island's own, and weigh less with each step. Both moments of a parameter go together: a first
 * moment left over a second one of 0 would make a step without bound. */
#ifndef ATOLL_WORKER_RESET_FRAGMENT_H
#define ATOLL_WORKER_RESET_FRAGMENT_H

#include "outer/fragments.h"

/* reset_fragment: g (fragment->count,) the fragment's place in the packed outer copy, borrowed; residual (fragment->count,) packed as well.
 * theta, moment1, moment2 are blocks of the tensor table, written in the fragment's spans only. Not overlapping. One pass, no
 * allocation. Returns how many parameters lost their moments, for the log. To be called by the thread that trains, between two
 * steps; the caller drops the record in flight (and its pending residual), and tells the sync machine to drop the tokens. */
size_t reset_fragment(const struct fragment *fragment, const float *g, float *theta, float *residual, float *moment1,
                      float *moment2);

#endif
