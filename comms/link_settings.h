/* link_settings: what the run file says about one worker's link, and the rows of its section. */
#ifndef ATOLL_COMMS_LINK_SETTINGS_H
#define ATOLL_COMMS_LINK_SETTINGS_H

#include <stdint.h>
#include "base/settings.h"

/* link: caps of one worker; 0 = unlimited. Node keys. */
struct link_options {
    uint64_t up_bytes_per_s;
    uint64_t down_bytes_per_s;
    uint64_t latency_us; /* the planner's input only */
};

enum { LINK_SETTINGS_ROWS = 3 };
extern const struct setting_row link_settings[LINK_SETTINGS_ROWS]; /* struct link_options */

#endif
