/* plots: gnuplot scripts over the CSV files of csv.h, and the SVG and PNG that they make. A script stands beside its data and can be
 * run again by hand (`gnuplot NAME.gp` in that directory), so that every picture can be restyled. */
#ifndef ATOLL_EXPERIMENTS_PLOTS_H
#define ATOLL_EXPERIMENTS_PLOTS_H

#include "experiments/csv.h"

enum { PLOTS_MAX = 2 + 2 * RUN_DATA_RUNS_MAX, PLOTS_WORKERS_MAX = 12 };

struct plot {
    char name[CSV_STEM_BYTES + 16]; /* of NAME.gp, NAME.svg, NAME.png */
    char title[256];
};
struct plot_list {
    struct plot plots[PLOTS_MAX];
    int count;
};

/* plots_write: the scripts, and what they are, into `directory`, where csv_write has been. A figure without data is left out.
 * STATUS_IO. */
MUST_USE enum status plots_write(const struct run_set *set, const char *directory, struct plot_list *list,
                                 struct error *error);

/* plots_draw: run gnuplot on each script. STATUS_NOT_FOUND: there is no gnuplot; STATUS_IO: it failed; the text says what to do. */
MUST_USE enum status plots_draw(const struct plot_list *list, const char *directory, struct error *error);

#endif
