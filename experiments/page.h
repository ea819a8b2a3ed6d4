/* page: index.html of a report: the table and the SVG figures in one file that needs nothing else. */
#ifndef ATOLL_EXPERIMENTS_PAGE_H
#define ATOLL_EXPERIMENTS_PAGE_H

#include "experiments/plots.h"

/* page_write: DIRECTORY/index.html from the numbers and from the SVG that plots_draw made. A missing SVG is said in its place.
 * STATUS_IO, STATUS_NO_MEMORY. */
MUST_USE enum status page_write(const struct run_set *set, const struct plot_list *list, const char *directory,
                                struct error *error);

#endif
