/* said: a child's stderr.log, followed for the lines of one kind that a person should hear of while it runs. */
#ifndef ATOLL_EXPERIMENTS_SAID_H
#define ATOLL_EXPERIMENTS_SAID_H

#include <stdint.h>

enum { SAID_LINE_BYTES = 1024 };

struct said {
    char path[4096];
    uint64_t offset;            /* of what is not read yet */
    char line[SAID_LINE_BYTES]; /* so far without its end */
    uint64_t length;            /* of the line, which is cut where it is longer than its place */
    char newest[SAID_LINE_BYTES];
};

/* Whatever the file holds now was said before. It may not be there yet. */
void said_open(struct said *said, const char *path);

/* Read what was added: the newest whole line with `marker` in it, from there on. NULL: there is none. Valid until the next call. */
const char *said_newest(struct said *said, const char *marker);

#endif
